"""When workers have nothing to do, a shard that runs is asked to give away half of what it has not begun."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from llm_datagen.actors.stage import Recipient, tell
from llm_datagen.errors import DatagenError
from llm_datagen.messages import GiveAway
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.runs.status import Status
from llm_datagen.shards.executor import ShardHandle
from llm_datagen.shards.given_away import noted_cut
from llm_datagen.shards.plan import Cut, ShardPlan
from llm_datagen.shards.plan_file import PlanFile
from llm_datagen.shards.splittable import only_reader
from llm_datagen.shards.standing import Standing
from llm_datagen.shards.stealing import RangeProgress, which_to_split

LEAST_SECONDS = 2.0
"""A shard that will have ended by then is left alone: a new one has to be begun, too."""

AGAIN_SECONDS = 1.0
"""How long nobody is asked after one has refused."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A shard has answered.

    Attributes:
        number: which one.
        cut: from where on it was to give its rows away.
        plan: the plan after it was split there; None when the shard has refused, or could not be asked.
        error: why the plan could not be split, though the shard has given its rows away.
    """

    number: int
    cut: Cut
    plan: ShardPlan | None = None
    error: DatagenError | None = None


class Splitter:
    """Splits the plan of a run in shards while it runs. Used by the supervisor's thread.

    Args:
        standing: where the shards stand.
        file: the file of the plan.
        at_once: how many shards may run at once.
        may_split: whether shards may be asked. What they have noted before is followed in any case.
        log: the platform log.

    Attributes:
        is_asking: whether a shard has not answered yet.
    """

    def __init__(self, standing: Standing, file: PlanFile, *, at_once: int, may_split: bool, log: PlatformLog) -> None:
        self._standing, self._file, self._at_once, self._log = standing, file, at_once, log
        self._reader = only_reader(standing.entries) if may_split else None
        self._refused: dict[int, int] = {}  # rows that shards have begun already, by the shard
        self._not_before = float("-inf")
        self._pool = ThreadPoolExecutor(1, "datagen-shard-splits")
        self.is_asking = False

    def save(self) -> list[int]:
        """Split the plan on the disk where shards have noted that they end; return the numbers of new shards.

        Raises:
            DatagenError: when the plan cannot be read or written.
        """
        if self._standing.plan == self._standing.saved_plan:
            return []
        before = self._standing.saved_plan
        for each in before.ranges:
            run_state = self._standing.states.get(each.number)
            cut = None if run_state is None else noted_cut(self._standing.saved_plan, each.number, run_state)
            if cut is not None:
                self._take(each.number, cut, self._file.split(each.number, cut))
        known = {each.number for each in before.ranges}
        return [number for number in self._standing.numbers if number not in known]

    def ask(self, running: Mapping[int, ShardHandle], now: float, supervisor: Recipient) -> None:
        """Have the shard that would end last asked for rows, if a worker has nothing to do. Does not wait.

        Args:
            running: the shards that run.
            now: the time, in seconds.
            supervisor: is told `Asked`.
        """
        idle = self._at_once - len(running)
        if self._reader is None or self.is_asking or now < self._not_before or idle < 1:
            return
        known = [self._progress(number, handle) for number, handle in running.items()]
        ranges = [progress for progress in known if progress is not None]
        found = which_to_split(ranges, self._standing.plan.cuts, idle, LEAST_SECONDS)
        if found is not None:
            number, cut = found
            self.is_asking, self._not_before = True, now + AGAIN_SECONDS
            self._pool.submit(self._ask, running[number], cut, supervisor)

    def _ask(self, handle: ShardHandle, cut: Cut, supervisor: Recipient) -> None:
        """Ask a shard; if it gives its rows away, split the plan there. On a thread of the pool."""
        asked = Asked(handle.number, cut)
        try:
            # An error: it has ended, or does not answer. What it may have noted is followed when it has ended.
            with contextlib.suppress(Exception):
                if handle.send(GiveAway(cut.row, cut.at)) is True:
                    asked = self._split(asked)
        finally:
            tell(supervisor, asked)

    def _split(self, asked: Asked) -> Asked:
        try:
            return replace(asked, plan=self._file.split(asked.number, asked.cut))
        except DatagenError as error:
            return replace(asked, error=error)

    def answered(self, asked: Asked) -> list[int]:
        """Take the answer of a shard; return the numbers of new shards.

        Raises:
            DatagenError: when the plan cannot be read or written. The shard has noted its end: a resume follows it.
        """
        self.is_asking = False
        if asked.error is not None:
            raise asked.error
        if asked.plan is None:
            self._refused[asked.number] = asked.cut.row
            return []
        known = set(self._standing.numbers)
        # A plan only grows: of two, the longer one is what is on the disk.
        plan = max(asked.plan, self._standing.saved_plan, key=lambda plan: len(plan.ranges))
        self._take(asked.number, asked.cut, plan)
        self._not_before = float("-inf")
        return [number for number in self._standing.numbers if number not in known]

    def close(self) -> None:
        """Wait until no shard is asked any more: those that run have been ended."""
        self._pool.shutdown()

    def _take(self, number: int, cut: Cut, plan: ShardPlan) -> None:
        new = next(each.number for each in plan.ranges if each.first.row == cut.row)
        self._standing.plan = self._standing.saved_plan = plan
        self._log.info(events.SHARD_SPLIT, shard=number, row=cut.row, new=new)

    def _progress(self, number: int, handle: ShardHandle) -> RangeProgress | None:
        status = handle.status()
        if status is None:
            return None
        node = next(each for each in status["nodes"] if each["node_id"] == self._reader)
        if node["status"] != Status.RUNNING:
            return None
        of = self._standing.plan.range_of(number)
        begun = max(of.first.row + node["rows_in"], self._refused.get(number, 0))
        return RangeProgress(number, begun, of.last.row, node["rows_per_second"] or None)
