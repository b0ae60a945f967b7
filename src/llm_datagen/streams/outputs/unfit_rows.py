"""Rows that do not fit an output: how many are left out of it, and what is said of that, wherever it is said."""

from __future__ import annotations

from dataclasses import dataclass

from llm_datagen.streams.outputs.target import Target


@dataclass(frozen=True, slots=True)
class UnfitRows:
    """Rows that are left out of an output, as a value of them does not fit it. As text: what is to be told of that.

    Attributes:
        path: the output.
        kind: its format.
        rows: how many rows.
        errors_path: the file that has the id of each, with the column and the reason.
    """

    path: str
    kind: str
    rows: int
    errors_path: str

    @classmethod
    def of(cls, target: Target, rows: int) -> UnfitRows:
        """Return how many rows do not fit the output at a target."""
        return cls(target.path, target.kind, rows, target.errors_path)

    def __str__(self) -> str:
        rows = "1 row does" if self.rows == 1 else f"{self.rows:,} rows do"
        return f"{rows} not fit {self.path}: see {self.errors_path}, which names the column and why"
