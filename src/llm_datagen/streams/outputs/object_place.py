"""Exports in an object store. A part is made in a temporary file of this machine, and put whole when it is done.

The temporary file has no name, so a process that is killed leaves none. A large part goes in several requests; the
store shows the object when the last one is done. Who exports has a lease of the hidden folder (see `storage.lease`),
and makes sure of it before each change. So two processes that export to one target are kept apart, also on two
machines.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from typing import IO, ClassVar

from llm_datagen.errors import DatagenError, StreamBusyError, StreamChangedError, StreamExistsError
from llm_datagen.streams.storage.base import ReadFile
from llm_datagen.streams.storage.lease import Lease
from llm_datagen.streams.storage.lease_record import LEASE
from llm_datagen.streams.storage.object_folder import ObjectFolder
from llm_datagen.streams.storage.object_uri import ObjectUri
from llm_datagen.streams.storage.objects import ObjectStorage
from llm_datagen.streams.storage.os_errors import named

_AT_ONCE_BYTES = 8 << 20
"""What is put in one request."""


class ExportLease(Lease):
    """Who exports to a target."""

    busy: ClassVar[type[DatagenError]] = StreamBusyError
    doing = "exported"
    hint = "wait until it has ended"
    after_loss = "export it again"


class ObjectPlace:
    """The objects of a store. See `OutputPlace`.

    Args:
        storage: what keeps them.
    """

    def __init__(self, storage: ObjectStorage) -> None:
        self._storage = storage
        self._lease: ExportLease | None = None

    def check(self, folder: str) -> None:
        """Check that the store can be reached, and has the conditional puts that a lease is made of."""
        self._storage.check_conditional_puts(f"{folder}/{LEASE}")

    def size(self, path: str) -> int | None:
        """Return an object's size in bytes; None when there is none."""
        found = self._storage.find(path)
        return None if found is None else found.size

    def read_all(self, path: str) -> bytes | None:
        """Return a whole small object; None when there is none."""
        bucket, key = self._storage.bucket_and_key(path)
        found = bucket.get(key)
        return None if found is None else found[0]

    def open_read(self, path: str) -> ReadFile:
        """Open an object for reading."""
        return self._storage.open_read(path)

    def replace(self, path: str, data: bytes) -> None:
        """Put a small object, over what is there."""
        self.check_lease()
        self._storage.replace(path, data, sync=True)

    def put_new(self, path: str, data: bytes, temporary: str) -> None:
        """Put a small object by a request that fails when another one is there."""
        self.check_lease()
        bucket, key = self._storage.bucket_and_key(path)
        if bucket.put_if(key, data, None) is None:
            raise StreamExistsError(
                f"{path} was put there by somebody else while the export was made; remove it, and export again"
            )

    def new_file(self, path: str, temporary: str) -> ObjectNewFile:
        """Begin an object, in a temporary file without a name."""
        return ObjectNewFile(self, self._storage, path)

    def remove(self, path: str) -> None:
        """Remove an object if it is there."""
        self.check_lease()
        bucket, key = self._storage.bucket_and_key(path)
        bucket.delete([key])

    def names_in(self, folder: str) -> list[str]:
        """Return the names of the objects in a folder, but for its lease.

        Those of what a killed check of the store has left further below have slashes in them.
        """
        bucket, key = self._storage.bucket_and_key(folder)
        return sorted(name for path, _ in bucket.list(key) if (name := path.removeprefix(f"{key}/")) != LEASE)

    def matching(self, root: str, pattern: str) -> Iterator[str]:
        """Yield the objects whose addresses match. Only those are listed that begin as the pattern does."""
        begin, star, _ = pattern.partition("*")
        if not star:
            if self.size(pattern) is not None:
                yield pattern
            return
        is_match = re.compile(re.escape(pattern).replace(r"\*", "[^/]*")).fullmatch
        uri = ObjectUri.parse(pattern)
        bucket, _ = self._storage.bucket_and_key(pattern)
        folder = root.removeprefix(uri.place).strip("/")
        after = begin.removeprefix(f"{uri.place}/").rstrip(".")  # a last name of dots alone is refused
        for key, _ in bucket.list(folder, after=after):
            path = f"{uri.place}/{key}"
            if not path.startswith(begin):
                if path < begin:
                    continue
                return
            if is_match(path):
                yield path

    def ignores_case(self, folder: str) -> bool:
        """Return that addresses differ by case."""
        return False

    @contextlib.contextmanager
    def lock(self, folder: str, shown: str) -> Iterator[ExportLease]:
        """Take the lease of a folder."""
        lease = ExportLease(ObjectFolder(folder), shown)
        lease.acquire()
        self._lease = lease
        try:
            yield lease
        finally:
            self._lease = None
            lease.release()

    def check_lease(self) -> None:
        """Raise LeaseLostError if this process had the lease, and has it no more. Asks nobody."""
        if self._lease is not None:
            self._lease.check()


class ObjectNewFile:
    """A temporary file that becomes an object. See `NewFile`."""

    def __init__(self, place: ObjectPlace, storage: ObjectStorage, path: str) -> None:
        self._place = place
        self._storage = storage
        self._path = path
        self._size = 0
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(prefix="llm-datagen-", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise named(error, tempfile.gettempdir()) from error

    def write(self, data: bytes) -> None:
        """Add bytes."""
        try:
            while data:
                written = self._file.write(data)
                self._size += written
                data = data[written:]
        except OSError as error:
            raise named(error, tempfile.gettempdir()) from error

    def put(self) -> None:
        """Put the object.

        Raises:
            StreamChangedError: when there is another one afterwards.
        """
        bucket, key = self._storage.bucket_and_key(self._path)
        with self._file:
            if self._size > _AT_ONCE_BYTES:
                bucket.put_pieces(key, self._pieces())
            else:
                bucket.put(key, b"".join(self._pieces()))
        found = bucket.find(key)
        if found is None or found.size != self._size:
            raise StreamChangedError(
                f"{self._path} has {found and found.size} bytes, and {self._size} were put there: somebody else has "
                "changed it meanwhile; export again"
            )

    def _pieces(self) -> Iterator[bytes]:
        self._file.seek(0)
        self._place.check_lease()
        while piece := self._file.read(1 << 20):
            yield piece
            self._place.check_lease()

    def abandon(self) -> None:
        """Let the temporary file go."""
        self._file.close()
