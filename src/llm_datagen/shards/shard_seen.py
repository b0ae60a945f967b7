"""A shard of a run, as it is seen from outside: which rows it does, and how far its run is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llm_datagen.runs.output_node import RowsOut, outputs_to_name
from llm_datagen.runs.seen import SeenRun
from llm_datagen.runs.status import Status
from llm_datagen.shards.plan import ShardRange

NOT_BEGUN = "not begun"
"""The status of a shard that has no run yet."""

TO_DO_AGAIN = "to be done again"
"""The status of a shard that was completed, before its dead letters, or rows of edited operators, were to be redone."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard of a run.

    Attributes:
        range: which rows of the input it does.
        run: the id of its run, in the folder of the shards; None when it has not begun.
        seen: its run; None when it has not begun.
        is_due: whether something of it is left to do, though it was completed; see `ShardSpec.is_done`.
    """

    range: ShardRange
    run: str | None = None
    seen: SeenRun | None = field(default=None, repr=False)
    is_due: bool = False

    @property
    def number(self) -> int:
        """Its number."""
        return self.range.number

    @property
    def status(self) -> str:
        """The status of its run; `NOT_BEGUN` without one."""
        if self.seen is None:
            return NOT_BEGUN
        return TO_DO_AGAIN if self.is_due and self.seen.status == Status.COMPLETED else self.seen.status

    @property
    def state(self) -> dict[str, Any]:
        """The run state of its run; empty without one."""
        return {} if self.seen is None else self.seen.state

    def brief(self) -> dict[str, Any]:
        """Return it as plain data, in short."""
        nodes = self.state.get("nodes") or [{}]
        written = {str(node.get("node_id")): node.get("rows_out", 0) for node in nodes}
        return {
            "number": self.number,
            "run": self.run,
            "rows": [self.range.first.row, self.range.last.row],
            "status": self.status,
            "rows_in": nodes[0].get("rows_in", 0),
            "rows_out": RowsOut(written, outputs_to_name(self.state)).total,
            "failed": sum(node.get("failed", 0) for node in nodes),
        }
