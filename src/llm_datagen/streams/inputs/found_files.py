"""Which files of this machine a pattern (``data/*.jsonl.gz``), or a folder, means; and what they are called in it."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from llm_datagen.streams.inputs.link_circles import without_circles
from llm_datagen.streams.inputs.saved_dataset import saved_files
from llm_datagen.streams.sidecars import WHAT_LIES_BESIDE

_UNUSUAL = re.compile(r"//|/\.\.?(?:/|$)")
"""In a path: what `relpath` takes out of it."""

_MAGIC = re.compile(r"[*?[]")

BESIDE = (*WHAT_LIES_BESIDE, ".state.sqlite-wal", ".state.sqlite-shm", ".tmp")
"""What the names of files end with that this package puts beside its outputs."""


def is_file_set(path: str) -> bool:
    """Return whether a path means many files: a folder, or a pattern with a ``*`` that is no name of something."""
    if path.endswith(os.sep) or os.path.isdir(path):  # noqa: PTH112 - of a name that is too long, this is False
        return True
    return "*" in path and not os.path.lexists(path)


@dataclass(frozen=True, slots=True)
class FilePattern:
    """A pattern, or a folder: how it is read is found out once (`of`), so names stay what they are.

    Attributes:
        folder: the folder that it begins with, before anything that may be several things.
        rest: the pattern behind that; empty when all of it is a folder.
        text: all of it.
    """

    folder: str
    rest: str
    text: str

    @classmethod
    def of(cls, text: str, rest: str | None = None) -> FilePattern:
        """Return how a path is read.

        Args:
            text: the path.
            rest: what a run has noted as the pattern in it; None: what is no name of a folder that is there now.
        """
        if rest is None or not text.endswith(rest):
            rest = text[_fixed_end(text) :]
        return cls(str(Path(text[: len(text) - len(rest)])) if rest else text, rest, text)

    def anchored(self) -> FilePattern:
        """Return the same from the root on."""
        end = os.sep if self.text.endswith(os.sep) else ""
        return FilePattern.of(str(Path(self.text).absolute()) + end)

    @property
    def is_ambiguous(self) -> bool:
        """Whether a folder of an unusual name, such as ``a[1]``, makes it mean something else."""
        return _MAGIC.search(self.text) is not None

    def found(self) -> list[str]:
        """Return the paths of the files that are there now, in order."""
        if self.rest:
            begin = self.text[: len(self.text) - len(self.rest)]
            paths = glob.glob(glob.escape(begin) + self.rest, recursive=True)  # noqa: PTH207 - a Path each costs a second for 100,000
            paths = [path for path in paths if not os.path.isdir(path)]  # noqa: PTH112
            if "**" in self.rest:
                paths = without_circles(paths)
        elif (saved := saved_files(self.text)) is not None:
            return saved
        else:
            paths = _below(self.text)
        return sorted(path for path in paths if not path.endswith(BESIDE))

    def may_find(self, path: str) -> bool:
        """Return whether a file at a path, once it is there, would be one of the files."""
        file, folder = Path(os.path.realpath(path)), Path(os.path.realpath(self.folder))
        if not file.is_relative_to(folder):
            return False
        return not self.rest or _is_meant(file.relative_to(folder).parts, Path(self.rest).parts)

    def name_of(self, path: str) -> str:
        """Return the path of one of the files from the folder on."""
        if path.startswith(f"{self.folder}/") and not _UNUSUAL.search(path):
            return path[len(self.folder) + 1 :]  # `relpath` of 10,000 files takes a quarter of a second
        return os.path.relpath(path, self.folder)

    def path_of(self, name: str) -> str:
        """Return the path of the file that `name_of` has given a name."""
        return os.path.join(self.folder, name)  # noqa: PTH118


def _below(folder: str) -> list[str]:
    """Return the paths of all files in a folder and below, but for hidden ones."""
    paths: list[str] = []
    for within, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        paths += [f"{within.rstrip(os.sep)}{os.sep}{name}" for name in names if not name.startswith((".", "_"))]
    return paths


def _is_meant(names: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    if not patterns or not names:
        return names == patterns
    if patterns[0] == "**":
        return len(patterns) == 1 or _is_meant(names, patterns[1:]) or _is_meant(names[1:], patterns)
    return fnmatchcase(names[0], patterns[0]) and _is_meant(names[1:], patterns[1:])


def _fixed_end(pattern: str) -> int:
    """Return where the name of the folder ends that a pattern begins with: all of what is no pattern.

    A folder that is there is one, whatever its name: ``a[1]``.
    """
    found = _MAGIC.search(pattern)
    while found is not None:
        slash = pattern.find("/", found.end())
        end = len(pattern) if slash < 0 else slash
        if not os.path.isdir(pattern[:end]):  # noqa: PTH112
            return pattern.rfind("/", 0, found.start()) + 1
        found = _MAGIC.search(pattern, end)
    return len(pattern)
