"""The folder of a run: ``results_dir/<pipeline_id>/`` with its run state, its checkpoint and its lock.

    runtime.json     topology, settings, status, progress: the first truth of a resume (M6, M27)
    checkpoint.json  each node's position, derived from the streams, for people and tools
    lock             locked, by the operating system, while a process has the run
    files            what its operators keep for themselves; there only if they do
    owner.json       who has it: host, process, since when, its control socket; gone when the lock was given back

Files are replaced atomically: whoever reads them sees a whole one. Where the run state and the streams differ, the
streams are right (R1).

Two runs of one id at once are refused (M23). The lock is one of the kernel: it ends with its process, whatever ends
that, and reaches as far as the file system's locks do: over NFS with its locks (the default of v4; v3 with lockd) to
other machines. `owner.json` is for the message. And where a file system says that it locks, but each machine does so
for itself (NFS mounted with `nolock` or `local_lock`), it is the second line of defence: a run of another host whose
run state still changes is not taken. A file system without locks is refused.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from llm_datagen.config import check_path
from llm_datagen.errors import ConfigError, DiskError, PipelineBusyError, PipelineNotFoundError, RunStateError
from llm_datagen.runs.owner import Owner, whoami
from llm_datagen.runs.status import Status
from llm_datagen.streams.checksums import CHECK_FIELD, is_unaltered, with_check
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.storage.local import LOCAL_STORAGE, LocalStorage
from llm_datagen.streams.storage.locks import HeldLock, holder

FORMAT = 2
"""The version of runtime.json. Of version 1, the file has no checksum of itself."""

_LONGEST_ID = 255

_TRIES = 5
_TRIES_AT_MOST = 100
"""Where nobody has written down that the run is theirs, it is somebody who only looks."""

_TRY_SECONDS = 0.02

WATCH_SECONDS = 2.0
"""How long to watch a run of another host for signs of life: four times the interval of its saves."""

FRESH_SECONDS = 10.0
"""A run of another host whose run state is not older is shown as running. By the clocks of both."""

_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


_KEYS = ("pipeline_id", "status", "config", "nodes", "updated_at")
_NODE_KEYS = (
    "node_id", "operator", "input_uri", "output_uri", "is_root", "follow_input", "idle_timeout", "id_scheme",
    "parallel_size", "batch_size", "writer_config", "ordered", "executor", "delivery", "grace", "stall_after",
    "on_error", "max_errors", "retries", "retry_wait", "status", "rows_in", "rows_out",
)  # fmt: skip
"""What every version has written, at least."""


def _check_keys(run_state: dict[str, Any]) -> None:
    """Raise a KeyError with the first key that is missing."""
    for key in _KEYS:
        _ = run_state[key]
    for node in run_state["nodes"]:
        for key in _NODE_KEYS:
            _ = node[key]


def _told(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else repr(error)


def now_text() -> str:
    """Return the time, in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def check_pipeline_id(pipeline_id: Any) -> str:
    """Return `pipeline_id` if it can be the name of a folder.

    Raises:
        ConfigError: when it is not.
    """
    is_name = isinstance(pipeline_id, str) and pipeline_id and pipeline_id == Path(pipeline_id).name
    if not is_name or pipeline_id in {".", ".."} or "\\" in pipeline_id:
        raise ConfigError(f"pipeline_id must be a name that can be a folder's (no '/'), not {pipeline_id!r}")
    if len(check_path("pipeline_id", pipeline_id).encode()) > _LONGEST_ID:
        raise ConfigError(
            f"pipeline_id is longer than the {_LONGEST_ID} bytes of a folder's name: {pipeline_id[:40]!r}…"
        )
    return str(pipeline_id)


