"""Rows that do not fit an output: how many are left out of it, and what is said of that, wherever it is said."""

from __future__ import annotations

from dataclasses import dataclass

from llm_datagen.errors.advice import advice
from llm_datagen.streams.outputs.target import Target

_MIXED = "another schema, or mixed='json'", "another --schema, or --option mixed=json"
_REMEDIES = {
    "parquet": _MIXED,
    "hf-folder": _MIXED,
    "csv": ("another encoding, nulls or schema", "another --option encoding=…, nulls=…, or --schema"),
    "chatml": ("prompt, answer and system that name columns of text", "--option prompt=…, answer=… and system=…"),
    "jsonl": ("a path that parts the rows by another column", "a path that parts the rows by another column"),
}
"""With what an export takes such rows, by the format: for a program, and on the command line."""


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
        rows, them = ("1 row does", "it") if self.rows == 1 else (f"{self.rows:,} rows do", "them")
        called, typed = _REMEDIES[self.kind]
        return (
            f"{rows} not fit {self.path}: see {self.errors_path} for column and reason; to have {them} in a file, too, "
            f"{advice('call export() with', 'use `llm-datagen export` with')} {advice(called, typed)}"
        )
