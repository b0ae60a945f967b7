"""Files in object stores: Amazon S3 and what speaks its language, Google Cloud Storage, Azure Blob Storage.

Paths are whole URIs, such as ``s3://bucket/out.jsonl``. A file that is put at once, such as a seal, is an object. One
that is appended to is made of pieces until `ObjectAppendFile.finish` puts it together; see `object_parts`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import copy
from typing import Self

from llm_datagen.errors import StreamChangedError, StreamError
from llm_datagen.streams.storage.bucket import Bucket, Found, is_same
from llm_datagen.streams.storage.looked_at import LookedAt, look_again
from llm_datagen.streams.storage.object_clients import client_of, renewed_client
from llm_datagen.streams.storage.object_parts import COMMITS, PUT_WHOLE, Chain, Head, folder_of, head_of
from llm_datagen.streams.storage.object_reading import ObjectReadFile
from llm_datagen.streams.storage.object_requests import Requests
from llm_datagen.streams.storage.object_uri import ObjectUri
from llm_datagen.streams.storage.object_writing import ObjectAppendFile, ObjectLog, new_writer

_CHAINS = 32
_COPY_BYTES = 8 << 20


def connect(uri: ObjectUri) -> Bucket:
    """Return the bucket of a URI, as the environment says how to reach it."""
    client = client_of(uri.scheme, uri.bucket)
    return Bucket(Requests(client, uri.place, renewed=lambda old: renewed_client(old, uri.scheme, uri.bucket)))


class ObjectStorage:
    """The files of object stores. Any thread may use it.

    Args:
        connect: returns the bucket that a URI is in.
    """

    def __init__(self, connect: Callable[[ObjectUri], Bucket] = connect) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._able: set[str] = set()
        self._chains: dict[str, Chain] = {}
        self._meant: dict[str, Found] = {}

    def meaning(self, path: str, found: Found) -> Self:
        """Return the storage, in which only the object that was found at a path is read there."""
        changed = copy(self)
        changed._meant = {**self._meant, path: found}
        return changed

    def bucket_and_key(self, path: str) -> tuple[Bucket, str]:
        """Return the bucket of a path, and the key in it.

        Raises:
            ConfigError: when it is no address of an object, or the store cannot be used.
        """
        uri = ObjectUri.parse(path)
        return LookedAt(self._connect(uri)), uri.key

    def size(self, path: str) -> int | None:
        """Return the file's size in bytes, or None when there is no such file."""
        bucket, key = self.bucket_and_key(path)
        with self._lock:
            chain = self._chains.pop(path, None)  # those that were found before are not listed again
        if chain is not None:
            chain.grow()
        head = Head.read(bucket, key)
        while head is not None and not head.is_whole:
            if not head.turns:  # nobody has begun to write
                return 0
            if chain is not None and chain.head.version == head.version:
                self._keep(path, chain)
                return chain.end
            chain = Chain(bucket, key, head)  # its pieces may go while they are listed: the head says so then
            chain.grow()
            look_again(bucket.name, head_of(key))
            head = Head.read(bucket, key)
        found = bucket.find(key)
        return None if found is None else found.size

    def _keep(self, path: str, chain: Chain) -> None:
        with self._lock:
            self._chains[path] = chain
            while len(self._chains) > _CHAINS:
                del self._chains[next(iter(self._chains))]

    def find(self, path: str) -> Found | None:
        """Return size and version of the object at a path; None when there is none."""
        bucket, key = self.bucket_and_key(path)
        return bucket.find(key)

    def open_read(self, path: str) -> ObjectReadFile:
        """Open an existing file for reading.

        Raises:
            FileNotFoundError: when there is none.
            StreamChangedError: when it is another object than the one that is meant.
        """
        file = ObjectReadFile(*self.bucket_and_key(path))
        meant = self._meant.get(path)
        if meant is not None and (file.version is None or not is_same(file.version, meant.version)):
            raise StreamChangedError(
                f"{path} was replaced since the run began to read; restore the object, or start afresh with "
                "if_exists='overwrite'"
            )
        return file

    def open_append(self, path: str) -> ObjectAppendFile:
        """Open a file for appending, making it when it is not there.

        Raises:
            StreamError: when the store has no conditional puts.
        """
        self.check_conditional_puts(path)
        bucket, key = self.bucket_and_key(path)
        look_again(bucket.name, key)
        return ObjectAppendFile(bucket, key)

    def open_log(self, path: str) -> ObjectLog:
        """Open a log, which may be there already.

        Raises:
            StreamError: when the store has no conditional puts.
        """
        self.check_conditional_puts(path)
        bucket, key = self.bucket_and_key(path)
        look_again(bucket.name, key.removesuffix(COMMITS))
        return ObjectLog(bucket, key)

    def read_all(self, path: str) -> bytes | None:
        """Return the whole (small) file, or None when there is no such file."""
        bucket, key = self.bucket_and_key(path)
        head = Head.read(bucket, key)
        if head is None or head.is_whole:
            found = bucket.get(key)
            return None if found is None else found[0]
        file = ObjectReadFile(bucket, key)
        return file.read_at(0, file.size())

    def replace(self, path: str, data: bytes, *, sync: bool) -> None:
        """Put `data` in place of the file, which is not one that is appended to."""
        bucket, key = self.bucket_and_key(path)
        bucket.put(key, data)

    def put_new(self, path: str, data: bytes) -> bool:
        """Put a file; return False when another one is there."""
        bucket, key = self.bucket_and_key(path)
        return bucket.put_if(key, data, None) is not None

    def copy(self, path: str, target: str) -> None:
        """Put a copy of a file, as one object. It is read and put again: stores copy small objects only.

        Raises:
            FileNotFoundError: when there is none.
        """
        file = self.open_read(path)
        try:
            size = file.size()
            pieces = (file.read_at(at, min(_COPY_BYTES, size - at)) for at in range(0, max(size, 1), _COPY_BYTES))
            bucket, key = self.bucket_and_key(target)
            bucket.put_pieces(key, pieces)
        finally:
            file.close()

    def remove(self, path: str) -> None:
        """Remove the file if it is there, with its pieces."""
        bucket, key = self.bucket_and_key(path)
        keys = [] if key.endswith(PUT_WHOLE) else [found for found, _ in bucket.list(folder_of(key))]
        if keys:
            bucket.delete([head_of(key)])  # first: without it, the pieces are nothing
            bucket.delete([found for found in keys if found != head_of(key)])
        bucket.delete([key])

    def remove_pieces(self, path: str) -> None:
        """Remove the pieces of a file that was put together; of others, do nothing."""
        bucket, key = self.bucket_and_key(path)
        keys = [found for found, _ in bucket.list(folder_of(key))]
        head = Head.read(bucket, key) if head_of(key) in keys else None
        if head is not None and not head.is_whole:
            return
        bucket.delete([found for found in keys if found != head_of(key)])
        if head is not None:
            bucket.delete([head_of(key)])  # last: as long as it is there, somebody will look for the others

    def check_conditional_puts(self, path: str) -> None:
        """Check, once for each bucket, that its store refuses puts whose condition does not hold.

        Raises:
            StreamError: when it does not, so that two writers could both write.
        """
        uri = ObjectUri.parse(path)
        if uri.place in self._able:
            return
        # Among the pieces, so that what a killed process leaves goes with them. That may be when another one ends the
        # stream: so it is tried twice. No other thread has the probe, so none has to wait.
        folder = folder_of(uri.key.removesuffix(COMMITS))
        if not any(_refuses(self._connect(uri), f"{folder}/probe-{new_writer()}") for _ in range(2)):
            raise StreamError(
                f"{uri.place}: the store puts objects also when the condition of the put does not hold (If-None-"
                "Match, If-Match), so two writers could both write; use it for inputs, or write to this machine "
                "and copy what is done"
            )
        with self._lock:
            self._able.add(uri.place)


def _refuses(bucket: Bucket, probe: str) -> bool:
    """Return whether a bucket refuses to make an object twice, and to replace a version that is no more."""
    try:
        first = bucket.put_if(probe, b"1", None)
        if first is None or bucket.put_if(probe, b"2", None) is not None:
            return False
        return bucket.put_if(probe, b"3", first) is not None and bucket.put_if(probe, b"4", first) is None
    finally:
        bucket.delete([probe])


OBJECT_STORAGE = ObjectStorage()
"""The storage of all streams in object stores."""
