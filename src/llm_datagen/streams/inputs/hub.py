"""Data sets on the Hugging Face hub as inputs: the files of a split, or those that a pattern means, as one input.

A run notes the commit and its list of files when it begins. So a resume reads the same bytes, also when the data set
has changed since. Files are downloaded one after the other, when it is their turn; see `HubStorage`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from llm_datagen.errors import ConfigError, StreamError, StreamMissingError
from llm_datagen.streams.coverage import Span
from llm_datagen.streams.formats.patterns import has_magic, matches
from llm_datagen.streams.inputs.hub_splits import chosen_split, is_data, splits_by_name, splits_of_card
from llm_datagen.streams.inputs.hub_uri import HubUri
from llm_datagen.streams.inputs.remote_set import RemoteFileSet
from llm_datagen.streams.inputs.table import TableStream
from llm_datagen.streams.storage.base import Place
from llm_datagen.streams.storage.compression import ENDINGS
from llm_datagen.streams.storage.hub import HubStorage, Listing, download, list_files
from llm_datagen.streams.stream import Stream

_CARD = "README.md"
_TABLES = (".parquet", ".arrow", ".feather")
_FRONT_MATTER = re.compile(r"\A\ufeff?---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)


class HubFileSet(RemoteFileSet):
    """Files of a data set on the hub that are read as one, and never written.

    Args:
        uri: its address; see `HubUri`.
        create: makes the stream of a file, of its URI.
    """

    is_foreign: bool = True

    def __init__(self, uri: str, create: Callable[[str], Stream]) -> None:
        self._hub = HubUri.parse(uri)
        super().__init__(uri, create)
        self._prefix = f"{self._hub.place}/"
        self._listing: Listing | None = None  # of the files that are read

    @property
    def shown(self) -> str:
        """Its address."""
        return self.uri

    @property
    def sizes(self) -> list[int]:
        """The bytes of each file, as the hub says them."""
        sizes = self._listed().sizes
        return [sizes[self._name(path)] for path in self.streams.paths]

    def size(self) -> int | None:
        """Return the bytes of all files; None when there is none."""
        return sum(self.sizes) if len(self.streams) else None

    def place_of(self, path: str) -> Place:
        """Return what is read: an address has no other spelling that counts."""
        return "hub", repr(tuple(HubUri.parse(path)))

    def reads(self, path: str) -> bool:
        """Return False: nothing is written there."""
        return False

    def pin(self, known: Any) -> None:
        """Read what a run has noted: its commit, and its files."""
        if known is not None:
            self._listing = Listing(known["revision"], dict(known["files"]))
            self._files = None

    def fingerprint(self, *, follow: bool) -> Any:
        """Return the commit, and the files with their sizes."""
        names = map(self._name, self.streams.paths)
        listing = self._listed()
        return {"revision": listing.commit, "files": [[name, listing.sizes[name]] for name in names]}

    def check_fingerprint(self, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """Read what the run has noted: of a commit, nothing can change."""
        self.pin(known)

    def changed_since(self, known: Any) -> str | None:
        """Return None: of a commit, nothing can change."""
        return None

    def missing(self) -> StreamMissingError:
        """Return the error that says that there is no file."""
        return StreamMissingError(f"{self.uri}: the data set has no such file; check the path")

    def check_path(self) -> None:
        """Refuse to write."""
        raise StreamError(f"{self.uri}: rows are not appended on the hub; write to a file, and export it to hf://…")

    def _found(self) -> list[str]:
        return [f"{self._prefix}{name}" for name in self._listed().sizes]

    def _stream(self, path: str) -> Stream:
        columns = "" if self._hub.columns is None else f"?columns={self._hub.columns}"
        try:
            stream = self._create(f"file://{path}{columns if path.endswith(_TABLES) else ''}").with_data(self._data)
        except ConfigError as error:
            raise ConfigError(
                f"{error}; it is one of the files of {self.uri}: use a pattern that leaves it out"
            ) from None
        if columns and not isinstance(stream, TableStream):
            raise ConfigError(f"{self.uri}: {path} has no columns to choose; only Parquet and Arrow files have")
        stream.storage = HubStorage(self._hub.repository, self._listed(), self._prefix)
        return stream

    def _name(self, path: str) -> str:
        return path.removeprefix(self._prefix)

    def _path(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _listed(self) -> Listing:
        """Return the files that are read. They are looked for once."""
        if self._listing is None:
            there = list_files(self._hub.repository, self._hub.revision)
            names = self._named(there) if self._hub.path else self._of_split(there)
            self._listing = Listing(there.commit, {name: there.sizes[name] for name in names})
        return self._listing

    def _named(self, there: Listing) -> list[str]:
        """Return the files that the path means: a file, a pattern, or a folder."""
        path = self._hub.path
        below = [name for name in there.sizes if name.startswith(f"{path}/") and is_data(name, ENDINGS)]
        found = [path] if path in there.sizes else below
        if not found and has_magic(path):
            found = [name for name in there.sizes if matches(name, path)]
        return sorted(found)

    def _of_split(self, there: Listing) -> list[str]:
        """Return the files of the split."""
        configs = self._configs(there)
        data = [name for name in there.sizes if is_data(name, ENDINGS)]
        where, config = self._hub.place, self._hub.config
        if configs:
            splits = splits_of_card(data, configs, config, where)
        elif config in {None, "default"}:
            splits = splits_by_name(data)
        else:
            within = [name for name in data if name.startswith(f"{config}/")]
            if not within:
                raise ConfigError(f"{where} has no config {config!r}: its card names none; leave config=… out")
            splits = splits_by_name(within, f"{config}/")
        return chosen_split(splits, self._hub.split, where)

    def _configs(self, there: Listing) -> list[Any]:
        """Return what the card has of configurations."""
        if _CARD not in there.sizes:
            return []
        with open(download(self._hub.repository, _CARD, there.commit), encoding="utf-8") as file:  # noqa: PTH123
            found = _FRONT_MATTER.match(file.read())
        if found is None:
            return []
        import yaml

        try:
            card = yaml.safe_load(found[1])
        except yaml.YAMLError:
            raise ConfigError(f"{self._hub.place}: the YAML of its README.md cannot be read; name the files") from None
        configs = card.get("configs") if isinstance(card, dict) else None
        return configs if isinstance(configs, list) else []
