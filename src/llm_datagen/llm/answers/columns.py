"""The columns of an answer are added to those of the row: nothing is overwritten unless the user says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llm_datagen.llm.errors import ColumnExistsError
from llm_datagen.llm.prompts.template import row_label


def with_columns(row: Mapping[str, Any], columns: Mapping[str, Any], *, overwrites: bool) -> dict[str, Any]:
    """Return a new row that has the columns, too.

    Raises:
        ColumnExistsError: when the row has one of them, and it may not be overwritten.
    """
    if not overwrites:
        check_free(columns, row)
    return {**row, **columns}


def check_free(columns: Iterable[str], row: Mapping[str, Any]) -> None:
    """Check that the row has none of the columns.

    Raises:
        ColumnExistsError: naming those that it has.
    """
    taken = [name for name in columns if name in row]
    if taken:
        raise ColumnExistsError(
            f"{row_label(row)} has a column {', '.join(map(repr, taken))} already, and the answer would overwrite it: "
            "give output (or extra_columns) another name, or set overwrite_columns=True"
        )
