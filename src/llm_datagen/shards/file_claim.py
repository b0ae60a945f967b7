"""Taking a shard on a file system, and taking it over: see `claim` for the files and what is guaranteed."""

from __future__ import annotations

import logging
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from llm_datagen.errors import DiskError, PipelineBusyError, ResumeWarning
from llm_datagen.errors.warned import warn
from llm_datagen.runs import RunFolder, file_names
from llm_datagen.runs.lock import RunLock
from llm_datagen.shards.committed_copy import Layout, copy_run
from llm_datagen.shards.heartbeat import Heartbeat, Signs
from llm_datagen.streams.storage.local import LOCAL_STORAGE
from llm_datagen.streams.storage.locks import HeldLock, wait_for_lock
from llm_datagen.streams.storage.os_errors import named

_TAKING = "taking"
_TRIES = 5


def run_id_of(number: int, epoch: int = 1) -> str:
    """Return the id of the run of a shard that was taken over `epoch - 1` times."""
    return f"{number:05}" if epoch == 1 else f"{number:05}.{epoch}"


class HeldClaim:
    """What a process holds that has a shard: the lock, and the heartbeat. Any thread may use it.

    Args:
        path: the folder of its run.
        lock: its lock.
        epoch: how often the shard was begun.
        seconds: the lease.

    """

    def __init__(self, path: Path, lock: HeldLock, epoch: int, seconds: float) -> None:
        self._path = path
        self._run_lock = RunLock(path, str(path.parent))
        self._lock = lock
        self._heartbeat = Heartbeat(path, epoch, seconds, is_over=self.is_lost)

    @property
    def run_id(self) -> str:
        """The id of the run of the shard: the name of its folder."""
        return self._path.name

    def begin(self) -> None:
        """Give the first sign of life.

        Raises:
            DiskError: when it cannot be written.
        """
        self._heartbeat.start()

    def move_to(self, path: Path) -> None:
        """Give the folder the name by which others find it.

        Raises:
            OSError: when another one has it.
        """
        with self._heartbeat.moving_to(path):
            self._path.rename(path)
            self._path, self._run_lock = path, RunLock(path, str(path.parent))

    def is_lost(self) -> bool:
        """Return whether somebody else has taken the shard over.

        Raises:
            DiskError: when that cannot be found out.
        """
        return self._run_lock.is_taken()

    def check(self) -> None:
        """Raise LeaseLostError if somebody else has taken the shard over."""
        self._run_lock.check()

    def release(self) -> None:
        """Give it back. May be called more than once."""
        self._heartbeat.stop()
        with suppress(DiskError):
            if not self.is_lost():
                self._heartbeat.remove()
        self._lock.release()


