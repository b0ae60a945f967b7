"""The status of a pipeline and of its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from llm_datagen.runs.outage import OutageReport
from llm_datagen.runs.usage import UsageSums, cost_of


class Status(StrEnum):
    """The status of a pipeline or a node (M8)."""

    PENDING = "pending"
    RUNNING = "running"
    RESUMING = "resuming"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELING = "canceling"
    CANCELED = "canceled"
    STOPPED = "stopped"
    UNNEEDED = "unneeded"


LIVE = frozenset({Status.RUNNING, Status.RESUMING, Status.CANCELING})
"""The status in the run state while a process runs it, and after that process was killed."""

INTERRUPTED = "interrupted"
"""What is shown of a run whose run state says that it is running, and whose process is dead. No run state has it."""

SETTLED = frozenset({Status.COMPLETED, Status.UNNEEDED})
"""The status of nodes of a completed run. Unneeded: what was left to do was not, as the nodes that read what it writes
have met their targets."""

ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.STOPPED})
"""How a run can have ended. Stopped: an operator asked for it (`StopRun`), such as at the cap of a budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """A node, at one moment. Row counts are totals since its beginning, also over resumes.

    The account (C1): each row of its source is exactly one of kept, filtered, skipped, dead-lettered or pending. So
    ``rows_in = kept + filtered + skipped + dead_letters``, and ``total = rows_in + pending`` once `total` is exact.

    Attributes:
        node_id: its id.
        status: its status.
        rows_in: source rows whose results are on disk (or that gave none).
        rows_out: rows in its output.
        filtered: source rows that gave no row.
        rejected: for how many of these the operator gave a reason.
        skipped: source rows that failed and were left out.
        dead_letters: source rows that failed and are in ``<output>.errors.jsonl``.
        target_rows: rows that its output is to have, exactly; None: as many as there are.
        beyond_target: source rows that were in a call when the target was met: their results were thrown away, and
            they are pending. Calls that were given up after `grace`, or died with their process, are not counted.
        cut_rows: rows that were beyond the target though their source row is done: thrown away.
        failed: rows that failed: these two, and the one that ended the run.
        total: source rows in all; None while nothing is known.
        total_is_exact: whether `total` is counted, not estimated.
        rows_per_second: source rows per second, over the last seconds.
        seconds: how long it ran, in this run.
        workers: tasks that it has at once, at most.
        in_flight: source rows that its workers have, as it was last reported: once a second, while it runs.
        queued: rows that wait for its writer, as it was last reported; `queue_size` at most, but for one large result.
        busy_s: seconds that its workers were in tasks, in this run, together: at most `seconds` times `workers`.
        held_back_s: seconds that they waited for the writer, in this run, together.
        held_back_times: how often one of them did.
        rate_limited_s: seconds in which a worker was free for rows that were there, and `rate` did not let them begin,
            in this run.
        lead_limited_s: seconds in which a worker was free for rows that were there, and `max_lead` did not let them
            begin, in this run.
        starved_s: seconds in which rows were asked for and the source had none yet, in this run.
        starved_times: how often that was so.
        usage: sums of what operators reported, a dict for each provider and model.
        stalled: how long nothing has moved, and what it waits for; empty unless it is stalled.
        outage: for which endpoints calls wait, and why; None while some endpoint answers.
        error: the error that it failed with.
    """

    node_id: str
    status: Status = Status.PENDING
    rows_in: int = 0
    rows_out: int = 0
    filtered: int = 0
    rejected: int = 0
    skipped: int = 0
    dead_letters: int = 0
    failed: int = 0
    target_rows: int | None = None
    beyond_target: int = 0
    cut_rows: int = 0
    total: int | None = None
    total_is_exact: bool = False
    rows_per_second: float = 0.0
    seconds: float = 0.0
    workers: int = 0
    in_flight: int = 0
    queued: int = 0
    busy_s: float = 0.0
    held_back_s: float = 0.0
    held_back_times: int = 0
    rate_limited_s: float = 0.0
    lead_limited_s: float = 0.0
    starved_s: float = 0.0
    starved_times: int = 0
    usage: list[dict[str, Any]] = field(default_factory=list)
    stalled: str | None = None
    outage: OutageReport | None = None
    error: str | None = None

    @property
    def kept(self) -> int:
        """Source rows that gave output rows, alone or with their batch."""
        return self.rows_in - self.filtered - self.skipped - self.dead_letters

    @property
    def pending(self) -> int | None:
        """Source rows that are not done; None until the source was counted to its end."""
        return self.total - self.rows_in if self.total is not None and self.total_is_exact else None

    @property
    def cost(self) -> float | None:
        """US dollars, over all runs; None when no price is known. Calls without a known price are not in it."""
        return cost_of(self.usage)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, `kept`, `pending` and `cost` included."""
        return {**asdict(self), "kept": self.kept, "pending": self.pending, "cost": self.cost}


_REPORTED = tuple(each.name for each in fields(NodeReport))


def why_short(node: NodeReport) -> str:
    """Return why a completed node has not met its target; empty if it has, or has none."""
    if node.status is not Status.COMPLETED or node.target_rows is None or node.rows_out >= node.target_rows:
        return ""
    return f"its input has ended with {node.rows_out:,} of the {node.target_rows:,} rows of its target"


def why_empty(node: NodeReport) -> str:
    """Return why a completed node has no output rows; empty if it has some."""
    failed = node.skipped + node.dead_letters
    if node.status is not Status.COMPLETED or node.rows_out or not (failed or node.filtered):
        return ""
    if not node.filtered:
        return f"no row came out: all {node.rows_in:,} failed"
    if not failed:
        return f"no row came out: all {node.rows_in:,} were filtered; does the operator return its row?"
    return f"no row came out: {failed:,} of {node.rows_in:,} failed, and {node.filtered:,} were filtered"


def shortcomings(nodes: Iterable[NodeReport]) -> list[str]:
    """Return why completed nodes have no rows, or too few, such as ``node_0: no row came out: all 10 failed``."""
    return [f"{node.node_id}: {why}" for node in nodes for why in (why_empty(node), why_short(node)) if why]


def report_of_entry(entry: Mapping[str, Any]) -> NodeReport:
    """Return a node as its entry in a run state has it; what an older version has not noted is as at the beginning."""
    known = {name: entry[name] for name in _REPORTED if name in entry}
    return NodeReport(**{**known, "status": Status(entry.get("status", Status.PENDING))})


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStatus:
    """A pipeline, at one moment.

    Attributes:
        pipeline_id: its id.
        status: its status.
        nodes: its nodes.
        reason: why it was cancelled, if a reason was given; or why an operator stopped it.
        error: the error that it failed with.
        failed_row: the row that it failed with, and its shortened input: ``row 17 (in.jsonl, line 18): {"n": 17}``.
        paused: whether it is paused: no call of an operator begins.
    """

    pipeline_id: str
    status: Status
    nodes: tuple[NodeReport, ...] = ()
    reason: str = ""
    error: str | None = None
    failed_row: str | None = None
    paused: bool = False

    @property
    def usage(self) -> list[dict[str, Any]]:
        """What operators reported, summed over the nodes, a dict for each provider and model."""
        sums = UsageSums()
        for node in self.nodes:
            sums.add_all(node.usage)
        return sums.as_list()

    @property
    def cost(self) -> float | None:
        """US dollars, over all runs; None when no price is known. Calls without a known price are not in it."""
        return cost_of(self.usage)
