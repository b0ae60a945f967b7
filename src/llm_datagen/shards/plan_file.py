"""The file of a plan, ``<results_dir>/<id>/shards/plan.json``: made once, and changed only by splits.

Any number of processes may make it, and split ranges, at once, on this machine or others. Who comes first has made it;
the others get that plan. On a file system, a lock keeps them apart; on a store, each replaces the version that it read.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from llm_datagen.errors import PipelineNotFoundError, RunStateError
from llm_datagen.shards.plan import FORMAT, Cut, ShardPlan
from llm_datagen.streams.checksums import is_unaltered, with_check
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.storage.local import LOCAL_STORAGE, LocalStorage
from llm_datagen.streams.storage.locks import wait_for_lock
from llm_datagen.streams.storage.object_uri import ObjectUri, is_object_uri
from llm_datagen.streams.storage.objects import OBJECT_STORAGE, connect

RESTORE = "restore the file, or start afresh with if_exists='overwrite'"
"""What to do about a plan, or what else is written of all shards, that is damaged or gone."""

PLAN_FILE = "plan.json"
_LOCK_FILE = "plan.lock"

_Change = Callable[[ShardPlan | None], ShardPlan]
"""Given the plan that is there, returns the one that is to be there."""


class PlanFile:
    """The file of a plan. Any thread may use it.

    Args:
        folder: the folder of the shards of a run: a path, or an address in a store.
    """

    storage: LocalStorage = LOCAL_STORAGE

    def __init__(self, folder: str) -> None:
        self.folder = folder.rstrip("/")
        self.path = f"{self.folder}/{PLAN_FILE}"
        self._is_on_store = is_object_uri(folder)

    def create(self, plan: ShardPlan) -> ShardPlan:
        """Put a plan there, unless there is one; return the plan that is there.

        Raises:
            RunStateError: when what is there cannot be read.
            DiskError: when it cannot be read or written.
        """
        return self._change(lambda there: plan if there is None else there)

    def split(self, number: int, cut: Cut) -> ShardPlan:
        """Split the range of a shard; return the plan that is there then. See `ShardPlan.split`.

        Raises:
            RunError: when there is no such shard, or the cut does not lie in its range.
            PipelineNotFoundError: when there is no plan.
            RunStateError: when it cannot be read.
            DiskError: when it cannot be read or written.
        """
        return self._change(lambda there: (there or self.load()).split(number, cut))

    def load(self) -> ShardPlan:
        """Return the plan.

        Raises:
            PipelineNotFoundError: when there is none.
            RunStateError: when it cannot be read.
            DiskError: when the disk, or the store, refuses.
        """
        found = self.find()
        if found is None:
            raise PipelineNotFoundError(f"there is no plan of shards ({self.path}); create the run with shards first")
        return found

    def find(self) -> ShardPlan | None:
        """Return the plan; None when there is none.

        Raises:
            RunStateError: when it cannot be read.
            DiskError: when the disk, or the store, refuses.
        """
        if not self._is_on_store:
            data = self.storage.read_all(self.path)
            return None if data is None else self._parse(data)
        where = ObjectUri.parse(self.path)
        found = connect(where).get(where.key)
        return None if found is None else self._parse(found[0])

    def _change(self, change: _Change) -> ShardPlan:
        return self._change_on_store(change) if self._is_on_store else self._change_locally(change)

    def _change_locally(self, change: _Change) -> ShardPlan:
        self.storage.make_folder(self.folder)
        lock = wait_for_lock(f"{self.folder}/{_LOCK_FILE}", None)
        assert lock is not None
        with lock:
            there = self.find()
            plan = change(there)
            if plan != there:
                self.storage.replace(self.path, _serialize(plan), sync=True)
            return plan

    def _change_on_store(self, change: _Change) -> ShardPlan:
        OBJECT_STORAGE.check_conditional_puts(self.path)
        where = ObjectUri.parse(self.path)
        bucket = connect(where)
        while True:
            found = bucket.get(where.key)
            there = None if found is None else self._parse(found[0])
            plan = change(there)
            if plan == there or bucket.put_if(where.key, _serialize(plan), None if found is None else found[1]):
                return plan

    def _parse(self, data: bytes) -> ShardPlan:
        try:
            value = loads_exactly(data)
            if isinstance(value, dict) and value.get("format") == FORMAT and not is_unaltered(data):
                raise RunStateError(f"{self.path} was damaged or edited: its checksum differs; {RESTORE}")
            return ShardPlan.parse(value)
        except ValueError as error:
            raise RunStateError(
                f"{self.path} cannot be read as the plan of a run in shards: {error}; {RESTORE}; one of a newer "
                "format is for the version of llm-datagen that made it"
            ) from error


def _serialize(plan: ShardPlan) -> bytes:
    """Return the file of a plan. No two are the same: a store tells who has put one by what it holds."""
    return with_check(dumps({**plan.as_dict(), "writer": uuid.uuid4().hex}))
