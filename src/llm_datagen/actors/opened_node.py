"""An opened node: all that its stages need, opened and recovered before any actor starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_datagen.config import BatchBy, DeliveryMode, FailurePolicy, IdScheme, WriterConfig
from llm_datagen.operators import Call
from llm_datagen.streams import Coverage, Segment, Sink, Source
from llm_datagen.streams.committed_rows import CommittedRows
from llm_datagen.streams.dispatch_log import DispatchLog
from llm_datagen.streams.ids import END_NAME, RootNames
from llm_datagen.streams.position import END, Position


@dataclass(slots=True, kw_only=True, eq=False)
class OpenedNode:
    """A node, ready to be run once.

    Attributes:
        node_id: its id.
        operator: what it runs.
        call: how that is called.
        source: the stream that it reads.
        sink: the stream that it writes, recovered; None when the node has finished in an earlier run, or is not
            needed.
        position: where that stream stands.
        segments: what of the source is not done.
        parallel_size: batches in the operator at once.
        calls_at_once: the same, where `parallel_size` is 1, as the operator says.
        batch_size: items per batch.
        batch_by: which items share a call of `process_batch`.
        writer: how results get to the disk.
        ordered: whether rows leave in input order.
        id_scheme: how children are named.
        root: how rows of the source are named when it is the pipeline's input; None when they have ids.
        follow: whether the source goes on until it is sealed.
        idle_timeout: seconds without a new row after which an unsealed source is an error; None waits forever.
        policy: what becomes of rows that fail.
        keep_rejected: whether rejected rows are kept beside the output.
        delivery: whether rows that were handed out when the process died may be handed out again.
        dispatched: the record of rows handed out, for "at_most_once".
        grace: seconds that a cancelled node waits for calls in flight.
        target: rows that the output gets, exactly; None: as many as there are.
        is_needed: whether anybody needs what it has not done; else it does not run, and `sink` is None.
        stall_after: seconds without movement after which the node says that it is stalled.
        rate: rows handed out per second, at most; None for no limit.
        max_lead: rows that it may be ahead of those that read from it; None for any number.
        packed: the operator as it is sent to worker processes; None when it is called on threads or an event loop.
        folder: where the operator may keep files of its own; None for a node that runs without a folder.
        results_dir: the folder of the runs, or its URI; empty for a node that runs without a folder.
        feedback: the rows of another node that the operator draws from; None: none.
        end_name: what ids of rows begin with that the operator gives at the end of its source.
        seal: whether the writer seals when the node has finished.
        config: the same as plain data, for the run state and for hooks.
    """

    node_id: str
    operator: Any
    call: Call
    source: Source
    sink: Sink | None
    position: Position
    segments: list[Segment]
    parallel_size: int = 1
    calls_at_once: int = 1
    batch_size: int = 1
    batch_by: BatchBy = "position"
    writer: WriterConfig = field(default_factory=WriterConfig)
    ordered: bool = False
    id_scheme: IdScheme = "path"
    root: RootNames | None = None
    follow: bool = True
    idle_timeout: float | None = None
    policy: FailurePolicy = field(default_factory=FailurePolicy)
    keep_rejected: bool = False
    delivery: DeliveryMode = "exactly_once"
    dispatched: DispatchLog | None = None
    grace: float = 60.0
    target: int | None = None
    is_needed: bool = True
    stall_after: float = 300.0
    rate: float | None = None
    max_lead: int | None = None
    packed: bytes | None = field(default=None, repr=False)
    folder: Path | None = None
    results_dir: str = ""
    feedback: CommittedRows | None = None
    end_name: str = END_NAME
    seal: bool = True
    config: dict[str, Any] = field(default_factory=dict)

    def close(self) -> None:
        """Let go of the node's files. May be called more than once."""
        if self.sink is not None:
            self.sink.close()
        if self.dispatched is not None:
            self.dispatched.close()
        if self.feedback is not None:
            self.feedback.close()

    def reads(self, other: OpenedNode) -> bool:
        """Return whether it reads what another node writes in this run."""
        return other.sink is not None and other.sink.stream.place in self.source.places

    def draws_from(self, other: OpenedNode) -> bool:
        """Return whether its operator draws from the rows that another node writes in this run."""
        return (
            self.feedback is not None
            and other.sink is not None
            and other.sink.stream.place == self.feedback.stream.place
        )

    def rows_read_of(self, other: OpenedNode) -> Callable[[Coverage], int]:
        """Return what says how many rows of another node's output are covered, of what is covered of the source."""
        assert other.sink is not None
        place = other.sink.stream.place

        def rows(coverage: Coverage) -> int:
            return sum(part.rows for stream, part in self.source.parts(coverage) if stream.place == place)

        return rows

    @property
    def has_met_target(self) -> bool:
        """Whether the output has, of an earlier run, all the rows that it is to get."""
        return self.target is not None and self.position.rows >= self.target

    @property
    def concurrency(self) -> int:
        """Calls of the operator at once, at most: items of all batches for `process_item`, else batches.

        In worker processes, the items of a batch are processed one after the other. An operator that keeps state is
        called for one row, or batch, after the other.
        """
        if self.call.keeps_state:
            return 1
        is_alone = self.call.batch or self.packed is not None
        size = self.parallel_size if self.parallel_size > 1 else self.calls_at_once
        return size if is_alone else size * self.batch_size

    @property
    def has_one_call_per_task(self) -> bool:
        """Whether calls are not grouped: as little as can be is in flight, and each result is of one call."""
        return self.dispatched is not None or self.target is not None

    @property
    def has_ended(self) -> bool:
        """Whether the operator has given, in an earlier run, what it had left at the end of its source."""
        return END in self.position.marks

    @property
    def step(self) -> int:
        """Rows per call."""
        return self.batch_size if self.call.batch else 1
