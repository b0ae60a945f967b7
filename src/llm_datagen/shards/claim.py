"""Who may run a shard: one process at a time, also when the one that had it is stopped, paused, or cut off.

In a store, a shard has one run, whose lease says who may begin, and whose conditional puts refuse whoever was
succeeded: see `runs.lease`. Nothing is added here.

On a file system, these are the files:

    00003/claim        locked, by the kernel, while a process has the shard
    00003/lease.json   its heartbeat: see `heartbeat`
    00003/taken.json   there once somebody takes the shard over: nothing that is written after that counts
    00003.2/           the shard after that: a copy of what was committed; the next one is 00003.3
    taking/00003.2.…/  such a copy while it is made

A lock that is free may be taken: its process has ended, and the run goes on in its folder. Who holds a lock without a
sign of life for a whole lease is taken over: (1) ``taken.json`` is written, (2) what is committed is copied, (3) the
copy is renamed to ``00003.2``, with the claim on it, which one of several takers can do.

Guarantees:
    Rows of one folder count: of the latest epoch. Each was written by one process at a time.
    A run that has ended without `LeaseLostError` is in that folder: it has saved its state before it looked for
    ``taken.json``, and a taker writes that before it reads the state. So either the run is told, or the taker copies
    all of it.
    A folder with ``taken.json`` is never gone on with. So a taker that was stopped, too, can only come too late.

Assumes that the file system renames atomically, and shows to all hosts what was written, once it is written.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from llm_datagen.config import check_seconds
from llm_datagen.errors import PipelineBusyError
from llm_datagen.runs import RunFolder, file_names
from llm_datagen.runs.lock import RunLock
from llm_datagen.runs.results_dir import absolute
from llm_datagen.shards.file_claim import FileClaim, HeldClaim, epoch_of, is_free, run_id_of
from llm_datagen.shards.heartbeat import Signs
from llm_datagen.streams.storage.lease import LEASE_SECONDS
from llm_datagen.streams.storage.local import LOCAL_STORAGE
from llm_datagen.streams.storage.object_uri import is_object_uri

_PROBE_SECONDS = 0.5
"""Who wants a shard looks whether its lock is free, and has it for a moment then."""


def latest(shards_folder: str | os.PathLike[str], number: int) -> str | None:
    """Return the id of the run of a shard, after all takeovers; None when none has begun.

    Args:
        shards_folder: the folder of the shards, ``<results_dir>/<id>/shards``, or its address in a store.
        number: the shard, from 0.

    Raises:
        DiskError: when a store refuses, or cannot be reached.
    """
    folder = absolute(shards_folder)
    run_id = run_id_of(number, 1 if is_object_uri(folder) else epoch_of(Path(folder), number))
    return run_id if RunFolder(folder, run_id).exists() else None


def is_settled(shards_folder: str | os.PathLike[str], number: int) -> bool:
    """Return whether a shard that had completed stays so: nobody has it, or takes it over.

    Ask this after its run state was read. Always so in a store: nobody replaces a run state there without having read
    it.

    Args:
        shards_folder: as for `latest`.
        number: the shard, from 0.

    Raises:
        DiskError: when that cannot be found out.
    """
    folder = absolute(shards_folder)
    if is_object_uri(folder):
        return True
    path = Path(folder, run_id_of(number, epoch_of(Path(folder), number)))
    return is_free(path, _PROBE_SECONDS) and not RunLock(path, folder).is_taken()


@contextlib.contextmanager
def nobody_in(shards_folder: str | os.PathLike[str]) -> Iterator[None]:
    """Within the block, nobody has a shard, or can take one that was begun: to remove them. On a file system.

    Args:
        shards_folder: as for `latest`.

    Raises:
        PipelineBusyError: when somebody has one, also one that was taken over from him.
        DiskError: when the disk refuses.
    """
    with contextlib.ExitStack() as held:
        for path in sorted(Path(shards_folder).glob(f"*/{file_names.CLAIM}")):
            lock = LOCAL_STORAGE.take_lock(str(path))
            if lock is None:
                owner = Signs(path.parent).owner
                raise PipelineBusyError(
                    f"the shard in {path.parent} is being run{f' by {owner}' if owner else ''}; wait for it, or end it"
                )
            held.enter_context(lock)
        yield


class Claim:
    """A shard that this process may run: its run lies in a folder that is nobody else's. Any thread may use it.

    As a context manager, it is given back at the end of the block.

    Attributes:
        run_id: the id of the run, in the folder of the shards.
    """

    run_id: str

    def __init__(self, run_id: str, held: HeldClaim | None = None) -> None:
        self.run_id = run_id
        self._held = held

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken the shard over. In a store, its run is told by itself."""
        return self._held is not None and self._held.is_lost()

    def check(self) -> None:
        """Check that nobody has taken the shard over.

        Raises:
            LeaseLostError: when somebody has.
            DiskError: when that cannot be found out.
        """
        if self._held is not None:
            self._held.check()

    def release(self) -> None:
        """Let others have the shard. May be called more than once."""
        if self._held is not None:
            self._held.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


def take(shards_folder: str | os.PathLike[str], number: int, *, lease_seconds: float = LEASE_SECONDS) -> Claim:
    """Take a shard; take it over, if who has it gives no sign of life for a whole lease. Waits that long, at most.

    Args:
        shards_folder: as for `latest`.
        number: the shard, from 0.
        lease_seconds: how long others wait for a sign of life of this process; in a store, that is always 30 s.

    Warns:
        ResumeWarning: when it waits for a sign of life.

    Raises:
        PipelineBusyError: when somebody has it, who lives.
        RunStateError: when it cannot be taken over: a row might be called twice where the run must not, or more than
            rows is kept with them.
        StreamError: when what was committed is not there.
        DiskError: when a disk or a store refuses.
    """
    check_seconds("lease_seconds", lease_seconds)
    folder = absolute(shards_folder)
    if is_object_uri(folder):
        return Claim(run_id_of(number))  # its run takes the lease, or is refused
    held = FileClaim(Path(folder), number, lease_seconds).take()
    return Claim(held.run_id, held)
