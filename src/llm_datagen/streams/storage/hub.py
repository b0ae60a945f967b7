"""Files of a data set on the Hugging Face hub, at one commit. They are only read.

A file is downloaded when it is opened, whole, into the cache of huggingface_hub (`HF_HOME`), and read there. So another
run, or a resume, does not download it again. Only huggingface_hub sees the token: it is in no file, log or error of
ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from llm_datagen.errors import ConfigError, HubError, StreamChangedError, StreamError
from llm_datagen.streams.storage import waiting
from llm_datagen.streams.storage.base import AppendFile, ReadFile
from llm_datagen.streams.storage.local import LOCAL_STORAGE

RETRY_SECONDS = (2.0, 8.0)
"""How long to wait before each further try, when the hub cannot be reached or has an error of its own.

huggingface_hub itself waits about 20 s for some requests."""

_TRIES_AGAIN = frozenset({408, 425, 429})
_SERVER_ERROR = 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a data set at one commit.

    Attributes:
        commit: its commit.
        sizes: the bytes of each, by its path.
    """

    commit: str
    sizes: Mapping[str, int]


class HubStorage:
    """The files of a data set at one commit. Any thread may use it.

    Args:
        repository: ``org/name``.
        listing: its files.
        prefix: what the paths of all files begin with, before the path in the data set.
    """

    def __init__(self, repository: str, listing: Listing, prefix: str) -> None:
        self._repository = repository
        self._listing = listing
        self._prefix = prefix

    def size(self, path: str) -> int | None:
        """Return the file's size in bytes, as the hub has listed it; None when there is no such file."""
        return self._listing.sizes.get(path.removeprefix(self._prefix))

    def open_read(self, path: str) -> ReadFile:
        """Download a file, unless it is in the cache, and open it for reading.

        Raises:
            FileNotFoundError: when there is none.
            HubError: when the hub refuses, or cannot be reached.
            StreamChangedError: when the commit is gone.
        """
        size = self.size(path)
        if size is None:
            raise FileNotFoundError(path)
        name = path.removeprefix(self._prefix)
        file = LOCAL_STORAGE.open_read(download(self._repository, name, self._listing.commit))
        found = file.size()
        if found != size:
            file.close()
            raise StreamChangedError(
                f"{path} has {found} bytes in the cache, and {size} on the hub; remove it from the cache (hf "
                "cache rm), and resume"
            )
        return file

    def open_append(self, path: str) -> AppendFile:
        """Refuse."""
        raise StreamError(f"{path} is on the hub, where files are only read")

    def read_all(self, path: str) -> bytes | None:
        """Return the whole (small) file, or None when there is no such file."""
        if self.size(path) is None:
            return None
        file = self.open_read(path)
        try:
            return file.read_at(0, file.size())
        finally:
            file.close()

    def replace(self, path: str, data: bytes, *, sync: bool) -> None:
        """Refuse."""
        raise StreamError(f"{path} is on the hub, where files are only read")

    def remove(self, path: str) -> None:
        """Refuse."""
        raise StreamError(f"{path} is on the hub, where files are only read")


def hub_api() -> Any:
    """Return the client of the hub.

    Raises:
        ConfigError: when huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise ConfigError("hf://… needs huggingface_hub: pip install 'llm-datagen[hf]'") from None
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="llm-datagen")


def list_files(repository: str, revision: str | None) -> Listing:
    """Return the commit that a revision means now, and its files.

    Raises:
        HubError: when the hub refuses, or cannot be reached.
    """
    api = hub_api()
    info = _asked(repository, lambda: api.dataset_info(repository, revision=revision, files_metadata=True), revision)
    sizes = {each.rfilename: each.lfs.size if each.lfs else each.size for each in info.siblings or ()}
    return Listing(str(info.sha), {name: int(size or 0) for name, size in sizes.items()})


def download(repository: str, name: str, commit: str) -> str:
    """Return the path of a file in the cache. It is downloaded when it is not there.

    Raises:
        HubError: when the hub refuses, or cannot be reached.
        StreamChangedError: when the commit is gone.
    """
    api = hub_api()

    def get() -> str:
        return str(
            api.hf_hub_download(
                repository, name, repo_type="dataset", revision=commit, tqdm_class=_interruptible_progress()
            )
        )

    return _asked(repository, get, commit, name)


def _interruptible_progress() -> type[Any]:
    """Return the library's progress bar, which ends a download that nobody waits for any more."""
    from huggingface_hub.utils.tqdm import tqdm

    class Progress(tqdm):
        """Is told of each piece of a file."""

        def update(self, n: float | None = 1) -> bool | None:
            """Count a piece. Raises Interrupted when nobody waits for the file."""
            waiting.check()
            shown: bool | None = super().update(n)
            return shown

    return Progress


def _asked(repository: str, call: Callable[[], T], revision: str | None, name: str = "") -> T:
    """Return what a call to the hub returns; when the hub cannot be reached for a while, the call is repeated."""
    from huggingface_hub.errors import RemoteEntryNotFoundError, RevisionNotFoundError

    what = f"hf://datasets/{repository}{'/' * bool(name)}{name}"
    for wait in (*RETRY_SECONDS, None):
        try:
            return waiting.aside(call)
        except (RevisionNotFoundError, RemoteEntryNotFoundError):
            if name:
                raise StreamChangedError(
                    f"{what} is gone from the hub at commit {revision}, which the run reads: its history was "
                    "rewritten; restore it there, or start afresh with if_exists='overwrite'"
                ) from None
            raise HubError(
                f"{what} has no revision {revision!r}; check the name of the branch, tag or commit"
            ) from None
        except Exception as error:  # noqa: BLE001 - every kind that the library and its client raise
            if wait is None or not _may_pass(error):
                raise HubError(f"{what}: {said_by(error)}") from None
        waiting.sleep(wait)
    raise AssertionError


def said_by(error: Exception) -> str:
    """Return what the hub said, and what to do; without what was sent, which holds the token."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return "access is granted on its page of the hub: ask for it there, and log in with `hf auth login`"
    status = _status(error)
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return (
            "there is no such data set or organisation, or your token may not see it: check the name, and log in with "
            "`hf auth login`, or set HF_TOKEN"
        )
    said = {
        401: "it does not know who you are: log in with `hf auth login`, or set HF_TOKEN",
        403: "your token may not do that there",
    }.get(status or 0)
    if said is not None:
        return said
    if isinstance(error, OSError) and status is None and error.errno:
        return f"it cannot be kept in the cache of huggingface_hub: {error.strerror}"
    return f"the hub answered with status {status}" if status else f"it cannot be reached ({type(error).__name__})"


def _may_pass(error: Exception) -> bool:
    status = _status(error)
    if status is not None:
        return status in _TRIES_AGAIN or status >= _SERVER_ERROR
    return not (isinstance(error, OSError) and error.errno) and not isinstance(error, ValueError)


def _status(error: Exception) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None