class RunFolder:
    """The folder of one run.

    Args:
        results_dir: where runs are kept.
        pipeline_id: the run's id.

    Raises:
        ConfigError: when the id cannot be a folder's name.
    """

    storage: LocalStorage = LOCAL_STORAGE

    def __init__(self, results_dir: str | os.PathLike[str], pipeline_id: str) -> None:
        self.pipeline_id = check_pipeline_id(pipeline_id)
        self._results_dir = check_path("results_dir", os.fspath(results_dir))  # as it was given, for people
        self.path = Path(results_dir).absolute() / pipeline_id  # the program may change its working directory
        self.state_path = self.path / "runtime.json"
        self.checkpoint_path = self.path / "checkpoint.json"
        self.lock_path = self.path / "lock"
        self.owner_path = self.path / "owner.json"
        self.files_path = self.path / "files"
        self._lock: HeldLock | None = None
        self._me: Owner | None = None

    def exists(self) -> bool:
        """Return whether there is a run state."""
        return self.storage.size(str(self.state_path)) is not None

    def load(self) -> dict[str, Any]:
        """Return the run state.

        Raises:
            PipelineNotFoundError: when there is none; the message names the runs that there are.
            RunStateError: when it cannot be read.
        """
        data = self.storage.read_all(str(self.state_path))
        if data is None:
            known = ", ".join(sorted(run_ids(self.path.parent))) or "none"
            raise PipelineNotFoundError(
                f"there is no run {self.pipeline_id!r} in {self._results_dir} (runs there: {known}); check the id and "
                "results_dir, or create() it"
            )
        try:
            run_state = loads_exactly(data)
            if run_state["format"] not in {1, FORMAT}:
                raise RunStateError(
                    f"{self.state_path} has format {run_state['format']}, and this version reads {FORMAT}; use the "
                    "version of llm-datagen that made it"
                )
            if (run_state["format"] > 1 or CHECK_FIELD in run_state) and not is_unaltered(data):
                raise RunStateError(
                    f"{self.state_path} was edited: its checksum differs; restore the file. Settings of a run are "
                    "changed by create(), resume() and reconfigure, not in this file"
                )
            run_state.pop(CHECK_FIELD, None)
            _check_keys(run_state)
        except (ValueError, KeyError, TypeError) as error:
            raise RunStateError(f"{self.state_path} is not a run state: {_told(error)}; restore the file") from error
        return dict(run_state)

    def save(self, run_state: dict[str, Any]) -> None:
        """Replace the run state, atomically; `updated_at` is set.

        A resume needs the run state. So unless every node has fsync="never", it is put on the medium, too. Each time: a
        file that was not must not take the place of one that was.
        """
        run_state.update(format=FORMAT, updated_at=now_text())
        sync = any(node.get("writer_config", {}).get("fsync") != "never" for node in run_state["nodes"])
        self.storage.replace(str(self.state_path), with_check(dumps(run_state, option=_OPTIONS)), sync=sync)

    def save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Replace the checkpoint, atomically."""
        self.storage.replace(str(self.checkpoint_path), dumps(checkpoint, option=_OPTIONS), sync=False)

    def lock(self) -> None:
        """Take the run for this object. The lock goes with the process, whatever ends it.

        Raises:
            PipelineBusyError: when somebody has it.
            DiskError: when the folder or the lock cannot be made, or the file system has no locks.
        """
        for tries in range(_TRIES_AT_MOST):
            if tries >= _TRIES and self.owner() is not None:
                break
            lock = self.storage.take_lock(str(self.lock_path))
            if lock is not None:
                try:
                    self._own()
                except BaseException:
                    lock.release()
                    raise
                self._lock = lock
                return
            time.sleep(_TRY_SECONDS)  # who only looks, as `is_locked` does, has it for a moment
        raise PipelineBusyError(
            f"run {self.pipeline_id!r} in {self._results_dir} is being run{self._by_whom()}; wait for it, cancel "
            f"it (llm-datagen cancel {self.pipeline_id}), or choose another pipeline_id"
        )

    def _own(self) -> None:
        """Write down who has the lock now."""
        owner = self.owner()
        if owner is not None and owner.is_elsewhere and self._is_moving():
            raise PipelineBusyError(
                f"run {self.pipeline_id!r} in {self._results_dir} is being run by {owner}: its run state changes, but "
                f"its lock cannot be seen from {socket.gethostname()}. Wait for it, or cancel it there; and mount the "
                "file system with its locks (for NFS: without nolock, local_lock), or two processes may run it at once"
            )
        self._save_owner(Owner(**whoami(), since=now_text(), token=secrets.token_hex(8)))

    def note_control(self, path: str) -> None:
        """Write down where the control socket of a run lies whose lock is held.

        Raises:
            DiskError: when that cannot be written.
        """
        if self._me is not None:
            self._save_owner(replace(self._me, control=path))

    @property
    def token(self) -> str:
        """What tells this holder of the lock from any other one; empty when it was never held."""
        return "" if self._me is None else self._me.token

    def _save_owner(self, owner: Owner) -> None:
        self.storage.replace(str(self.owner_path), orjson.dumps(asdict(owner), option=_OPTIONS), sync=False)
        self._me = owner

    def _is_moving(self) -> bool:
        """Return whether somebody saves the state of a run that is running, though nobody has its lock."""
        before = self._moved_at()
        deadline = time.monotonic() + WATCH_SECONDS
        while before is not None and time.monotonic() < deadline:
            time.sleep(WATCH_SECONDS / 10)
            if self._moved_at() not in {None, before}:
                return True
        return False

    def _moved_at(self) -> str | None:
        """Return when the state of a running run was saved; None when it is not running."""
        try:
            run_state = self.load()
        except (PipelineNotFoundError, RunStateError):
            return None
        return run_state.get("updated_at") if run_state["status"] in {Status.RUNNING, Status.CANCELING} else None

    def unlock(self) -> None:
        """Let others take the run. May be called more than once."""
        if self._lock is not None:
            with contextlib.suppress(DiskError):  # what is left says who had it last, and keeps nobody out
                self.storage.remove(str(self.owner_path))
            self._lock.release()
            self._lock = None

    def owner(self) -> Owner | None:
        """Return who has the run, or had it when its process died; None when it was given back, or never taken."""
        try:
            data = self.storage.read_all(str(self.owner_path))
            return None if data is None else Owner(**orjson.loads(data))
        except (DiskError, ValueError, TypeError):
            return None

    def runs_elsewhere(self) -> Owner | None:
        """Return who runs it on another host whose locks cannot be seen from here, by its run state."""
        owner = self.owner()
        moved_at = self._moved_at() if owner is not None and owner.is_elsewhere else None
        if moved_at is None:
            return None
        age = datetime.now(UTC) - datetime.fromisoformat(moved_at)
        return owner if abs(age.total_seconds()) <= FRESH_SECONDS else None

    def forget(self) -> None:
        """Remove the run state and the checkpoint: there is no run of this id any more.

        Raises:
            DiskError: when they cannot be removed.
        """
        self.storage.remove(str(self.state_path))
        self.storage.remove(str(self.checkpoint_path))

    def remove_files(self) -> None:
        """Remove what the operators of the run have kept for themselves.

        Raises:
            DiskError: when it cannot be removed.
        """
        try:
            if self.files_path.exists():
                shutil.rmtree(self.files_path)
        except OSError as error:
            raise DiskError(error.errno, error.strerror or str(error), error.filename) from error

    def remove_if_unused(self) -> None:
        """Remove the folder if there is nothing in it but the lock, which nobody has."""
        if self.exists() or self.is_locked():
            return
        self.storage.remove(str(self.owner_path))
        self.storage.remove(str(self.lock_path))
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def is_locked(self) -> bool:
        """Return whether somebody, or this object, is running it."""
        if self._lock is not None:
            return True
        if not self.path.exists():
            return False
        lock = self.storage.take_lock(str(self.lock_path))
        if lock is not None:
            lock.release()
        return lock is None

    def _by_whom(self) -> str:
        """Return who has the lock: as `owner.json` says; by who has the file open, where that one is gone."""
        owner, found = self.owner(), holder(str(self.lock_path))
        if owner is None or (found and not owner.is_elsewhere and not owner.is_alive):
            left = f", left by {owner}" if owner else ""
            return f" by {found}{left}" if found else ""
        return f" by {owner}"


def run_ids(results_dir: str | os.PathLike[str]) -> list[str]:
    """Return the ids of the runs that are kept in `results_dir`."""
    try:
        return [path.parent.name for path in Path(results_dir).glob("*/runtime.json")]
    except OSError:  # such as a name that is too long
        return []
