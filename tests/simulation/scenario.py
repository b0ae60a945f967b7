"""What is simulated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A sharded run, and the machines that it has. Times are seconds of the simulated clock.

    Attributes:
        name: of the line in the table.
        seed: of all that happens by chance.
        rows: of the input; each is one call of a model.
        shards: ranges of the plan when it is made.
        grain: places for each of them where it may be split later.
        nodes: machines; each has `workers_per_node` workers, which run one shard at a time.
        rows_per_second: of a worker of median speed.
        spread: standard deviation of the logarithm of the workers' speeds; 0: all have the same.
        parallel_size: calls in flight of a shard.
        flush_seconds: time between two commits of a shard.
        start_seconds: what a worker needs until the first call of a shard.
        node_life: mean time until a node dies, with all its workers; None: they live for ever.
        replace_seconds: until another node is there in its place, whose workers have speeds of their own.
        lease_seconds: no sign of life for so long, and a shard may be taken over.
        status_seconds: time between two reports of a running shard to the driver.
        look_seconds: how often the driver looks for work for workers that have none.
        has_stealing: whether ranges that have begun are split.
        limit: calls per minute of all shards together; None: there is no limit.
        slice_seconds: for how long a shard asks the service for calls.
    """

    name: str = ""
    seed: int = 1
    rows: int = 1_000_000_000
    shards: int = 1000
    grain: int = 16
    nodes: int = 125
    workers_per_node: int = 8
    rows_per_second: float = 50.0
    spread: float = 0.3
    parallel_size: int = 64
    flush_seconds: float = 1.0
    start_seconds: float = 2.0
    node_life: float | None = None
    replace_seconds: float = 180.0
    lease_seconds: float = 30.0
    status_seconds: float = 5.0
    look_seconds: float = 10.0
    has_stealing: bool = True
    limit: int | None = None
    slice_seconds: float = 5.0

    @property
    def workers(self) -> int:
        """How many shards run at once, at most."""
        return self.nodes * self.workers_per_node
