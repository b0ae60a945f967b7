"""Requests to one bucket of an object store: repeated while that may help; none is taken for done that is not."""

from __future__ import annotations

import contextlib
import hashlib
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from llm_datagen.errors import StreamChangedError
from llm_datagen.streams.storage import waiting
from llm_datagen.streams.storage.object_requests import Requests, ShortReadError, is_of_client

Version = dict[str, str]
"""What tells two contents of an object apart: its ETag and, where the store has one, its version."""

_CHUNK_BYTES = 8 << 20
_CHUNKS = 3
_TOGETHER = 500
_READERS = 8
_AHEAD_BYTES = 16 << 20
_MD5 = re.compile("[0-9a-f]{32}")
_other_etags: set[str] = set()
"""Buckets with objects whose ETags look like an MD5, and are none."""


class Found(NamedTuple):
    """An object that is there.

    Attributes:
        size: its bytes.
        version: what tells its content from others.
    """

    size: int
    version: Version


class Range(NamedTuple):
    """Bytes of an object.

    Attributes:
        key: the object.
        begin: the first byte.
        end: the byte after the last one.
    """

    key: str
    begin: int
    end: int


class Bucket:
    """One bucket. Any thread may use it.

    Args:
        requests: what makes the requests to it.

    Attributes:
        requests: the same.
        name: its address, such as ``s3://bucket``, for messages.
    """

    def __init__(self, requests: Requests) -> None:
        self.requests = requests
        self.name = requests.name

    def find(self, key: str) -> Found | None:
        """Return size and version of an object; None when there is none."""

        def head() -> Found:
            meta = self.requests.ask("head", key)
            return Found(meta["size"], _version(meta))

        try:
            return self.requests.repeated(key, head)
        except FileNotFoundError:
            return None

    def get(self, key: str) -> tuple[bytes, Version] | None:
        """Return a whole small object, with its version; None when there is none.

        A body is compared with the MD5 that most stores give as ETag: one that was cut short on its way, with the
        length said to be what is left of it, is asked for again.
        """

        def get() -> tuple[bytes, Version]:
            data, version = self._get_once(key)
            if self.name in _other_etags or _may_be_of(data, version):
                return data, version
            again, version = self._get_once(key)
            if not _may_be_of(again, version):
                found = self.find(key)
                if again != data or found is None or found.size != len(data) or found.version != version:
                    raise ShortReadError
                _other_etags.add(self.name)  # such as those of objects that the store encrypts by other keys
            return again, version

        try:
            return self.requests.repeated(key, get)
        except FileNotFoundError:
            return None

    def _get_once(self, key: str) -> tuple[bytes, Version]:
        data, meta = self.requests.body(key, {})
        if len(data) != meta["size"]:
            raise ShortReadError
        return data, _version(meta)

    def read(self, key: str, begin: int, end: int, version: Version | None = None) -> bytes:
        """Return the bytes from `begin` to `end` of an object, all of them.

        Args:
            key: the object.
            begin: the first byte.
            end: the byte after the last one.
            version: the content that is meant; None: whatever is there.

        Raises:
            FileNotFoundError: when there is no such object.
            StreamChangedError: when its content is another one.
        """
        from obstore.exceptions import PreconditionError

        options: dict[str, Any] = {"range": (begin, end)}
        if version and "e_tag" in version:
            options["if_match"] = version["e_tag"]

        def get() -> bytes:
            data, meta = self.requests.body(key, options)
            if version and not is_same(version, _version(meta)):
                raise _OtherVersionError  # where a store heeds no condition of a GET
            if len(data) != end - begin:
                raise ShortReadError
            return data

        try:
            return self.requests.repeated(key, get)
        except (PreconditionError, _OtherVersionError):
            raise StreamChangedError(
                f"{self.name}/{key} was replaced while it was read; restore the object, or start afresh with "
                "if_exists='overwrite'"
            ) from None

    def read_all(self, wanted: Iterable[Range]) -> Iterator[bytes]:
        """Yield the bytes of each of these ranges, in their order; some are asked for at the same time.

        Raises:
            FileNotFoundError: when an object is not there.
        """
        coming: deque[tuple[int, Future[bytes]]] = deque()
        with ThreadPoolExecutor(_READERS, thread_name_prefix="object-store") as pool:
            try:
                for one in wanted:
                    while coming and (len(coming) >= 2 * _READERS or sum(size for size, _ in coming) >= _AHEAD_BYTES):
                        yield coming.popleft()[1].result()
                    coming.append((one.end - one.begin, pool.submit(waiting.inherited(self.read), *one)))
                while coming:
                    yield coming.popleft()[1].result()
            finally:
                for _, left in coming:
                    left.cancel()

    def put(self, key: str, data: bytes) -> None:
        """Put an object, in place of the one that is there."""
        self.requests.repeated(key, lambda: self.requests.ask("put", key, data, use_multipart=False))

    def put_if(self, key: str, data: bytes, version: Version | None) -> Version | None:
        """Put an object if the one that is there is as expected. Return its version; None when it was not.

        What was put by a request whose answer was lost counts as put: the content is compared. So it must differ from
        what any other writer may put there.

        Args:
            key: the object.
            data: its content.
            version: the version that it must have; None: there must be none.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if version is None else version

        def put() -> Version | None:
            try:
                return _version(self.requests.ask("put", key, data, mode=mode, use_multipart=False))
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                found = self.get(key)
                return found[1] if found is not None and found[0] == data else None

        return self.requests.repeated(key, put)

    def put_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        """Put an object that comes piece by piece; there is nothing of it before it is whole.

        When the store knows nothing of the upload any more, the answer to its last request may have been lost: what is
        there is compared with what was sent.

        Raises:
            Exception: what `pieces` raises; then nothing is put.
        """
        coming, failed = iter(pieces), list[BaseException]()
        size = checksum = 0

        def next_piece() -> bytes | None:
            waiting.check()
            return next(coming, None)

        following = waiting.inherited(next_piece)

        def passed_on() -> Iterator[bytes]:
            nonlocal size, checksum
            try:
                # Requests that it makes cannot be made by the client's thread, which asks for the pieces.
                while (piece := pool.submit(following).result()) is not None:
                    size, checksum = size + len(piece), zlib.crc32(piece, checksum)
                    yield piece
            except BaseException as error:
                failed.append(error)
                raise

        with ThreadPoolExecutor(1, thread_name_prefix="object-store") as pool:
            try:
                self.requests.ask("put", key, passed_on(), chunk_size=_CHUNK_BYTES, max_concurrency=_CHUNKS)
            except Exception as error:
                if failed:
                    raise failed[0] from None
                is_unknown = isinstance(error, FileNotFoundError)
                if is_unknown and self._holds(key, size, checksum):
                    return
                if not (is_unknown or is_of_client(error)):
                    raise
                raise self.requests.error(key, error) from None

    def _holds(self, key: str, size: int, checksum: int) -> bool:
        """Return whether an object has so many bytes, with this CRC-32."""
        found = self.find(key)
        if found is None or found.size != size:
            return False
        ranges = (Range(key, at, min(at + _CHUNK_BYTES, size)) for at in range(0, size, _CHUNK_BYTES))
        there = 0
        for data in self.read_all(ranges):
            there = zlib.crc32(data, there)
        return there == checksum

    def delete(self, keys: list[str]) -> None:
        """Remove objects, as far as they are there, in no order."""
        for at in range(0, len(keys), _TOGETHER):
            some = keys[at : at + _TOGETHER]
            try:
                self.requests.repeated(some[0], lambda some=some: self.requests.ask("delete", some))  # type: ignore[misc]
            except FileNotFoundError:
                for key in some:
                    self._delete_one(key)

    def _delete_one(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.requests.repeated(key, lambda: self.requests.ask("delete", key))

    def list(self, prefix: str, after: str | None = None) -> Iterator[tuple[str, Found]]:
        """Yield the objects below `prefix/`, in the order of their keys; with `after`, those behind that key."""
        following: Callable[[], Any] | None = None

        def next_page() -> Any:
            nonlocal following
            if following is None:
                following = self.requests.pages(prefix, after)
            try:
                return following()
            except BaseException:
                following = None  # the next try goes on behind what was yielded
                raise

        while page := self.requests.repeated(prefix, next_page):
            for meta in sorted(page, key=lambda meta: meta["path"].encode()):
                after = meta["path"]
                yield meta["path"], Found(meta["size"], _version(meta))

    def folders(self, prefix: str) -> Sequence[str]:
        """Return the names of the folders right below `prefix/`, in order."""
        found = self.requests.repeated(prefix, lambda: self.requests.ask("list_with_delimiter", prefix))
        return sorted(path.rpartition("/")[2] for path in found["common_prefixes"])


class _OtherVersionError(Exception):
    """What came is of another content than was asked for."""


def _may_be_of(data: bytes, version: Version) -> bool:
    """Return whether a body may be that of a version: unless its ETag has the form of an MD5, and is not its own."""
    etag = version.get("e_tag", "").strip('"')
    return not _MD5.fullmatch(etag) or hashlib.md5(data, usedforsecurity=False).hexdigest() == etag


def _version(meta: Any) -> Version:
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name)}


def is_same(one: Version, other: Version) -> bool:
    """Return whether two versions are of one content, as far as a store tells."""
    if "e_tag" in one and "e_tag" in other:
        return one["e_tag"] == other["e_tag"]
    return one == other
