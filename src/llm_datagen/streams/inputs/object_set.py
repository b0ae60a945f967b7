"""Patterns and folders in object stores as inputs: ``s3://bucket/in/*.jsonl.zst``, ``s3://bucket/in/``.

The list of objects, with the size and the version (ETag) of each, is all that a run notes: nothing is read for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from typing import Any

from llm_datagen.errors import StreamMissingError
from llm_datagen.streams.formats.patterns import fixed_part, has_magic, matches
from llm_datagen.streams.inputs.found_files import BESIDE
from llm_datagen.streams.inputs.remote_set import RemoteFileSet
from llm_datagen.streams.inputs.table import without_columns
from llm_datagen.streams.storage.base import Place, Storage
from llm_datagen.streams.storage.bucket import Found
from llm_datagen.streams.storage.object_uri import ObjectUri
from llm_datagen.streams.storage.objects import OBJECT_STORAGE
from llm_datagen.streams.stream import Stream

_SLASH = re.compile("/")
_PIECES = re.compile(r"\.parts/(?:head|probe-\w+|\d{20}-\w+)$")


def is_object_set(uri: str) -> bool:
    """Return whether an address in an object store means many objects: a folder, or a pattern."""
    address = without_columns(uri)
    return address.endswith("/") or has_magic(address.partition("://")[2])


class ObjectFileSet(RemoteFileSet):
    """Many objects that are read as one, and never written.

    Args:
        uri: an address with a pattern, or of a folder, which ends with a slash.
        create: makes the stream of an object, of its address.
    """

    storage: Storage = OBJECT_STORAGE

    def __init__(self, uri: str, create: Callable[[str], Stream]) -> None:
        address = without_columns(uri)
        scheme, _, rest = address.partition("://")
        self._place = ObjectUri.parse(f"{scheme}://{rest.partition('/')[0]}/-").place
        self._key = address.removeprefix(f"{self._place}/")
        self._is_pattern = has_magic(self._key) and not self._key.endswith("/")
        self._below = fixed_part(self._key) if self._is_pattern else self._key
        if self._key.rstrip("/"):
            ObjectUri.parse(address.rstrip("/"))
        super().__init__(uri, create)
        self._listed: dict[str, Found | None] = {}

    @property
    def shown(self) -> str:
        """Its address."""
        return without_columns(self.uri)

    @property
    def sizes(self) -> list[int]:
        """The bytes of each object, as they were listed."""
        return [0 if (found := self._object(path)) is None else found.size for path in self.streams.paths]

    def place_of(self, path: str) -> Place:
        """Return what is read."""
        return "objects", path

    def reads(self, path: str) -> bool:
        """Return whether an object at this address, once it is there, would be one of them."""
        return path.startswith(f"{self._place}/") and self._is_meant(path.removeprefix(f"{self._place}/"))

    def size(self) -> int | None:
        """Return the bytes of all objects; None when there is none."""
        return sum(self.sizes) if len(self.streams) else None

    def is_there(self) -> bool:
        """Return whether there is an object. The list is kept: each costs a request."""
        return bool(len(self.streams))

    def missing(self) -> StreamMissingError:
        """Return the error that says that there is no object."""
        what = "pattern" if self._is_pattern else "folder"
        return StreamMissingError(
            f"there is no object in {self.path}; check the {what} (names that begin with . or _ are left out)"
        )

    def known_of(self, path: str) -> list[Any] | None:
        """Return size and version of an object, as they were listed."""
        found = self._object(path)
        return None if found is None else [found.size, _version(found)]

    def is_changed(self, path: str, known: list[Any]) -> bool:
        """Return whether an object is another one than it was."""
        return self.known_of(path) != known

    def is_changed_now(self, path: str, known: list[Any]) -> bool:
        """Return whether an object that is about to be read is not the one that was listed."""
        found = OBJECT_STORAGE.find(path)
        return found is None or [found.size, _version(found)] != known

    def _found(self) -> list[str]:
        bucket, _ = OBJECT_STORAGE.bucket_and_key(f"{self._place}/-")
        below = self._below.rstrip("/")
        all_found = list(bucket.list(below))
        folders = {key[: at.start()] for key, _ in all_found for at in _SLASH.finditer(key)}
        listed = {
            f"{self._place}/{key}": found
            for key, found in all_found
            if self._is_meant(key) and not _is_marker(key, found, folders)
        }
        self._listed = dict(listed)
        return sorted(listed)

    def _is_meant(self, key: str) -> bool:
        if key.endswith(BESIDE) or _PIECES.search(key):
            return False
        if self._is_pattern:
            return key == self._key or matches(key, self._key)
        inner = key.removeprefix(self._key)
        return key.startswith(self._key) and not any(part.startswith((".", "_")) for part in inner.split("/"))

    def _stream(self, path: str) -> Stream:
        stream = self._made(f"{path}{''.join(self._columns)}")
        found = self._object(path)
        if found is not None:
            stream.storage = OBJECT_STORAGE.meaning(path, found)
        return stream

    def _object(self, path: str) -> Found | None:
        """Return an object as it was listed; one that was not looked for, as it is now."""
        if path not in self._listed:
            self._listed[path] = OBJECT_STORAGE.find(path)
        return self._listed[path]

    def _path(self, name: str) -> str:
        return f"{self._place}/{self._below}{name}"

    def _name(self, path: str) -> str:
        return path.removeprefix(f"{self._place}/{self._below}")


def _is_marker(key: str, found: Found, folders: Set[str]) -> bool:
    """Return whether an object only stands for a folder. The slash that its key ends with is not listed."""
    return not found.size and (key in folders or "." not in key.rpartition("/")[2])


def _version(found: Found) -> Any:
    return found.version.get("e_tag") or found.version.get("version")
