"""Nodes as tables of rich, and texts that fit into a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.text import Text

from llm_datagen.errors.escape import escape_line
from llm_datagen.runs.display.console import SafeConsole
from llm_datagen.runs.display.lines import beyond_target, eta, failed_rows, progress
from llm_datagen.runs.display.name_table import Column, Name, NameTable
from llm_datagen.runs.display.node_view import NodeView
from llm_datagen.runs.status import Status
from llm_datagen.runs.usage import dollars
from llm_datagen.runs.words import number, rate

STYLES = {
    "completed": "green",
    "running": "cyan",
    "resuming": "cyan",
    "failed": "bold red",
    "unreadable": "bold red",
    "interrupted": "bold yellow",
    "canceling": "yellow",
    "canceled": "yellow",
    "stopped": "yellow",
    "unneeded": "green",
    "stalled": "bold yellow",
}
"""How a status is coloured."""

_BAR_WIDTH = 12


def node_table(nodes: Iterable[NodeView], title: str = "", caption: str = "") -> RenderableType:
    """Return a table with a line per node, and notes on the nodes below it.

    Without room, columns that matter less are left out, and names are shortened in the middle.
    """
    nodes = list(nodes)
    notes = [escape_line(f"{node.node_id}: {text}") for node in nodes for text in _notes(node)]
    notes += [caption] if caption else []
    names = [Name(node.node_id, node.operator if node.operator != node.node_id else "") for node in nodes]
    table = NameTable("node", names, list(_columns(nodes)))
    parts: list[RenderableType] = [Text(title, style="table.title")] if title else []
    parts += [table, *([Text("\n".join(notes), style="table.caption")] if notes else [])]
    return Group(*parts)


def _columns(nodes: Sequence[NodeView]) -> Iterator[Column]:
    yield Column("", [_bar(node) for node in nodes], stays=0, is_left=True)
    yield Column("rows", [Text(progress(node)) for node in nodes])
    rates = [rate(node.rate) if node.status != Status.PENDING else "-" for node in nodes]
    yield Column("rows/s", [Text(text) for text in rates], stays=3)
    etas = [Text(eta(node), style=STYLES.get("stalled" if node.stopped_by else node.status, "")) for node in nodes]
    yield Column("ETA", etas)
    yield Column("filtered", [Text(number(node.filtered)) for node in nodes], stays=2)
    errors = [Text(number(node.failed), style="bold red" if node.failed else "") for node in nodes]
    yield Column("errors", errors, stays=5)
    yield Column("tokens", [Text(number(node.tokens) if node.tokens else "-") for node in nodes], stays=1)
    if any(node.cost is not None for node in nodes):
        costs = ["-" if node.cost is None else dollars(node.cost) for node in nodes]
        yield Column("cost", [Text(text) for text in costs], stays=4)


def _notes(node: NodeView) -> Iterable[str]:
    if node.skipped or node.dead:
        yield failed_rows(node.skipped, node.dead)
    if node.beyond or node.cut:
        yield f"target met{beyond_target(node.beyond, node.cut)}"
    if node.stopped_by:
        yield node.stopped_by
    if node.warning and not node.outage:  # then it says the same
        yield node.warning


def _bar(node: NodeView) -> ProgressBar:
    if node.status == Status.COMPLETED:
        total, done = 1.0, 1.0
    else:
        total, done = float(node.total or 1), float(node.done if node.total else 0)
    if node.target is not None:
        total, done = float(node.target), float(node.out)
    style = STYLES.get(node.status, "dim")
    is_unknown = node.total is node.target is None and node.status == Status.RUNNING
    return ProgressBar(
        total=None if is_unknown else total,
        completed=done,
        width=_BAR_WIDTH,
        style="bright_black",
        complete_style=style,
        finished_style=style,
        pulse_style=style,
    )


def line_width() -> int:
    """Return how wide lines may be: as the terminal, or what COLUMNS says; elsewhere `FREE_WIDTH`."""
    return SafeConsole().width


def one_line(text: str, width: int) -> str:
    """Return foreign text as one line of at most `width` columns, with control characters escaped."""
    words = " ".join(text[: 10 * max(width, 1)].split())
    shown = escape_line(words)
    if cell_len(shown) <= width:
        return shown
    return f"{set_cell_size(shown, max(width - 1, 0)).rstrip()}…"
