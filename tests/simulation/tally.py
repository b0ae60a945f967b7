"""What has happened in a simulated run, and what must be true of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .limit import most_in_a_minute
from .scenario import Scenario


@dataclass(slots=True, kw_only=True)
class Tally:
    """What is counted.

    Attributes:
        scenario: what was simulated.
        ideal_seconds: what it would take without deaths, starts and idle workers, or by the limit alone.
        seconds: what it took.
        deaths: nodes that died.
        takeovers: shards that somebody else went on with.
        splits: ranges that were split.
        repeated: calls for rows that were called before and not committed.
        bound: the most calls that these deaths may have repeated.
        committed: the rows that each turn of a worker has committed: first, and the one behind the last.
        idle_seconds: time of workers without a shard, summed up.
        driver_messages: messages to and from the driver.
        service_messages: questions to the service, by second.
        uses: when calls were made, and how many, as early or late as their grant allowed; with a limit only.
        plan_bytes_before: the size of the plan when it was made.
        plan_bytes: its size in the end.
    """

    scenario: Scenario
    ideal_seconds: float = 0.0
    seconds: float = 0.0
    deaths: int = 0
    takeovers: int = 0
    splits: int = 0
    repeated: int = 0
    bound: float = 0.0
    committed: list[tuple[int, int]] = field(default_factory=list)
    idle_seconds: float = 0.0
    driver_messages: float = 0.0
    service_messages: Counter[int] = field(default_factory=Counter)
    uses: list[tuple[float, int]] = field(default_factory=list)
    plan_bytes_before: int = 0
    plan_bytes: int = 0

    @property
    def folders(self) -> int:
        """Run folders in the end: one for each range, and one for each takeover on a file system."""
        return self.scenario.shards + self.splits + self.takeovers

    @property
    def plan_bytes_written(self) -> int:
        """The bytes of all versions of the plan: each split writes it anew."""
        return (self.splits + 1) * (self.plan_bytes_before + self.plan_bytes) // 2

    @property
    def idle_share(self) -> float:
        """Which share of their time workers had no shard."""
        return self.idle_seconds / (self.seconds * self.scenario.workers)

    @property
    def most_in_a_minute(self) -> int:
        """The most calls of any sliding minute."""
        return most_in_a_minute(self.uses)

    @property
    def limit_used(self) -> float:
        """Which share of the limit was used."""
        assert self.scenario.limit is not None
        return sum(calls for _, calls in self.uses) / (self.scenario.limit * self.seconds / 60)

    def check(self) -> None:
        """Check the invariants.

        Raises:
            AssertionError: when one does not hold.
        """
        row = 0
        for first, last in sorted(self.committed):
            assert first == row, f"rows {min(row, first)} to {max(row, first)} were committed twice, or not at all"
            row = last
        assert row == self.scenario.rows, f"rows from {row} on are missing"
        assert self.repeated <= self.bound, f"{self.repeated} calls were repeated, which is more than {self.bound:.0f}"
        if self.scenario.limit is not None:
            assert self.most_in_a_minute <= self.scenario.limit
