"""The summary of runs in a log, as data; and the rule that finds the bottleneck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class LoggedState(StrEnum):
    """The state of a run, by the log alone."""

    ENDED = "ended"
    """It has logged its end."""
    OPEN = "open"
    """It has not: it is running, or it was killed."""
    KILLED = "killed"
    """It has not, and the pipeline was run again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSummary:
    """Where the time of a node went, in one run.

    Attributes:
        node_id: its id.
        status: how it ended; ``"running"`` when the log does not say.
        is_exact: whether it has logged its end, with these figures. Else they come from its other lines, which are not
            written for each wait: lower bounds.
        seconds: how long it ran; until the last line of its run, if its end is not in the log.
        workers: tasks that it had at once, at most; 0 when not known.
        busy_s: seconds that its workers were in tasks, together; None when not known.
        held_back_s: seconds that they waited for the writer, together.
        held_back_times: how often one of them did.
        rate_limited_s: seconds in which a worker was free for rows, and the rate did not let them begin.
        lead_limited_s: seconds in which a worker was free for rows, and `max_lead` did not let them begin.
        starved_s: seconds in which rows were asked for and its source had none yet.
        starved_times: how often that was so.
        rate: rows per second that it might begin, at most, at last; None without a limit.
    """

    node_id: str
    status: str = "running"
    is_exact: bool = False
    seconds: float = 0.0
    workers: int = 0
    busy_s: float | None = None
    held_back_s: float = 0.0
    held_back_times: int = 0
    rate_limited_s: float = 0.0
    lead_limited_s: float = 0.0
    starved_s: float = 0.0
    starved_times: int = 0
    rate: float | None = None

    @property
    def busy(self) -> float | None:
        """The share of their time that its workers were busy, from 0 to 1; None when not known."""
        return None if self.busy_s is None else self._of_workers(self.busy_s)

    @property
    def held_back(self) -> float | None:
        """The share of their time that its workers waited for the writer, from 0 to 1; None when not known."""
        return self._of_workers(self.held_back_s)

    @property
    def starved(self) -> float | None:
        """The share of its time in which its workers had nothing to do for want of rows; None when not known.

        Rows are asked for before they are needed: what was waited for while the workers were busy, or the rate
        held rows back, does not count.
        """
        if self.busy is None or self.held_back is None:
            return None
        others = max(self.busy + self.held_back, self.rate_limited or 0.0)
        return min(self.starved_s / self.seconds, max(0.0, 1 - others))

    @property
    def rate_limited(self) -> float | None:
        """The share of its time in which its rate held rows back, from 0 to 1; None when not known."""
        return min(1.0, self.rate_limited_s / self.seconds) if self.is_exact and self.seconds > 0 else None

    @property
    def lead_limited(self) -> float | None:
        """The share of its time in which it waited for those that read from it, from 0 to 1; None when not known."""
        return min(1.0, self.lead_limited_s / self.seconds) if self.is_exact and self.seconds > 0 else None

    @property
    def own_s(self) -> float:
        """Seconds in which it had rows to work on, and did not wait for those that read from it."""
        return self.seconds * max(0.0, 1 - (self.starved or 0.0) - (self.lead_limited or 0.0))

    def _of_workers(self, seconds: float) -> float | None:
        total = self.workers * self.seconds
        return min(1.0, seconds / total) if total > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What the log says of one run.

    Attributes:
        pipeline_id: the pipeline's id; empty for a node by itself.
        run: which run of it.
        state: its state.
        started: when it began; its first line that there is, if its beginning was rotated away.
        last: when it logged its last line that there is.
        seconds: how long it took, or until `last`.
        is_whole: whether its beginning is in the log.
        nodes: its nodes, in their order.
        bottleneck: what limits it, in a sentence.
    """

    pipeline_id: str
    run: str
    state: LoggedState
    started: datetime
    last: datetime
    seconds: float
    is_whole: bool = True
    nodes: tuple[NodeSummary, ...] = ()
    bottleneck: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, with the shares of the nodes."""
        nodes = [
            {
                **asdict(node),
                "busy": node.busy,
                "held_back": node.held_back,
                "rate_limited": node.rate_limited,
                "lead_limited": node.lead_limited,
                "starved": node.starved,
            }
            for node in self.nodes
        ]
        times = {"started": self.started.isoformat(), "last": self.last.isoformat()}
        return {**asdict(self), "state": str(self.state), **times, "nodes": nodes}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSummary:
    """What a log says.

    Attributes:
        runs: the runs, in the order in which they began.
        unreadable: lines that are no events, such as one that was torn by the death of a process.
    """

    runs: tuple[RunSummary, ...] = field(default=())
    unreadable: int = 0


_NOTABLE = 0.05  # a share of its time that is worth mentioning


def bottleneck_of(nodes: tuple[NodeSummary, ...], seconds_left: Mapping[str, float] | None = None) -> str:
    """Return what limits a run, in a sentence.

    It is the node that had rows to work on for the longest time, whether the nodes ran one after the other or at once:
    the others ended before it, or waited for it. What it did in that time says why.

    Args:
        nodes: the nodes, in their order.
        seconds_left: of a run that goes on, how long nodes will take, as far as that is known: it counts, too.
    """
    if not nodes or not all(node.is_exact for node in nodes):
        waits = [
            f"{node.node_id} was held back at least {node.held_back_times} times, {node.held_back_s:.1f} s"
            for node in nodes
            if node.held_back_times
        ]
        return "; ".join(["the bottleneck is known when its nodes have ended", *waits])
    left = seconds_left or {}
    most = max(nodes, key=lambda node: node.own_s + left.get(node.node_id, 0.0))
    others = [_others(node) for node in nodes if node is not most]
    return "; ".join([_limit(most, nodes[0]), *filter(None, others)])


def _limit(most: NodeSummary, first: NodeSummary) -> str:
    busy, held = most.busy or 0.0, most.held_back or 0.0
    if most.own_s < most.seconds / 2:
        return f"the input limits: {first.node_id} waited for rows {percent(first.starved)} of the time"
    if (most.rate_limited or 0.0) > 0.5:
        rate = "" if most.rate is None else f" ({most.rate:g} rows per second)"
        return f"{most.node_id} limits by its rate{rate}: it held rows back {percent(most.rate_limited)} of the time"
    if held > max(busy, 0.5):
        return f"{most.node_id} limits: its workers waited for its writer {percent(held)} of the time"
    if busy > 0.5:
        text = f"{most.node_id} limits: its workers were busy {percent(busy)} of the time"
    else:  # such as one that holds the interpreter's lock, so that of many workers one is busy
        text = (
            f"{most.node_id} limits: it had rows to work on for {most.own_s:.1f} s, though of its workers "
            f"({most.workers}) only {busy * most.workers:.1f} were busy on average"
        )
        if most.rate is not None:
            text += f"; it may begin {most.rate:g} rows per second at most (rate)"
    return text + (f", and held back by its writer {percent(held)}" if held >= _NOTABLE else "")


def _others(node: NodeSummary) -> str:
    said = []
    if (node.held_back or 0.0) >= _NOTABLE:
        said.append(f"was held back {percent(node.held_back)}")
    if (node.starved or 0.0) >= _NOTABLE:
        said.append(f"waited for rows {percent(node.starved)}")
    if (node.lead_limited or 0.0) >= _NOTABLE:
        said.append(f"waited for its readers (max_lead) {percent(node.lead_limited)}")
    return f"{node.node_id} {' and '.join(said)}" if said else ""


def percent(share: float | None) -> str:
    """Return a share in words."""
    return "?" if share is None else f"{100 * share:.0f} %"
