"""The lock of a run: of all processes that share a folder of results, one runs it (M23).

    lock        locked, by the operating system, while a process has the run
    owner.json  who has it: host, process, since when, its control socket; gone when the lock was given back
    taken.json  only of a shard: that it was taken over, and goes on in another folder; see `shards.claim`

The lock is one of the kernel. It ends with its process, whatever ends that, and reaches as far as the file system's
locks do: over NFS with its locks (the default of v4; v3 with lockd) to other machines. `owner.json` is for the message.
Where a file system says that it locks, but each machine does so for itself (NFS mounted with `nolock` or `local_lock`),
it is the second line of defence: a run of another host whose run state still changes is not taken. A file system
without locks is refused.
"""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

import orjson

from llm_datagen.errors import DiskError, LeaseLostError, PipelineBusyError, RunStateError
from llm_datagen.runs import file_names
from llm_datagen.runs.state_file import OPTIONS, parse
from llm_datagen.runs.status import Status
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.streams.storage.local import LOCAL_STORAGE, LocalStorage
from llm_datagen.streams.storage.locks import HeldLock, holder
from llm_datagen.streams.storage.os_errors import named
from llm_datagen.streams.storage.owner import Owner

_TRIES = 5
_TRIES_AT_MOST = 100
"""Without an owner's record, the lock is held by somebody who only looks: then try on."""

_TRY_SECONDS = 0.02

WATCH_SECONDS = 2.0
"""How long to watch a run of another host for signs of life: four times the interval of its saves."""

FRESH_SECONDS = 10.0
"""A run of another host whose run state is not older is shown as running. By the clocks of both."""


