"""What is done with the rows of one node: settings that never change, and a gate that stops further calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llm_datagen.config import BatchBy, FailurePolicy, IdScheme
from llm_datagen.executors.error_allowance import Allowance
from llm_datagen.executors.parent_batches import ParentBatches
from llm_datagen.executors.retry import Retries
from llm_datagen.operators import Call, INodeContext
from llm_datagen.streams import Encoder, Source
from llm_datagen.streams.ids import END_NAME, RootNames

if TYPE_CHECKING:
    from llm_datagen.streams.state.store import StateStore

SLICE_SECONDS = 0.02
"""How long a thread goes on through a block before it hands the rest back."""


@dataclass(slots=True)
class CallGate:
    """Whether workers may begin calls. Any thread may read and set it.

    Attributes:
        is_halted: whether a call has failed that ends the node: no worker begins another one.
        is_paused: whether the node is paused: no worker begins another call, and hands back what it has not called.
    """

    is_halted: bool = False
    is_paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Processing:
    """How the rows of one node are processed. Made once per node, and used by all of its workers at once.

    Attributes:
        call: the operator.
        source: the stream that the blocks come from (for error messages).
        encoder: the output's format.
        ctx: what the operator is given beside its items.
        batch_size: items per call of an operator that takes batches.
        batch_by: which items share such a call; see `BatchBy`.
        id_scheme: how children are named.
        root: how rows are named when the source is the pipeline's input; None when they have ids.
        policy: how often a call that raised is made again.
        allowance: says whether more rows may fail when `max_errors` bounds them; None: each failure is handed to the
            node.
        keep_rejected: whether rejected rows are kept.
        spill_folder: where children of a row go that are too many for memory; None keeps them in memory all the same.
        slice_seconds: how long a worker goes on through a block before it hands the rest back.
        calls_per_check: cheap calls between two checks of the time and of a cancel: 1, or 2, 4, 8…
        state: the state of the node; None unless the operator keeps one.
        end_name: what ids of rows begin with that the operator gives at the end.
        gate: whether calls may begin.
        retries: when a call that raised is made again; from `policy`.
        parent_batches: where batches end when siblings share a call; None when they do not. From `batch_by`.
    """

    call: Call
    source: Source
    encoder: Encoder
    ctx: INodeContext
    batch_size: int = 1
    batch_by: BatchBy = "position"
    id_scheme: IdScheme = "path"
    root: RootNames | None = None
    policy: FailurePolicy = field(default_factory=FailurePolicy)
    allowance: Allowance | None = None
    keep_rejected: bool = False
    spill_folder: str | None = None
    slice_seconds: float = field(default_factory=lambda: SLICE_SECONDS)
    calls_per_check: int = 16
    state: StateStore | None = None
    end_name: str = END_NAME
    gate: CallGate = field(default_factory=CallGate)
    retries: Retries = field(init=False)
    parent_batches: ParentBatches | None = field(init=False)

    def __post_init__(self) -> None:
        by_parent = self.batch_by == "parent" and self.call.batch
        object.__setattr__(self, "retries", Retries(self.policy))
        object.__setattr__(self, "parent_batches", ParentBatches(self.batch_size) if by_parent else None)

    @property
    def step(self) -> int:
        """Rows per call."""
        return self.batch_size if self.call.batch else 1

    def survives(self, rows: int, settled: int) -> bool:
        """Return whether a worker goes on after rows that failed; else it hands the rest back, and the node decides.

        Args:
            rows: how many failed in a call.
            settled: how many of its task are done before them.
        """
        if self.policy.on_error == "fail":
            return False
        if self.policy.max_errors is None:
            return True
        return self.allowance is not None and self.allowance.take(rows, settled)

    def is_interrupted(self) -> bool:
        """Return whether no call is to be made now: the run is paused, or being cancelled."""
        return self.gate.is_paused or self.ctx.is_cancelled()
