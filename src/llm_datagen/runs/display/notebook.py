"""In a notebook: the table as HTML, updated in its place while the run goes on."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llm_datagen.runs.display.console import SafeConsole
from llm_datagen.runs.display.model import DisplayModel
from llm_datagen.runs.display.node_view import NodeView
from llm_datagen.runs.display.tables import node_table

SECONDS_BETWEEN_TABLES = 0.5

_WIDTH = 120
_PAGE = '<pre style="line-height:1.3;white-space:pre;overflow-x:auto">{code}</pre>'

Publish = Callable[[dict[str, str]], None]
"""Shows data by media type: a cell's output the first time, then in its place."""


class NotebookTable(DisplayModel):
    """Hooks that publish a table from the start of a run to its end.

    Args:
        publish: shows it; called on the thread of the hooks.
        nodes: the nodes before the run, if known.
        clock: seconds that only grow.
    """

    def __init__(
        self, publish: Publish, nodes: Iterable[NodeView] = (), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(nodes, clock=clock)
        self._publish = publish
        self._published = float("-inf")

    def on_pipeline_start(self, cid: str, config: Mapping[str, Any]) -> None:
        """Show the table."""
        super().on_pipeline_start(cid, config)
        self._show()

    def on_node_start(self, cid: str, nid: str, config: Mapping[str, Any]) -> None:
        """Show that a node begins."""
        super().on_node_start(cid, nid, config)
        self._show()

    def on_node_progress(self, cid: str, nid: str, curr: int, total: int | None, meta: Mapping[str, Any]) -> None:
        """Show how far it is, if the last table is old enough."""
        super().on_node_progress(cid, nid, curr, total, meta)
        if self.clock() - self._published >= SECONDS_BETWEEN_TABLES:
            self._show()

    def on_node_end(self, cid: str, nid: str, success: bool, error: BaseException | None) -> None:
        """Show how it ended."""
        super().on_node_end(cid, nid, success, error)
        self._show()

    def on_stall(self, cid: str, nid: str, info: Mapping[str, Any]) -> None:
        """Show that nothing moves."""
        super().on_stall(cid, nid, info)
        self._show()

    def close(self) -> None:
        """Show it for the last time, if it was ever shown."""
        if self._published > float("-inf"):
            self._show()

    def _show(self) -> None:
        self._published = self.clock()
        console = SafeConsole(file=io.StringIO(), width=_WIDTH, record=True, force_jupyter=False, force_terminal=False)
        console.print(node_table(self.views()))
        text = console.export_text(clear=False)
        self._publish({"text/html": console.export_html(inline_styles=True, code_format=_PAGE), "text/plain": text})


def publisher() -> Publish:
    """Return what shows data in the cell that runs now. In a notebook only."""
    from IPython.display import display

    shown: list[Any] = []

    def publish(data: dict[str, str]) -> None:
        if shown:
            shown[0].update(data, raw=True)
        else:
            shown.append(display(data, raw=True, display_id=True))

    return publish