class RunLock:
    """The lock of one run, and the record of its owner.

    Args:
        folder: the run's folder, whose name is the run's id.
        results_dir: where runs are kept, as it was given: for messages.
    """

    storage: LocalStorage = LOCAL_STORAGE

    def __init__(self, folder: Path, results_dir: str) -> None:
        self.path = folder / file_names.LOCK
        self.owner_path = folder / file_names.OWNER
        self._taken_path = str(folder / file_names.TAKEN)
        self._state_path = str(folder / file_names.RUN_STATE)
        self._folder = folder
        self._name = f"run {folder.name!r} in {results_dir}"
        self._lock: HeldLock | None = None
        self._me: Owner | None = None

    def acquire(self) -> None:
        """Take the run for this object. The lock goes with the process, whatever ends it.

        Raises:
            PipelineBusyError: when somebody has it.
            LeaseLostError: when it was taken over, so that nobody can have it any more.
            DiskError: when the folder or the lock cannot be made, or the file system has no locks.
        """
        for tries in range(_TRIES_AT_MOST):
            if tries >= _TRIES and self.owner() is not None:
                break
            lock = self.storage.take_lock(str(self.path))
            if lock is not None:
                try:
                    self._own()
                except BaseException:
                    lock.release()
                    raise
                self._lock = lock
                return
            time.sleep(_TRY_SECONDS)  # who only looks, as `is_held` does, has it for a moment
        raise PipelineBusyError(
            f"{self._name} is being run{self._by_whom()}; wait for it, cancel it "
            f"({command_line('cancel', self._folder.name, str(self._folder.parent))}), or choose another pipeline_id"
        )

    def release(self) -> None:
        """Let others take the run. May be called more than once."""
        if self._lock is not None:
            with contextlib.suppress(DiskError):  # what is left says who had it last, and keeps nobody out
                self.storage.remove(str(self.owner_path))
            self._lock.release()
            self._lock = None

    def check(self) -> None:
        """Check that the run was not taken over: looks for one file.

        Raises:
            LeaseLostError: when it was, so that nothing that is written to its folder counts any more.
            DiskError: when that cannot be found out.
        """
        data = self.storage.read_all(self._taken_path)
        if data is not None:
            raise LeaseLostError(
                f"{self._name} was taken over by {_by_in(data)}: what had it gave no sign of life. What was committed "
                "until then goes on there, and what is written here since counts no more"
            )

    def mark_taken(self) -> None:
        """Write down, for good, that the run is taken over: whoever has it can end nothing of it any more.

        Several processes may do so at once; the first one is named.

        Raises:
            DiskError: when that cannot be written.
        """
        data = orjson.dumps({"by": str(Owner.of_this_process())}, option=OPTIONS)
        try:
            with FileIO(self._taken_path, "xb") as file:  # that it is there is what counts
                self.storage.write(file, data)
                self.storage.sync_file(file)
        except FileExistsError:
            pass
        except OSError as error:
            raise named(error, self._taken_path) from error
        self.storage.sync_folder(str(self._folder))

    def is_taken(self) -> bool:
        """Return whether it was taken over, or is being taken over.

        Raises:
            DiskError: when that cannot be found out.
        """
        return self.storage.size(self._taken_path) is not None

    def is_held(self) -> bool:
        """Return whether somebody, or this object, has it."""
        if self._lock is not None:
            return True
        if not self.path.parent.exists():
            return False
        lock = self.storage.take_lock(str(self.path))
        if lock is not None:
            lock.release()
        return lock is None

    def owner(self) -> Owner | None:
        """Return who has the run, or had it when its process died; None when it was given back, or never taken."""
        try:
            data = self.storage.read_all(str(self.owner_path))
            return None if data is None else Owner(**orjson.loads(data))
        except (DiskError, ValueError, TypeError):
            return None

    def owner_elsewhere(self) -> Owner | None:
        """Return who runs it on another host whose locks cannot be seen from here, by its run state."""
        owner = self.owner()
        saved_at = self._saved_at() if owner is not None and owner.is_elsewhere else None
        if saved_at is None:
            return None
        age = datetime.now(UTC) - datetime.fromisoformat(saved_at)
        return owner if abs(age.total_seconds()) <= FRESH_SECONDS else None

    @property
    def token(self) -> str:
        """A random id of this holder of the lock; empty before it was ever held."""
        return "" if self._me is None else self._me.token

    def note_control(self, path: str) -> None:
        """Write down where the control socket of the run lies, while the lock is held.

        Raises:
            DiskError: when that cannot be written.
        """
        if self._me is not None:
            self._save_owner(replace(self._me, control=path))

    def remove(self) -> None:
        """Remove the files of a lock that nobody holds."""
        self.storage.remove(str(self.owner_path))
        self.storage.remove(str(self.path))

    def _own(self) -> None:
        """Write down who has the lock now."""
        self.check()
        owner = self.owner()
        if owner is not None and owner.is_elsewhere and self._is_changing():
            raise PipelineBusyError(
                f"{self._name} is being run by {owner}: its run state changes, but its lock cannot be seen from "
                f"{socket.gethostname()}. Wait for it, or cancel it there; and mount the file system with its locks "
                "(for NFS: without nolock, local_lock), or two processes may run it at once"
            )
        self._save_owner(Owner.of_this_process())

    def _save_owner(self, owner: Owner) -> None:
        known = {key: value for key, value in asdict(owner).items() if key != "machine"}  # what every version reads
        self.storage.replace(str(self.owner_path), orjson.dumps(known, option=OPTIONS), sync=False)
        self._me = owner

    def _is_changing(self) -> bool:
        """Return whether somebody saves the state of a run that is running, though nobody has its lock."""
        before = self._saved_at()
        deadline = time.monotonic() + WATCH_SECONDS
        while before is not None and time.monotonic() < deadline:
            time.sleep(WATCH_SECONDS / 10)
            if self._saved_at() not in {None, before}:
                return True
        return False

    def _saved_at(self) -> str | None:
        """Return when the state of the run was saved; None when the run is not running."""
        data = self.storage.read_all(self._state_path)
        if data is None:
            return None
        try:
            run_state = parse(data, self._state_path)
        except RunStateError:
            return None
        return run_state.get("updated_at") if run_state["status"] in {Status.RUNNING, Status.CANCELING} else None

    def _by_whom(self) -> str:
        """Return who has the lock: as `owner.json` says; by who has the file open, where that one is gone."""
        owner, found = self.owner(), holder(str(self.path))
        if owner is None or (found and not owner.is_elsewhere and not owner.is_alive):
            left = f", left by {owner}" if owner else ""
            return f" by {found}{left}" if found else ""
        return f" by {owner}"


def _by_in(data: bytes) -> str:
    """Return who has taken a run over, by its mark."""
    try:
        return str(orjson.loads(data)["by"])
    except (ValueError, KeyError, TypeError):
        return "another process"
