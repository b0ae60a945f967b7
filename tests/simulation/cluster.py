"""A driver, its nodes and their workers, from the plan to the last row."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable

from llm_datagen.shards.stealing import RangeProgress, which_to_split

from .agenda import Agenda
from .limit import Limit
from .plans import even_plan, plan_bytes
from .scenario import Scenario
from .tally import Tally
from .workers import Shard, Worker


def simulate(scenario: Scenario) -> Tally:
    """Run a scenario to its end, and check the invariants.

    Raises:
        AssertionError: when an invariant does not hold.
    """
    tally = _Cluster(scenario).run()
    tally.check()
    return tally


class _Cluster:
    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._random = random.Random(scenario.seed)
        self._agenda = Agenda()
        self._plan = even_plan(scenario.rows, scenario.shards, scenario.grain)
        self._ends = {each.number: each.last.row for each in self._plan.ranges}
        self._rows = {each.number: each.first.row for each in self._plan.ranges}  # the first that is not committed
        self._waiting = deque(self._ends)
        self._idle: dict[Worker, float] = {}  # and since when
        self._busy: dict[int, Worker] = {}
        self._left = scenario.shards
        self._limit = None if scenario.limit is None else Limit(scenario.limit, scenario.slice_seconds)
        self._tally = Tally(scenario=scenario)

    def run(self) -> Tally:
        """Run the plan to its end."""
        before = plan_bytes(self._plan)
        speed = sum(self._new_node(node) for node in range(self._scenario.nodes))
        self._hand_out()
        self._agenda.after(self._scenario.look_seconds, self._look)
        self._agenda.run(lambda: self._left == 0)
        tally, rows, limit = self._tally, self._scenario.rows, self._scenario.limit
        tally.seconds = self._agenda.now
        tally.ideal_seconds = max(rows / speed, 0 if limit is None else rows * 60 / limit)
        tally.idle_seconds += sum(tally.seconds - since for since in self._idle.values())
        tally.plan_bytes_before, tally.plan_bytes = before, plan_bytes(self._plan)
        return tally

    # Nodes

    def _new_node(self, node: int) -> float:
        """Start a node; return the rows per second of its workers."""
        scenario = self._scenario
        workers = [
            Worker(node, scenario.rows_per_second * self._random.lognormvariate(0, scenario.spread))
            for _ in range(scenario.workers_per_node)
        ]
        self._idle |= dict.fromkeys(workers, self._agenda.now)
        if scenario.node_life is not None:
            self._agenda.after(self._random.expovariate(1 / scenario.node_life), lambda: self._die(node, workers))
        return sum(worker.speed for worker in workers)

    def _die(self, node: int, workers: list[Worker]) -> None:
        self._tally.deaths += 1
        for worker in workers:
            worker.is_dead = True
            if worker.number is None:
                self._tally.idle_seconds += self._agenda.now - self._idle.pop(worker)
                continue
            number = worker.number
            self._lose(worker)
            self._agenda.after(self._scenario.lease_seconds, lambda number=number: self._expire(number))  # type: ignore[misc]
        self._agenda.after(self._scenario.replace_seconds, lambda: self._replace(node))

    def _replace(self, node: int) -> None:
        self._new_node(node)
        self._hand_out()

    def _lose(self, worker: Worker) -> None:
        """End the turn of a worker that has died: what it has not committed is called again."""
        scenario, shard, now = self._scenario, worker.shard, self._agenda.now
        assert worker.number is not None
        del self._busy[worker.number]
        self._tally.bound += scenario.parallel_size + worker.speed * scenario.flush_seconds
        if shard is not None:
            done, committed = shard.done(now), shard.committed(now, scenario.flush_seconds)
            self._tally.repeated += done - committed + min(scenario.parallel_size, shard.stop - done)
            self._note(shard, committed)

    def _expire(self, number: int) -> None:
        self._tally.takeovers += 1
        self._waiting.appendleft(number)
        self._hand_out()

    # Shards

    def _hand_out(self) -> None:
        """Give ranges that wait to workers that have none."""
        while self._waiting and self._idle:
            worker, since = self._idle.popitem()
            self._tally.idle_seconds += self._agenda.now - since
            number = worker.number = self._waiting.popleft()
            self._busy[number] = worker
            self._tally.driver_messages += 1
            self._later(worker, self._scenario.start_seconds, self._begin)

    def _begin(self, worker: Worker) -> None:
        number, now = worker.number, self._agenda.now
        assert number is not None
        row, last = self._rows[number], self._ends[number]
        worker.shard = Shard(
            number=number, last=last, began=now, first=row, row=row, since=now, stop=row, speed=worker.speed
        )
        self._go_on(worker)

    def _go_on(self, worker: Worker) -> None:
        """Let a shard go on: to its end, or as far as calls are granted."""
        shard, now = worker.shard, self._agenda.now
        assert shard is not None
        if self._limit is None:
            shard.go_on(now, shard.last)
        else:
            seconds = self._scenario.slice_seconds
            row = shard.done(now)
            granted = self._limit.ask(now, min(shard.last - row, math.ceil(shard.speed * seconds)))
            self._tally.service_messages[int(now)] += 1
            if granted:
                self._tally.uses.append((now + self._random.choice((0, seconds)), granted))
            shard.go_on(now, row + granted)
        self._wait_for_stop(worker)

    def _wait_for_stop(self, worker: Worker) -> None:
        shard = worker.shard
        assert shard is not None
        left = shard.since + shard.seconds_to_stop - self._agenda.now
        if shard.stop == shard.last:
            self._later(worker, left, self._end)
        else:
            self._later(worker, shard.since + self._scenario.slice_seconds - self._agenda.now, self._go_on)

    def _end(self, worker: Worker) -> None:
        shard = worker.shard
        assert shard is not None
        self._note(shard, shard.last)
        del self._busy[shard.number]
        worker.number, worker.shard = None, None
        self._idle[worker] = self._agenda.now
        self._left -= 1
        self._hand_out()

    def _note(self, shard: Shard, committed: int) -> None:
        """Note what a turn has committed, and the messages that it sent."""
        self._tally.committed.append((shard.first, committed))
        self._rows[shard.number] = committed
        self._tally.driver_messages += (self._agenda.now - shard.began) / self._scenario.status_seconds + 1

    def _later(self, worker: Worker, seconds: float, event: Callable[[Worker], None]) -> None:
        worker.turn += 1
        turn = worker.turn

        def happen() -> None:
            if worker.turn == turn and not worker.is_dead:
                event(worker)

        self._agenda.after(max(0.0, seconds), happen)

    # Stealing

    def _look(self) -> None:
        if self._scenario.has_stealing:
            while self._idle and not self._waiting and self._steal():
                self._hand_out()
        self._agenda.after(self._scenario.look_seconds, self._look)

    def _steal(self) -> bool:
        """Split the range that would end last; return whether there was one."""
        now, scenario = self._agenda.now, self._scenario
        found = which_to_split(
            [self._progress(worker, now) for worker in self._busy.values()],
            self._plan.cuts,
            len(self._idle),
            least_seconds=2 * scenario.start_seconds + scenario.look_seconds,
        )
        if found is None:
            return False
        number, cut = found
        self._plan = self._plan.split(number, cut)
        new = self._plan.range_of_row(cut.row)
        self._ends[number], self._ends[new.number], self._rows[new.number] = cut.row, new.last.row, cut.row
        self._waiting.append(new.number)
        self._left += 1
        self._tally.splits += 1
        self._tally.driver_messages += 2
        worker = self._busy[number]
        if worker.shard is not None:
            shard = worker.shard
            shard.last = cut.row
            shard.stop = min(shard.stop, cut.row)
            self._wait_for_stop(worker)
        return True

    def _progress(self, worker: Worker, now: float) -> RangeProgress:
        number, shard = worker.number, worker.shard
        assert number is not None
        if shard is None:
            return RangeProgress(number, self._rows[number], self._ends[number])
        begun = min(shard.last, shard.done(now) + self._scenario.parallel_size)
        return RangeProgress(number, begun, shard.last, shard.measured_speed(now))
