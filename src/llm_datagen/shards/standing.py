"""Where the shards of a run stand: what is on the disk of each, and which are left to be run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from llm_datagen.errors import DatagenError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.status import NodeReport
from llm_datagen.shards.claim import is_settled, latest
from llm_datagen.shards.given_away import followed
from llm_datagen.shards.plan import ShardPlan
from llm_datagen.shards.progress import added_up, seconds_of
from llm_datagen.shards.spec import ShardSpec
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.recovery import position_of


class Standing:
    """What is known of the shards of a run. Used by one thread.

    Args:
        shards: the folder of the shards.
        plan: which shards there are.
        spec: what they do.

    Attributes:
        plan: which shards there are, as the shards themselves say: some may end earlier; see `given_away`.
        saved_plan: the plan as it is on the disk.
    """

    def __init__(self, shards: RunFolder, plan: ShardPlan, spec: ShardSpec) -> None:
        self._shards, self._spec = shards, spec
        self.plan = self.saved_plan = plan
        self._entries: dict[int, list[Mapping[str, Any]]] = {}
        self.states: dict[int, Mapping[str, Any]] = {}
        """The run states of the shards that have begun, as they were read last."""
        self.done: set[int] = set()
        for each in plan.ranges:
            self.read(each.number)

    @property
    def entries(self) -> list[Mapping[str, Any]]:
        """The nodes, as the run state of the whole has them."""
        return list(self._spec.run_state["nodes"])

    @property
    def numbers(self) -> list[int]:
        """The numbers of all shards, in the order of the input."""
        return [each.number for each in self.plan.ranges]

    @property
    def left(self) -> list[int]:
        """The numbers of the shards that are not done, in the order of the input."""
        return [number for number in self.numbers if number not in self.done]

    def read(self, number: int) -> None:
        """Read what is on the disk of a shard."""
        shards = self._shards.location
        run_id = latest(shards, number)
        if run_id is None:
            return
        run_state = RunFolder(shards, run_id).load()
        self.states[number] = run_state
        self.plan = followed(self.plan, number, run_state)
        self._entries[number] = run_state["nodes"]
        if self._spec.is_done(run_state) and is_settled(shards, number):
            self.done.add(number)

    def now(self, number: int, status: Mapping[str, Any]) -> None:
        """Take what a shard that runs says of its nodes."""
        self._entries[number] = status["nodes"]

    def reports(self) -> tuple[NodeReport, ...]:
        """Return the report of each node over all shards."""
        known = [{entry["node_id"]: entry for entry in entries} for entries in self._entries.values()]
        not_begun = len(self.plan.ranges) - len(known)
        found, seconds = [], seconds_of(self.states.values())
        for entry in self._spec.run_state["nodes"]:
            node_id = entry["node_id"]
            of_node = [entries[node_id] for entries in known if node_id in entries]
            rows = self.plan.rows if entry["is_root"] else None
            found.append(added_up(node_id, of_node, not_begun=not_begun, rows=rows, seconds=seconds))
        return tuple(found)

    def rows_done(self, number: int) -> int:
        """Return how many rows the streams of a shard hold the results of, over all nodes."""
        state = self.states.get(number)
        return 0 if state is None else sum(_rows_done(entry) for entry in state["nodes"])


def _rows_done(entry: Mapping[str, Any]) -> int:
    with contextlib.suppress(DatagenError, OSError):  # what is wrong with the stream, the shard itself says
        found = position_of(StreamFactory.output_of(entry))
        return 0 if found is None else found[1].coverage.rows
    return 0
