"""The target of a node, at its writer: so many rows are written, exactly, and no row more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llm_datagen.executors.cut_result import cut
from llm_datagen.messages import Write
from llm_datagen.streams import Sink
from llm_datagen.streams.target_mark import TargetMark


class TargetGate:
    """Says what of the results of a node is written. Used by the writer's thread.

    Args:
        target: rows that the stream gets, exactly; None: as many as there are.
        sink: the stream.

    Attributes:
        losses: what was processed and is not written, since the stream began.
    """

    def __init__(self, target: int | None, sink: Sink) -> None:
        self._target = target
        self._sink = sink
        self.losses = TargetMark.of(sink.position.marks)._replace(rows=None)

    def is_met(self, more: int = 0) -> bool:
        """Return whether the target is met when so many rows more are committed."""
        return self._target is not None and self._sink.position.rows + more >= self._target

    def admit(self, write: Write, waiting: int) -> Write | None:
        """Return what of a write is written when `waiting` rows wait for it already; None: nothing."""
        if self._target is None:
            return write
        left = self._target - self._sink.position.rows - waiting
        result = write.result
        if left <= 0:
            self.count_beyond(result.source_rows)
            return None
        if result.rows <= left:
            return write
        self.losses = self.losses._replace(cut=self.losses.cut + result.rows - left)
        return replace(write, result=cut(result, left, self._sink))

    def count_beyond(self, rows: int) -> None:
        """Count source rows that were processed when the target was met, and are not done."""
        if self.is_met():
            self.losses = self.losses._replace(beyond=self.losses.beyond + rows)

    def added_to(self, marks: Mapping[str, Any], more: int = 0) -> dict[str, Any]:
        """Return the marks of a commit of so many rows more, or of a seal, with what is known of the target."""
        return self.losses._replace(rows=self._target if self.is_met(more) else None).added_to(marks)
