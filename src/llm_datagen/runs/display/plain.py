"""Without a terminal: a line per node at its start, every few seconds, and at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llm_datagen.runs.display.lines import label, node_line
from llm_datagen.runs.display.model import DisplayModel
from llm_datagen.runs.display.node_view import NodeView

SECONDS_BETWEEN_LINES = 5.0


class PlainLines(DisplayModel):
    """Hooks that write lines.

    Args:
        write: takes a line.
        nodes: the nodes before the run, if known.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        nodes: Iterable[NodeView] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(nodes, clock=clock)
        self._write = write
        self._written: dict[str, float] = {}

    def on_node_start(self, cid: str, nid: str, config: Mapping[str, Any]) -> None:
        """Write that it begins."""
        super().on_node_start(cid, nid, config)
        self._line(nid)

    def on_node_progress(self, cid: str, nid: str, curr: int, total: int | None, meta: Mapping[str, Any]) -> None:
        """Write how far it is, if the last line is old enough."""
        super().on_node_progress(cid, nid, curr, total, meta)
        if self._is_due(nid):
            self._line(nid)

    def on_node_end(self, cid: str, nid: str, success: bool, error: BaseException | None) -> None:
        """Write how it ended."""
        super().on_node_end(cid, nid, success, error)
        self._line(nid)

    def on_stall(self, cid: str, nid: str, info: Mapping[str, Any]) -> None:
        """Write that nothing moves; again, if the last line is old enough."""
        is_new = not self.view(nid).stalled
        super().on_stall(cid, nid, info)
        if is_new or self._is_due(nid):
            self._line(nid)

    def on_log(self, cid: str, nid: str, level: str, message: str) -> None:
        """Write a warning."""
        super().on_log(cid, nid, level, message)
        if level == "warning":
            view = self.view(nid)
            self._write(f"{label(view)}: warning: {view.warning}")

    def close(self) -> None:
        """Do nothing: what was written is written."""

    def _is_due(self, nid: str) -> bool:
        return self.clock() - self._written.get(nid, float("-inf")) >= SECONDS_BETWEEN_LINES

    def _line(self, nid: str) -> None:
        self._written[nid] = self.clock()
        self._write(node_line(self.view(nid)) + (f"; {self.shards}" if self.shards else ""))
