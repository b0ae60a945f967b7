"""Signs of life of who has a shard on a file system: ``lease.json`` in its folder, which changes while it lives.

The lock of the kernel ends with its process; so it is not free while that is stopped, or its machine is paused. A
thread of the holder writes the file anew every third of its lease, which who is stopped does not. Who wants the shard
watches, by its own clock, whether the file changes within a whole lease. The clocks of hosts are never compared.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from llm_datagen.errors import DiskError
from llm_datagen.streams.storage.lease_record import LEASE, LeaseRecord
from llm_datagen.streams.storage.local import LOCAL_STORAGE
from llm_datagen.streams.storage.owner import Owner, now_text

_LOOKS = 20
"""How often the file is looked at during a lease, at least."""

_LOOK_SECONDS = 0.25
"""Seconds between two looks, at most: the lock of who was killed may be free a moment later."""


class Heartbeat:
    """The heartbeat of this process in a folder. A thread of its own writes it.

    Args:
        folder: the folder.
        epoch: how often the shard was taken over, from 1: the fence of the record.
        seconds: how long the lease is.
        is_over: asked with each beat: whether the shard is somebody else's by now, so that the beats end.
    """

    def __init__(self, folder: Path, epoch: int, seconds: float, is_over: Callable[[], bool] = lambda: False) -> None:
        self._folder = folder
        self._record = LeaseRecord(epoch, Owner.of_this_process(), seconds, renewed_at=now_text())
        self._is_over = is_over
        self._beating = threading.Lock()
        self._stopped = threading.Event()
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="datagen-heartbeat", daemon=True)

    def start(self) -> None:
        """Write it for the first time, and go on.

        Raises:
            DiskError: when it cannot be written.
        """
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Write it no more. May be called more than once."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def remove(self) -> None:
        """Remove it: the folder was given back.

        Raises:
            DiskError: when it cannot be removed.
        """
        LOCAL_STORAGE.remove(str(self._folder / LEASE))

    @contextlib.contextmanager
    def moving_to(self, folder: Path) -> Iterator[None]:
        """Within the block, its folder gets another name, and nothing is written."""
        with self._beating:
            yield
            self._folder = folder

    def _run(self) -> None:
        while not self._stopped.wait(self._record.seconds / 3):
            try:
                if self._is_over():
                    return
                self._beat()
                self._is_failing = False
            except DiskError as error:  # safety does not rest on it; others may think that this process is dead
                if not self._is_failing:
                    logging.getLogger("llm_datagen").warning(f"no sign of life can be written: {error}")
                self._is_failing = True

    def _beat(self) -> None:
        with self._beating:
            if self._folder.exists():
                record = self._record
                self._record = replace(record, renewals=record.renewals + 1, renewed_at=now_text())
                LOCAL_STORAGE.replace(str(self._folder / LEASE), self._record.dump(), sync=False)


class Signs:
    """What there is to be seen of who has a folder, since this object was made.

    Args:
        folder: the folder.

    Attributes:
        owner: who has it, or had it and did not give it back; None when that is not known.
        seconds: how long its lease is; None when that is not known.
    """

    def __init__(self, folder: Path) -> None:
        self._path = str(folder / LEASE)
        self._seen = LOCAL_STORAGE.read_all(self._path)
        self.owner: Owner | None = None
        self.seconds: float | None = None
        if self._seen is not None:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # of a later version: it is watched all the same
                record = LeaseRecord.parse(self._seen)
                self.owner, self.seconds = record.owner, record.seconds

    @property
    def is_there(self) -> bool:
        """Whether somebody has it, or did not give it back."""
        return self._seen is not None

    @property
    def is_of_the_dead(self) -> bool:
        """Whether its owner, whose lock is free, is known to be dead: it was a process of this very machine."""
        owner = self.owner
        if owner is None:
            return False
        is_here = not owner.machine and not owner.is_elsewhere  # where nothing tells containers apart
        return owner.is_dead or owner.is_this_process or (is_here and not owner.is_alive)

    def changes_within(self, seconds: float, is_over: Callable[[], bool]) -> bool:
        """Watch the folder for some seconds, or until `is_over`; return whether there was a sign of life."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not is_over():
            if self.has_changed():
                return True
            time.sleep(min(seconds / _LOOKS, _LOOK_SECONDS))
        return self.has_changed()

    def has_changed(self) -> bool:
        """Return whether there was a sign of life since."""
        now = LOCAL_STORAGE.read_all(self._path)
        return now is not None and now != self._seen
