"""Small objects of a store that are replaced only as long as nobody else has replaced them: compare-and-swap.

A version is what the store calls an ETag, or a generation. What is kept so must hold something that is new each time,
as the ETag of some stores is a checksum of the content.
"""

from __future__ import annotations

import errno
import functools
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from llm_datagen.errors import ConfigError, DiskError

Version = dict[str, str]
"""A version of an object, as the store names it."""

T = TypeVar("T")

_REQUEST_SECONDS = 10.0
_RETRY_SECONDS = 5.0
_RETRIES = 5


class Versioned(NamedTuple):
    """A small object.

    Attributes:
        data: what it holds.
        version: which of its versions that is.
        changed_at: when it was put there, by the clock of the store.
    """

    data: bytes
    version: Version
    changed_at: datetime


class ObjectFolder:
    """Small objects of one folder on a store. A request that fails is repeated for some seconds.

    Any thread may call it.

    Args:
        uri: the folder, such as ``s3://bucket/runs/job``.

    Raises:
        ConfigError: when the library for stores is not installed, or the URI is not one.
    """

    def __init__(self, uri: str) -> None:
        scheme, _, rest = uri.partition("://")
        bucket, _, prefix = rest.partition("/")
        self.uri, self.bucket = uri, f"{scheme}://{bucket}"
        self._prefix = f"{prefix}/" if prefix else ""
        self._store = _store(self.bucket)

    def read(self, name: str) -> Versioned | None:
        """Return an object; None when there is none.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        import obstore

        def get() -> Versioned:
            got = obstore.get(self._store, f"{self._prefix}{name}")
            return Versioned(bytes(got.bytes()), _version_of(got.meta), got.meta["last_modified"])

        return self._asked(name, get)

    def create(self, name: str, data: bytes) -> Version | None:
        """Put an object where there is none, and return its version; None when there is one.

        None may also mean that this very call put it there, and the answer was lost: look at what it holds.

        Raises:
            ConfigError: when the store cannot do that.
            DiskError: when the store refuses, or cannot be reached.
        """
        return self._put(name, data, "create")

    def swap(self, name: str, data: bytes, version: Version) -> Version | None:
        """Replace a version of an object, and return the new one; None when there is another one now, or no object.

        None may also mean that this very call replaced it, and the answer was lost: look at what it holds.

        Raises:
            ConfigError: when the store cannot do that.
            DiskError: when the store refuses, or cannot be reached.
        """
        return self._put(name, data, version)

    def replace(self, name: str, data: bytes) -> None:
        """Put an object, whatever is there.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        self._put(name, data, "overwrite")

    def remove(self, name: str) -> None:
        """Remove an object if it is there.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        import obstore

        self._asked(name, lambda: obstore.delete(self._store, f"{self._prefix}{name}"))

    def folders(self) -> list[str]:
        """Return the names of the folders in this one.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        import obstore

        found = self._asked("", lambda: obstore.list_with_delimiter(self._store, self._prefix or None))
        return [] if found is None else [path.rsplit("/", 1)[-1] for path in found["common_prefixes"]]

    def _put(self, name: str, data: bytes, mode: Any) -> Version | None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        def put() -> Version | None:
            try:
                return _version_of(obstore.put(self._store, f"{self._prefix}{name}", data, mode=mode))
            except (AlreadyExistsError, PreconditionError):
                return None

        return self._asked(name, put, is_missing_refused=True)

    def _asked(self, name: str, ask: Callable[[], T | None], *, is_missing_refused: bool = False) -> T | None:
        """Return the answer of the store; None when there is no such object."""
        from obstore.exceptions import BaseError, NotSupportedError

        path = f"{self.uri}/{name}" if name else self.uri
        try:
            return ask()
        except (NotImplementedError, NotSupportedError):
            raise ConfigError(no_conditions(self.bucket)) from None
        except FileNotFoundError as error:
            if is_missing_refused or _is_bucket(str(error)):
                raise _no_bucket(self.bucket, path) from None
            return None
        except (BaseError, OSError) as error:
            if "501 Not Implemented" in str(error):
                raise ConfigError(no_conditions(self.bucket)) from None
            raise _named(error, self.bucket, path) from None


def no_conditions(bucket: str) -> str:
    """Return why runs cannot be kept in a bucket."""
    return (
        f"{bucket} does not support conditional writes (If-None-Match, If-Match), so nothing would keep two hosts from "
        "running one run; keep runs on a store that does (Amazon S3, Google Cloud Storage, Azure, MinIO, R2), or on a "
        "file system with locks"
    )


def is_away(error: DiskError) -> bool:
    """Return whether an error of a store may go away by itself."""
    return error.errno == errno.EIO


@functools.cache
def _store(bucket: str) -> Any:
    """Return the client for a bucket; credentials and the endpoint are found as the store's own tools do."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        raise ConfigError(f"{bucket} needs obstore: pip install 'llm-datagen[remote]'") from None
    try:
        return from_url(
            bucket,
            client_options={"timeout": f"{_REQUEST_SECONDS:g}s", "allow_http": True},  # where the endpoint says so
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
        )
    except (BaseError, ValueError) as error:
        raise ConfigError(f"{bucket} cannot be used: {_first_line(error)}") from None


def _version_of(meta: Any) -> Version:
    return {key: str(meta[key]) for key in ("e_tag", "version") if meta.get(key) is not None}


def _is_bucket(text: str) -> bool:
    return "NoSuchBucket" in text or "bucket does not exist" in text or "ContainerNotFound" in text


def _no_bucket(bucket: str, path: str) -> DiskError:
    return DiskError(errno.ENOENT, f"there is no bucket {bucket} that you may see; make it, or mend its name", path)


def _named(error: Exception, bucket: str, path: str) -> DiskError:
    """Return an error of a store as one of ours, without what was sent: addresses may hold a signature."""
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    if isinstance(error, PermissionDeniedError):
        return DiskError(errno.EACCES, "the store refuses access; give these credentials the right to it", path)
    if isinstance(error, UnauthenticatedError):
        return DiskError(errno.EACCES, "the store does not take the credentials; renew them, then resume", path)
    if _is_bucket(str(error)):
        return _no_bucket(bucket, path)
    return DiskError(errno.EIO, f"the store cannot be reached, or does not answer: {_first_line(error)}", path)


def _first_line(error: Exception) -> str:
    """Return what an error says in short, without the queries of addresses."""
    line = str(error).strip().partition("\n")[0].partition("<?xml")[0]
    return re.sub(r"\?\S*", "", line)[:300].rstrip(" :-")