class FileClaim:
    """Takes a shard on a file system.

    Args:
        folder: the folder of the shards.
        number: the shard.
        seconds: the lease that it will have.
    """

    def __init__(self, folder: Path, number: int, seconds: float) -> None:
        self._folder = folder
        self._number = number
        self._seconds = seconds

    def take(self) -> HeldClaim:
        """Take it, or take it over."""
        for _ in range(_TRIES):
            epoch = epoch_of(self._folder, self._number)
            path = self._path(epoch)
            lock = LOCAL_STORAGE.take_lock(str(path / file_names.CLAIM))
            try:
                if epoch != epoch_of(self._folder, self._number):
                    continue  # somebody was faster
                signs, is_taken = Signs(path), self._lock_of(epoch).is_taken()
                if lock is not None and not is_taken and (not signs.is_there or signs.is_of_the_dead):
                    self._clean(epoch)
                    held = HeldClaim(path, lock, epoch, self._seconds)
                    held.begin()
                    lock = None
                    return held
                if not is_taken and not self._is_silent(epoch, signs, is_locked=lock is None):
                    continue  # it was given back meanwhile
                return self._take_over(epoch, signs)
            finally:
                if lock is not None:
                    lock.release()
        raise self._busy(Signs(path))

    def _is_silent(self, epoch: int, signs: Signs, *, is_locked: bool) -> bool:
        """Return whether who has an epoch gave no sign of life for a lease; raise when it did."""
        path = self._path(epoch)

        def is_over() -> bool:
            return is_locked and is_free(path)

        seconds = self._seconds if signs.seconds is None else signs.seconds
        if signs.changes_within(seconds / 2, is_over):
            raise self._busy(Signs(path))
        if not is_over():
            warn(
                f"shard {self._number} in {self._folder} is run by {_named(signs)}, who gives no sign of life; waiting "
                f"up to {seconds / 2:.0f} s more before it is taken over",
                ResumeWarning,
            )
        if signs.changes_within(seconds / 2, is_over):
            raise self._busy(Signs(path))
        return not is_over()

    def _take_over(self, epoch: int, signs: Signs) -> HeldClaim:
        """Copy an epoch to the next one; for good, it cannot be gone on with after that."""
        before, after = self._path(epoch), self._path(epoch + 1)
        run = RunFolder(str(self._folder), before.name)
        self._refuse_other_taker(epoch + 1)
        if run.exists():
            Layout.of(run.load(), run, after.name)  # what cannot be copied is refused before anything is changed
        taken, who = self._lock_of(epoch), _named(signs)
        if not taken.is_taken():
            taken.mark_taken()
        making = self._folder / _TAKING / f"{after.name}.{secrets.token_hex(8)}"
        held = None
        try:
            lock = LOCAL_STORAGE.take_lock(str(making / file_names.CLAIM))
            assert lock is not None  # nobody knows of it
            held = HeldClaim(making, lock, epoch + 1, self._seconds)
            held.begin()
            copy_run(run, making, after.name, who)
            held.move_to(after)
            LOCAL_STORAGE.sync_folder(str(self._folder))
        except BaseException as error:
            if held is not None:
                held.release()
            shutil.rmtree(making, ignore_errors=True)
            if after.exists() and isinstance(error, Exception):  # another taker was faster, and has cleaned up
                raise self._busy(Signs(after)) from error
            raise
        text = (
            f"shard {self._number} in {self._folder} was taken over from {who}, which gave no sign of life: it goes on "
            f"as {after.name}, with what was committed; what is written to {before.name} counts no more"
        )
        logging.getLogger("llm_datagen").warning(text)
        self._clean(epoch + 1)
        return held

    def _refuse_other_taker(self, epoch: int) -> None:
        """Refuse to copy what another process that lives is copying."""
        for path in self._made(epoch):
            signs = Signs(path)
            if is_free(path) or signs.seconds is None:
                continue
            if signs.changes_within(signs.seconds, lambda path=path: not path.exists() or is_free(path)):  # type: ignore[misc]
                raise self._busy(signs)

    def _clean(self, epoch: int) -> None:
        """Remove copies that others have begun to make of what is an old epoch now."""
        for old in range(2, epoch + 1):
            for path in self._made(old):
                shutil.rmtree(path, ignore_errors=True)

    def _made(self, epoch: int) -> list[Path]:
        return sorted((self._folder / _TAKING).glob(f"{run_id_of(self._number, epoch)}.*"))

    def _path(self, epoch: int) -> Path:
        return self._folder / run_id_of(self._number, epoch)

    def _lock_of(self, epoch: int) -> RunLock:
        return RunLock(self._path(epoch), str(self._folder))

    def _busy(self, signs: Signs) -> PipelineBusyError:
        return PipelineBusyError(
            f"shard {self._number} in {self._folder} is being run by {_named(signs)}; wait for it, or cancel it there. "
            "It is taken over when it gives no sign of life for the time of its lease"
        )


def _named(signs: Signs) -> str:
    return "another process" if signs.owner is None else str(signs.owner)


def is_free(path: Path, seconds: float = 0.0) -> bool:
    """Return whether nobody has claimed a folder; wait some seconds for that.

    Raises:
        DiskError: when the file system refuses.
    """
    claim = path / file_names.CLAIM
    if not claim.exists():
        return True
    try:
        lock = wait_for_lock(str(claim), seconds)
    except FileNotFoundError:  # the folder was removed just now
        return True
    except OSError as error:
        raise named(error, str(claim)) from error
    if lock is not None:
        lock.release()
    return lock is not None


def epoch_of(folder: Path, number: int) -> int:
    """Return how often a shard was begun: 1, and one more for each time that it was taken over."""
    name = re.compile(rf"{number:05}\.([1-9]\d*)")
    found = [name.fullmatch(path.name) for path in folder.glob(f"{number:05}.*")]
    return max((int(match[1]) for match in found if match), default=1)
