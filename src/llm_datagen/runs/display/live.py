"""At a terminal: a live table with a line per node."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live

from llm_datagen.runs.display.model import DisplayModel
from llm_datagen.runs.display.node_view import NodeView
from llm_datagen.runs.display.tables import node_table
from llm_datagen.runs.status import Status

REFRESHES_PER_SECOND = 4

CANCELING = "canceling: calls in flight finish and are saved; Ctrl+C again ends the process at once"


class LiveTable(DisplayModel):
    """Hooks that draw a table from the start of a run to its end.

    Drawing is on a thread of rich's, and handles no signal: the first Ctrl+C is the engine's. The cursor stays
    visible, so that a process that is killed leaves the terminal as it was.

    Args:
        console: the terminal.
        nodes: the nodes before the run, if known.
        status: returns the status of the run, if it is known.
    """

    def __init__(
        self, console: Console, nodes: Iterable[NodeView] = (), *, status: Callable[[], Status] | None = None
    ) -> None:
        super().__init__(nodes)
        self._console = console
        self._status = status
        self._live: Live | None = None

    def on_pipeline_start(self, cid: str, config: Mapping[str, Any]) -> None:
        """Begin to draw."""
        super().on_pipeline_start(cid, config)
        self._live = live(self._console, self._table)

    def on_pipeline_end(self, cid: str, success: bool, error: BaseException | None) -> None:
        """Draw the table for the last time."""
        self.close()

    def close(self) -> None:
        """Stop drawing, if it has not stopped already."""
        drawn, self._live = self._live, None
        if drawn is not None:
            drawn.stop()

    def _table(self) -> RenderableType:
        is_canceling = self._status is not None and self._status() is Status.CANCELING
        notes = [self.shards, CANCELING if is_canceling else ""]
        return node_table(self.views(), caption="\n".join(filter(None, notes)))


def live(console: Console, draw: Callable[[], RenderableType]) -> Live:
    """Draw what `draw` returns several times per second, until the caller stops it."""
    shown = Live(
        console=console,
        get_renderable=draw,
        refresh_per_second=REFRESHES_PER_SECOND,
        # What is printed meanwhile goes above the table, unless it goes elsewhere anyway.
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        redirect_stderr=sys.stderr is not None and sys.stderr.isatty(),
    )
    shown.start(refresh=True)
    console.show_cursor(True)
    return shown
