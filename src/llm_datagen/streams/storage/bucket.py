"""Requests to one bucket of an object store: repeated while that may help; none is taken for done that is not."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from llm_datagen.errors import DiskError, StreamChangedError
from llm_datagen.streams.storage.object_errors import is_no_bucket, problem_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Result = TypeVar("Result")
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


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is repeated, after the client itself has repeated it some times.

    Attributes:
        tries: how often it is made.
        seconds: the wait before the second one; each further one is twice as long.
    """

    tries: int = 5
    seconds: float = 1.0


PATIENCE = Patience()
"""How long all requests are repeated, unless said otherwise."""


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
        client: obstore's client of it.
        name: its address, such as ``s3://bucket``, for messages.
        patience: how long requests are repeated.
    """

    def __init__(self, client: ObjectStore, name: str, patience: Patience | None = None) -> None:
        self._client = client
        self.name = name
        self._patience = patience or PATIENCE

    def find(self, key: str) -> Found | None:
        """Return size and version of an object; None when there is none."""
        import obstore

        def head() -> Found:
            meta = obstore.head(self._client, key)
            return Found(meta["size"], _version(meta))

        try:
            return self._repeated(key, head)
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
                    raise _ShortReadError
                _other_etags.add(self.name)  # such as those of objects that the store encrypts by other keys
            return again, version

        try:
            return self._repeated(key, get)
        except FileNotFoundError:
            return None

    def _get_once(self, key: str) -> tuple[bytes, Version]:
        import obstore

        result = obstore.get(self._client, key)
        data = bytes(result.bytes())
        if len(data) != result.meta["size"]:
            raise _ShortReadError
        return data, _version(result.meta)

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
        import obstore
        from obstore.exceptions import PreconditionError

        options: dict[str, Any] = {"range": (begin, end)}
        if version and "e_tag" in version:
            options["if_match"] = version["e_tag"]

        def get() -> bytes:
            data = bytes(obstore.get(self._client, key, options=cast(Any, options)).bytes())
            if len(data) != end - begin:
                raise _ShortReadError
            return data

        try:
            return self._repeated(key, get)
        except PreconditionError:
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
                    coming.append((one.end - one.begin, pool.submit(self.read, *one)))
                while coming:
                    yield coming.popleft()[1].result()
            finally:
                for _, left in coming:
                    left.cancel()

    def put(self, key: str, data: bytes) -> None:
        """Put an object, in place of the one that is there."""
        import obstore

        self._repeated(key, lambda: obstore.put(self._client, key, data, use_multipart=False))

    def put_if(self, key: str, data: bytes, version: Version | None) -> Version | None:
        """Put an object if the one that is there is as expected. Return its version; None when it was not.

        What was put by a request whose answer was lost counts as put: the content is compared. So it must differ from
        what any other writer may put there.

        Args:
            key: the object.
            data: its content.
            version: the version that it must have; None: there must be none.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if version is None else version

        def put() -> Version | None:
            try:
                return _version(obstore.put(self._client, key, data, mode=mode))
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                found = self.get(key)
                return found[1] if found is not None and found[0] == data else None

        return self._repeated(key, put)

    def put_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        """Put an object that comes piece by piece; there is nothing of it before it is whole.

        Raises:
            Exception: what `pieces` raises; then nothing is put.
        """
        import obstore

        try:
            obstore.put(self._client, key, iter(pieces), chunk_size=_CHUNK_BYTES, max_concurrency=_CHUNKS)
        except Exception as error:
            if not _is_of_client(error):
                raise
            raise self._error(key, error) from None

    def delete(self, keys: list[str]) -> None:
        """Remove objects, as far as they are there, in no order."""
        import obstore

        for at in range(0, len(keys), _TOGETHER):
            some = keys[at : at + _TOGETHER]
            try:
                self._repeated(some[0], lambda some=some: obstore.delete(self._client, some))  # type: ignore[misc]
            except FileNotFoundError:
                for key in some:
                    self._delete_one(key)

    def _delete_one(self, key: str) -> None:
        import obstore

        with contextlib.suppress(FileNotFoundError):
            self._repeated(key, lambda: obstore.delete(self._client, key))

    def list(self, prefix: str, after: str | None = None) -> Iterator[tuple[str, Found]]:
        """Yield the objects below `prefix/`, in the order of their keys; with `after`, those behind that key."""
        import obstore

        pages: Iterator[Any] | None = None

        def next_page() -> Any:
            nonlocal pages
            if pages is None:
                pages = iter(obstore.list(self._client, prefix, offset=after))
            try:
                return next(pages, None)
            except BaseException:
                pages = None  # the next try goes on behind what was yielded
                raise

        while page := self._repeated(prefix, next_page):
            for meta in sorted(page, key=lambda meta: meta["path"].encode()):
                after = meta["path"]
                yield meta["path"], Found(meta["size"], _version(meta))

    def folders(self, prefix: str) -> Sequence[str]:
        """Return the names of the folders right below `prefix/`, in order."""
        import obstore

        found = self._repeated(prefix, lambda: obstore.list_with_delimiter(self._client, prefix))
        return sorted(path.rpartition("/")[2] for path in found["common_prefixes"])

    def _repeated(self, key: str, request: Callable[[], Result]) -> Result:
        """Make a request, again while what is wrong may pass."""
        wait = self._patience.seconds
        for left in reversed(range(self._patience.tries)):
            try:
                return request()
            except _ShortReadError:
                problem = f"the store gave less than what was asked for, {self._patience.tries} times; resume later"
                if not left:
                    raise DiskError(errno.EIO, problem, f"{self.name}/{key}") from None
            except FileNotFoundError as error:
                if is_no_bucket(error):
                    raise self._error(key, error) from None
                raise
            except Exception as error:
                if not _is_of_client(error) or type(error).__name__ == "PreconditionError":
                    raise
                if not left or not problem_of(error).passes:
                    raise self._error(key, error) from None
            time.sleep(wait)
            wait *= 2
        raise AssertionError

    def _error(self, key: str, error: BaseException) -> DiskError:
        problem = problem_of(error)
        number = errno.EIO if problem.passes else errno.EINVAL if problem.key else errno.EACCES
        return DiskError(number, problem.what, f"{self.name}/{problem.key or key}")


class _ShortReadError(Exception):
    """Fewer bytes came than were asked for."""


def _is_of_client(error: BaseException) -> bool:
    from obstore.exceptions import BaseError

    return isinstance(error, BaseError | NotImplementedError) or (
        isinstance(error, OSError) and not isinstance(error, FileNotFoundError | DiskError)
    )


def _may_be_of(data: bytes, version: Version) -> bool:
    """Return whether a body may be that of a version: unless its ETag has the form of an MD5, and is not its own."""
    etag = version.get("e_tag", "").strip('"')
    return not _MD5.fullmatch(etag) or hashlib.md5(data, usedforsecurity=False).hexdigest() == etag


def _version(meta: Any) -> Version:
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name)}
