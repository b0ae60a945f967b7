"""What was found in object stores, for a while: checks before a run ask the same again and again, and each costs.

Only what the same thread asks for while `each_looked_at_once` is open is answered by what was found before; and only
until this thread writes the object, opens its stream, or has waited for a lock. What decides who may write is the
version that a writer has opened (see `object_writing`), never what was found here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from llm_datagen.streams.storage.bucket import Bucket, Found, Version

_found: ContextVar[dict[tuple[str, str, str], Any] | None] = ContextVar("found", default=None)


@contextlib.contextmanager
def each_looked_at_once() -> Iterator[None]:
    """Ask stores for each object only once. Also a decorator."""
    if _found.get() is not None:
        yield
        return
    token = _found.set({})
    try:
        yield
    finally:
        _found.reset(token)


def look_again(bucket: str = "", prefix: str = "") -> None:
    """Forget what was found of the objects whose keys begin so, by default of all: from here on, they may be others."""
    found = _found.get() or {}
    for at in list(found):
        if at[1].startswith(bucket) and at[2].startswith(prefix):
            del found[at]


class LookedAt(Bucket):
    """A bucket whose small objects are asked for once, as long as that holds.

    Args:
        bucket: the bucket.
    """

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket.requests)

    def find(self, key: str) -> Found | None:
        """Return size and version of an object; None when there is none."""
        found = _found.get()
        if found is None:
            return super().find(key)
        at = "find", self.name, key
        if at not in found:
            found[at] = super().find(key)
        known: Found | None = found[at]
        return known

    def get(self, key: str) -> tuple[bytes, Version] | None:
        """Return a whole small object, with its version; None when there is none."""
        found = _found.get()
        if found is None:
            return super().get(key)
        at = "get", self.name, key
        if at not in found:
            found[at] = super().get(key)
        known: tuple[bytes, Version] | None = found[at]
        return known

    def put(self, key: str, data: bytes) -> None:
        """Put an object."""
        look_again(self.name, key)
        super().put(key, data)

    def put_if(self, key: str, data: bytes, version: Version | None) -> Version | None:
        """Put an object if the one that is there is as expected."""
        look_again(self.name, key)
        return super().put_if(key, data, version)

    def put_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        """Put an object that comes piece by piece."""
        look_again(self.name, key)
        super().put_pieces(key, pieces)

    def delete(self, keys: list[str]) -> None:
        """Remove objects."""
        for key in keys:
            look_again(self.name, key)
        super().delete(keys)
