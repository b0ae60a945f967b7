"""Rows as Arrow batches. It is imported when it is used.

A batch of rows that all fit is checked and turned by pyarrow itself. Where one does not, each row is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from llm_datagen.streams.arrow_library import arrow
from llm_datagen.streams.outputs.arrow_types import arrow_schema, of_arrow, stored_type
from llm_datagen.streams.outputs.column_types import (
    ColumnType,
    MisfitError,
    fitted_row,
    holds_json,
)
from llm_datagen.streams.outputs.found_types import covers, is_same_kind, leaves, type_of, wider_fields

Failed = Callable[[int, MisfitError], None]
"""What is told of a row that does not fit: its number in the batch, and why."""


def found_array(rows: Sequence[Mapping[str, Any]]) -> tuple[Any, dict[str, ColumnType]] | None:
    """Return rows as pyarrow takes them, with the types of columns that it finds.

    None when one has no type, or pyarrow has changed a value: it takes a bool among floats for 0.0 or 1.0.
    """
    pa = arrow()
    try:
        array = pa.array(rows, type=None if rows else pa.struct([]))
        found = of_arrow(array.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError):
        return None
    if not isinstance(found, dict) or "struct" not in found or _has_bool_among_floats(rows, found):
        return None
    return array, found["struct"]


def _has_bool_among_floats(values: Sequence[Any], found: ColumnType) -> bool:
    if found == "float64":
        return bool in set(map(type, values))
    if isinstance(found, str):
        return False
    there = [value for value in values if value is not None]
    if "list" in found:
        return _has_bool_among_floats(list(chain.from_iterable(there)), found["list"])
    return any(
        _has_bool_among_floats([value.get(name) for value in there], of)
        for name, of in found["struct"].items()
        if "float64" in leaves(of)
    )


def types_of_all(read: Callable[[], Iterator[Sequence[Mapping[str, Any]]]], mixed: Any) -> dict[str, Any]:
    """Return the columns of all rows, some thousand at a time.

    Where they differ, each row is looked at: of an int64 that pyarrow finds, nobody knows what other type holds it.
    """
    columns: dict[str, Any] = {}
    for rows in read():
        found = found_array(rows)
        here = types_looked_at(rows, {}, mixed) if found is None else found[1]
        if not is_same_kind({"struct": columns}, {"struct": here}):
            break
        columns = wider_fields(columns, here, mixed)
    else:
        return columns
    columns = {}
    for rows in read():
        columns = types_looked_at(rows, columns, mixed)
    return columns


def types_looked_at(rows: Sequence[Mapping[str, Any]], known: dict[str, Any], mixed: Any) -> dict[str, Any]:
    """Return the columns that hold what is known and what is in some rows.

    It does without `pyarrow.array`, which imports pandas: 35 MB and a quarter of a second.
    """
    for row in rows:
        known = wider_fields(known, {name: type_of(value, mixed) for name, value in row.items()}, mixed)
    return known


def _refused(rows: Sequence[Mapping[str, Any]], failed: Failed) -> Sequence[Mapping[str, Any]]:
    for number, row in enumerate(rows):
        name = next(iter(row), "")
        failed(number, MisfitError(name, "none", "the table has no columns, so it holds no rows; keep the ids"))
    return []


class WrongGuessError(Exception):
    """Raised when the columns of an export are not those of its first rows: it is begun again."""


class Batches:
    """Turns rows into Arrow batches.

    Args:
        columns: the columns.
        guess: the same before they were settled, when they were found in the first rows only.
    """

    def __init__(self, columns: Mapping[str, ColumnType], guess: dict[str, ColumnType] | None = None) -> None:
        self._guess: ColumnType | None = None if guess is None else {"struct": guess}
        self._pa = arrow()
        self.schema = arrow_schema(columns)
        self._columns = dict(columns)
        self._struct = self._pa.struct(list(self.schema))
        self._stored = self._pa.struct(list(arrow_schema({name: stored_type(type) for name, type in columns.items()})))
        self._is_plain = not any(map(holds_json, columns.values()))

    def of(self, rows: Sequence[Mapping[str, Any]], failed: Failed) -> Any:
        """Return a batch of the rows that fit, in order; `failed` is told of the others.

        Raises:
            WrongGuessError: when all rows together have other columns than those that were guessed.
        """
        if not self._columns:  # a row of a table without columns is nowhere
            rows = _refused(rows, failed)
        found = found_array(rows) if self._is_plain else None
        if self._guess is not None and rows and (found is None or not covers(self._guess, {"struct": found[1]})):
            raise WrongGuessError
        if found is not None and covers({"struct": self._columns}, {"struct": found[1]}):
            batch = self._of_array(found[0])
            batch = batch if batch is not None else self._made(rows)
            if batch is not None:
                return batch
        good: list[dict[str, Any]] = []
        numbers: list[int] = []
        for number, row in enumerate(rows):
            try:
                good.append(fitted_row(row, self._columns))
                numbers.append(number)
            except MisfitError as misfit:
                failed(number, misfit)
        batch = self._made(good)
        return batch if batch is not None else self._each(good, numbers, failed)

    def _of_array(self, array: Any) -> Any:
        """Return rows that pyarrow has taken already as a batch; None when a column is of another type."""
        columns = []
        for field in self.schema:
            at = array.type.get_field_index(field.name)
            column = None if at < 0 else array.field(at)
            if column is None or self._pa.types.is_null(column.type):
                column = self._pa.nulls(len(array), field.type)
            if column.type != field.type:
                return None
            columns.append(column)
        return self._pa.RecordBatch.from_arrays(columns, schema=self.schema) if columns else None

    def _made(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        pa = self._pa
        try:
            array = pa.array(rows, type=self._stored)
            if self._stored != self._struct:
                array = array.cast(self._struct)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return None
        if not len(self.schema):
            return pa.record_batch([], schema=self.schema)
        return pa.RecordBatch.from_arrays(array.flatten(), schema=self.schema)

    def _each(self, rows: list[dict[str, Any]], numbers: list[int], failed: Failed) -> Any:
        """Return a batch of rows that pyarrow takes one by one: what it refuses, no check here has seen."""
        pa = self._pa
        good = []
        for number, row in zip(numbers, rows, strict=True):
            try:
                pa.array([row], type=self._stored)
                good.append(row)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                failed(number, MisfitError("", "row", str(error)))
        batch = self._made(good)
        assert batch is not None
        return batch
