"""What a commit and a seal say of the target of a node: the mark ``target``, ``[rows, beyond, cut]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

_NAME = "target"


class TargetMark(NamedTuple):
    """What is known of a target.

    Attributes:
        rows: the target that was met, and ended the node; None when it has not.
        beyond: source rows that were in a call when a target was met: their results were thrown away, and they are not
            done. Over all targets that there were.
        cut: output rows of the last calls that were beyond the target, and thrown away: their source rows are done.
    """

    rows: int | None = None
    beyond: int = 0
    cut: int = 0

    @classmethod
    def of(cls, marks: Mapping[str, Any] | None) -> Self:
        """Return what some marks say."""
        return cls(*(marks or {}).get(_NAME, ()))

    def losses(self) -> dict[str, int]:
        """Return what was thrown away, by the names of a `NodeReport`."""
        return {"beyond_target": self.beyond, "cut_rows": self.cut}

    def added_to(self, marks: Mapping[str, Any]) -> dict[str, Any]:
        """Return marks with this one; it is left out when it says nothing."""
        others = {name: value for name, value in marks.items() if name != _NAME}
        return others if self == type(self)() else {**others, _NAME: list(self)}
