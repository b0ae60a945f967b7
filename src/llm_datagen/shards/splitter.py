"""When workers have nothing to do, a shard that runs is asked to give away half of what it has not begun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    """

    number: int
    cut: Cut
    plan: ShardPlan | None


class Splitter:
    """Splits the plan of a run in shards while it runs. Used by the supervisor's thread, but for `ask`.

    Args:
        standing: where the shards stand.
        file: the file of the plan.
        at_once: how many shards may run at once.
        may_split: whether shards may be asked. What they have noted before is followed in any case.
        log: the platform log.
    """

    def __init__(self, standing: Standing, file: PlanFile, *, at_once: int, may_split: bool, log: PlatformLog) -> None:
        self._standing, self._file, self._at_once, self._log = standing, file, at_once, log
        self._reader = only_reader(standing.entries) if may_split else None
        self._refused: dict[int, int] = {}  # rows that shards have begun already, by the shard
        self._not_before = float("-inf")
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

    def choose(self, running: Mapping[int, ShardHandle], now: float) -> tuple[int, Cut] | None:
        """Return the shard that is to be asked now, and from where on; None for none.

        Args:
            running: the shards that run.
            now: the time, in seconds.
        """
        idle = self._at_once - len(running)
        if self._reader is None or self.is_asking or now < self._not_before or idle < 1:
            return None
        known = [self._progress(number, handle) for number, handle in running.items()]
        ranges = [progress for progress in known if progress is not None]
        return which_to_split(ranges, self._standing.plan.cuts, idle, LEAST_SECONDS)

    def ask(self, handle: ShardHandle, cut: Cut) -> Asked:
        """Ask a shard; if it gives its rows away, split the plan there. On any thread; blocks.

        Raises:
            DatagenError: when the plan cannot be read or written. The shard has noted its end: it is followed later.
        """
        try:
            is_given = handle.send(GiveAway(cut.row, cut.at)) is True
        except DatagenError:  # it has ended, or does not answer; what it may have noted is followed when it has ended
            is_given = False
        return Asked(handle.number, cut, self._file.split(handle.number, cut) if is_given else None)

    def answered(self, asked: Asked, now: float) -> list[int]:
        """Take the answer of a shard; return the numbers of new shards."""
        if asked.plan is None:
            self._refused[asked.number] = asked.cut.row
            self._not_before = now + AGAIN_SECONDS
            return []
        known = set(self._standing.numbers)
        # A plan only grows: of two, the longer one is what is on the disk.
        self._take(
            asked.number, asked.cut, max(asked.plan, self._standing.saved_plan, key=lambda plan: len(plan.ranges))
        )
        return [number for number in self._standing.numbers if number not in known]

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
