"""Streams in object stores: ``s3://bucket/out.jsonl.zst``, ``gs://…``, ``az://…``.

The format follows from the extension. An object is read as it is: it cannot grow, and it must stay as it was until the
run has ended. What is written is pieces while it grows, which the next node can follow, and one object when it is
sealed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from copy import copy
from typing import Any

from llm_datagen.errors import StreamChangedError, StreamError
from llm_datagen.streams.compressed import CompressedStream
from llm_datagen.streams.coverage import Span
from llm_datagen.streams.file_streams import FileStream
from llm_datagen.streams.fingerprint import is_kind
from llm_datagen.streams.inputs.table import TableStream, without_columns
from llm_datagen.streams.storage.base import Place, Storage
from llm_datagen.streams.storage.object_uri import ObjectUri
from llm_datagen.streams.storage.objects import OBJECT_STORAGE, ObjectStorage
from llm_datagen.streams.stream import Stream

_LONGEST_KEY = 900
"""Bytes of a key: stores take 1,024, and the names of pieces come behind it."""


class InObjectStore(FileStream):
    """What the streams in object stores have in common, whatever their format: where they lie, and what that means."""

    storage: Storage = OBJECT_STORAGE
    has_tails: bool = False
    flushes_at_once = False

    def __init__(self, uri: str, *args: Any) -> None:
        ObjectUri.parse(self.address_of(uri))
        super().__init__(uri, *args)

    @staticmethod
    def address_of(uri: str) -> str:
        """Return the address of the object that a URI names."""
        return uri

    @property
    def shown(self) -> str:
        """Where the data lies: its address."""
        return self.address_of(self.uri)

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of all files that may belong to the stream: state and dispatch logs are on this machine only."""
        return self.done_path, self.commits_path, self.errors_path, self.rejected_path, self.path

    def anchor(self) -> None:
        """Do nothing: a URI is not relative to anything."""

    @property
    def spill_folder(self) -> str | None:
        """The folder of this machine for temporary files."""
        return tempfile.gettempdir()

    def uri_beside(self, ending: str) -> str:
        """Return the address of JSON lines beside it, with `ending` behind its name."""
        return f"{self.path}.{ending}.jsonl"

    def place_of(self, path: str) -> Place:
        """Return what the file at `path` is: it has no other spelling."""
        return type(self.storage).__name__, path

    def can_move_to(self, target: Stream) -> bool:
        """Return False: objects have no other names."""
        return False

    def can_share_with(self, target: Stream) -> bool:
        """Return whether `share_with` can copy the stream: it is sealed, so that its objects do not change."""
        same = isinstance(target, InObjectStore) and type(self.codec) is type(target.codec)
        return same and self.compression == target.compression and self.is_sealed()

    def share_with(self, target: Stream) -> None:
        """Have a copy of the stream, with all that belongs to it, at another place. When cut short, do it again.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        storage = self.storage
        assert isinstance(storage, ObjectStorage)
        for path, new in zip(self.files, target.files, strict=True):
            if storage.size(path) is not None and storage.size(new) is None:
                storage.copy(path, new)

    def check_path(self) -> None:
        """Check that the key can be written.

        Raises:
            StreamError: when its format is only read, or it is too long.
        """
        self._refuse_only_read()
        if len(ObjectUri.parse(self.path).key.encode()) > _LONGEST_KEY:
            raise StreamError(
                f"the key of {self.path} is too long: {_LONGEST_KEY} bytes are possible, because the objects beside it "
                "are named after it; choose a shorter one"
            )

    def _is_special(self) -> bool:
        return False

    def remove_leftovers(self) -> None:
        """Remove what a sealed stream no longer needs, pieces included."""
        super().remove_leftovers()
        storage = self.storage
        assert isinstance(storage, ObjectStorage)
        storage.remove_pieces(self.path)
        storage.remove_pieces(self.errors_path)
        storage.remove_pieces(self.rejected_path)

    def fingerprint(self, *, follow: bool) -> Any:
        """Return size and version of the object; None when it is followed, or not there. Only that one is read then."""
        if not self.read_as_is(follow=follow):
            return None
        storage = self.storage
        assert isinstance(storage, ObjectStorage)
        found = storage.find(self.path)
        if found is None:
            return None
        self.storage = storage.meaning(self.path, found)
        return {"size": found.size, **found.version}

    def exact_fingerprint(self) -> Any:
        """Return size and version of the object."""
        return copy(self).fingerprint(follow=False)

    def check_fingerprint(self, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """Check that the object is the one that rows were read of, if any were, and it is not followed.

        Raises:
            StreamChangedError: when it is not.
        """
        if known is None or not any(done) or not self.read_as_is(follow=follow):
            return
        if (what := self.changed_since(known)) is not None:
            raise StreamChangedError(
                f"{self.path} {what}: rows were read from it before the run was interrupted. Restore it, or start "
                "afresh with if_exists='overwrite'"
            )

    def changed_since(self, known: Any) -> str | None:
        """Return what the object is that is not what it was; None when it is. Only that one is read then.

        Args:
            known: what `fingerprint` has returned before.
        """
        now = self.fingerprint(follow=False)
        if now is None:
            return "is gone"
        if not is_kind(known, "size"):
            return "was another kind of input"
        if _content(now) != _content(known):
            return f"is another object ({_described(now)}, and it had {_described(known)})"
        return None


class ObjectStream(InObjectStore):
    """JSON lines, CSV, one JSON array or text in an object store."""


class CompressedObjectStream(InObjectStore, CompressedStream):
    """The same, compressed."""

    def check_path(self) -> None:
        """Check that the key can be written, and that what compresses it is installed."""
        super().check_path()
        self._compression()


class TableInObjectStore(InObjectStore, TableStream):
    """What tables in object stores have in common. Only the parts that are wanted are downloaded."""

    @staticmethod
    def address_of(uri: str) -> str:
        """Return the address of the object, without the columns to read."""
        return without_columns(uri)

    def check_path(self) -> None:
        """Refuse to write."""
        TableStream.check_path(self)


_classes: dict[type[TableStream], type[TableInObjectStore]] = {}


def table_in_object_store(table: type[TableStream]) -> type[TableInObjectStore]:
    """Return the class of the streams of a format of tables that lie in object stores."""
    if table not in _classes:
        about = {"__doc__": f"A {table.__name__} in an object store.", "__module__": __name__}
        _classes[table] = type(f"{table.__name__}InObjectStore", (TableInObjectStore, table), about)
    return _classes[table]


def _content(fingerprint: dict[str, Any]) -> tuple[Any, Any]:
    """Return what two objects of one content have in common: a copy in its place has another version."""
    return fingerprint["size"], fingerprint.get("e_tag") or fingerprint.get("version")


def _described(fingerprint: dict[str, Any]) -> str:
    return f"{fingerprint['size']} bytes, ETag {fingerprint.get('e_tag', 'unknown')}"
