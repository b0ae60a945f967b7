"""Nodes and numbers as lines of text. Imports nothing of rich, which takes longer than the lines of a status."""

from __future__ import annotations

from collections.abc import Mapping

from llm_datagen.errors.escape import escape_line
from llm_datagen.runs.display.node_view import NodeView
from llm_datagen.runs.status import Status
from llm_datagen.runs.usage import dollars
from llm_datagen.runs.words import duration, number, rate, rows_in_words


def label(node: NodeView) -> str:
    """Return what a node is called: its id, and its operator's identity."""
    return escape_line(f"{node.node_id} {node.operator}".rstrip())


def node_line(node: NodeView) -> str:
    """Return a node as a line of text."""
    parts = [f"{node.status}, {progress(node)} rows"]
    if node.status != Status.PENDING:
        parts.append(f"{rate(node.rate)} rows/s")
    if node.seconds_left is not None and not node.stopped_by:
        parts.append(f"ETA {duration(node.seconds_left)}")
    of_which = f" ({failed_rows(node.skipped, node.dead)})" if node.skipped or node.dead else ""
    rejected = f" ({number(node.rejected)} rejected)" if node.rejected else ""
    parts += [f"{number(node.filtered)} filtered{rejected}", f"{errors_in_words(node.failed)}{of_which}"]
    if node.pending is not None and node.status not in {Status.PENDING, Status.COMPLETED}:
        parts.append(f"{number(node.pending)} pending")
    elif node.status not in {Status.PENDING, Status.COMPLETED, Status.RUNNING}:  # it ended before its source did
        parts.append("? pending")
    if node.beyond or node.cut:
        parts.append(beyond_target(node.beyond, node.cut).removeprefix(", "))
    if node.tokens:
        parts.append(f"{number(node.tokens)} tokens")
    if node.cost is not None:
        parts.append(dollars(node.cost))
    if node.lead_limited_s >= 1:
        parts.append(f"held back {duration(node.lead_limited_s)} (max_lead)")
    stopped_by = escape_line(f"; {node.stopped_by}") if node.stopped_by else ""
    return f"{label(node)}: {', '.join(parts)}{stopped_by}"


def progress(node: NodeView) -> str:
    """Return how far a node is, such as ``12/50``; ``~`` marks a total that is estimated.

    With a target, it is about the rows that come out: ``7/10 out of 12``.
    """
    if node.target is not None:
        return f"{number(node.out)}/{number(node.target)} out of {number(node.done)}"
    if node.status == Status.COMPLETED:
        return f"{number(node.done)}/{number(node.done)}"
    if node.total is None:
        return f"{number(node.done)}/?"
    return f"{number(node.done)}/{'' if node.is_exact else '~'}{number(node.total)}"


def eta(node: NodeView) -> str:
    """Return how long a node will take, or how it ended."""
    if node.status == Status.PENDING:
        return "waiting"
    if node.status != Status.RUNNING:
        return "done" if node.status == Status.COMPLETED else node.status
    if node.stopped_by or node.paused:
        return "outage" if node.outage else "stalled" if node.stalled else "paused"
    return "-" if node.seconds_left is None else duration(node.seconds_left)


def errors_in_words(count: int) -> str:
    """Return a number of errors, such as ``2 errors``."""
    return f"{number(count)} error{'' if count == 1 else 's'}"


def failed_rows(skipped: int, dead: int) -> str:
    """Return what became of rows that failed."""
    counts = ((dead, "dead-lettered"), (skipped, "skipped"))
    return ", ".join(f"{number(count)} {what}" for count, what in counts if count)


def beyond_target(rows: int, cut: int) -> str:
    """Return what was processed beyond a target, with a comma before each part: ``, 3 rows in calls beyond it``."""
    beyond = f", {rows_in_words(rows)} in calls beyond it" if rows else ""
    return beyond + (f", {rows_in_words(cut)} cut off" if cut else "")


def shards_in_words(counts: Mapping[str, int]) -> str:
    """Return how many shards of a run are done, and how many run."""
    running = f", {counts['running']} running" if counts["running"] else ""
    return f"shards: {counts['done']} of {counts['count']} done{running}"
