"""The README.md beside exported files: a card of ours is made anew with each export, any other file is left alone.

A card ends with a mark: the run, and a checksum of the text before it. So one that somebody has edited is theirs.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from llm_datagen.errors import StreamExistsError
from llm_datagen.errors.advice import advice
from llm_datagen.runs.card import UNKNOWN_LICENSE
from llm_datagen.streams.outputs import Target, place_of
from llm_datagen.streams.outputs.paths import joined

NAME = "README.md"

_MARK = "\n<!-- card of the run {} by llm-datagen, check {:08x}: once this file is edited, no export changes it -->\n"
_MARKED = re.compile(re.escape(_MARK).replace(r"\{\}", "(.+)").replace(r"\{:08x\}", "([0-9a-f]{8})"))
_LICENSE = re.compile(r"^license: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CardFile:
    """Where the card of a run goes, and what is there.

    Attributes:
        path: the path of the file.
        run: the run.
        data: what is there; None when there is none.
    """

    path: str
    run: str
    data: bytes | None

    @classmethod
    def beside(cls, target: Target, run: str) -> CardFile:
        """Return where the card of an export goes. Nothing is touched.

        Args:
            target: where the export goes; an absolute path.
            run: the id of the run.
        """
        path = joined(target.root, NAME)
        return cls(path, run, place_of(target).read_all(path))

    def check(self, *, overwrite: bool) -> None:
        """Check that the card may be put there.

        Args:
            overwrite: whether the card of another run may be replaced.

        Raises:
            StreamExistsError: when another file is there, an edited card, or the card of another run.
        """
        if self.data is None:
            return
        maker = self._maker
        if maker is None:
            raise StreamExistsError(
                f"{self.path} is there already, and llm-datagen did not make it, or it was edited since, so it is left "
                f"as it is; leave {advice('card=True', '--card')} out, or move the file away"
            )
        if maker != self.run and not overwrite:
            raise StreamExistsError(
                f"{self.path} is the card of the run {maker!r}; choose another folder, remove the file, or say "
                "overwrite"
            )

    def may_follow(self, before: CardFile) -> bool:
        """Return whether the card may still be put there, as it might when the export began.

        What somebody has put there meanwhile is theirs, unless another export of the same run has.
        """
        return self.data in (None, before.data) or self._maker == self.run

    @property
    def license(self) -> str | None:
        """The licence that the card of the run says; that of another run is not about its data."""
        found = _LICENSE.search(self._text) if self._maker == self.run else None
        return None if found is None or found[1] == UNKNOWN_LICENSE else found[1]

    def put(self, target: Target, text: str) -> None:
        """Put the card in place, over what is there.

        Raises:
            DiskError: when the disk, or the store, refuses.
        """
        place_of(target).replace(self.path, (text + _MARK.format(self.run, _check(text, self.run))).encode())

    @property
    def _text(self) -> str:
        return (self.data or b"").decode(errors="replace")

    @property
    def _maker(self) -> str | None:
        return _maker_of(self._text)


def _maker_of(text: str) -> str | None:
    """Return the run whose card a text is; None when it is none, or was edited."""
    mark = next((found for found in _MARKED.finditer(text) if found.end() == len(text)), None)
    if mark is None:
        return None
    return mark[1] if int(mark[2], 16) == _check(text[: mark.start()], mark[1]) else None


def _check(text: str, run: str) -> int:
    return zlib.crc32(f"{run}\n{text}".encode())
