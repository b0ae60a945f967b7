"""Record batches of Arrow as rows. What each type becomes, docs/how-to/read-tables.md says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llm_datagen.errors import DatagenError, StreamError
from llm_datagen.streams.arrow_library import arrow
from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.formats.unreadable import UnreadableRecord
from llm_datagen.streams.inputs.arrow_plain import check_type, is_plain, plain
from llm_datagen.streams.inputs.arrow_values import holds_json, value_converter
from llm_datagen.streams.inputs.table_rows import is_same, table_rows

Convert = Callable[[Any], Any]

_BATCH_ROWS = 1024
_BATCH_BYTES = 4 << 20


def batch_rows(size: int, rows: int) -> int:
    """Return how many rows to make at once, of some that take `size` bytes: about 4 MiB, and 1,024 rows at most."""
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // max(1, size)))


def chosen(path: str, schema: Any, columns: Sequence[str] | None) -> list[str]:
    """Return the columns to read.

    Raises:
        StreamError: when one is not there.
    """
    if columns is None:
        return list(schema.names)
    there = set(schema.names)
    if missing := [name for name in columns if name not in there]:
        raise StreamError(f"{path} has no column {missing[0]!r}; it has {', '.join(map(repr, schema.names))}")
    return list(columns)


def read_batches(batches: Iterator[Any], path: str) -> Iterator[Any]:
    """Yield what a reader of pyarrow yields.

    Raises:
        ValueError: when the file is damaged, or packed in a way that pyarrow does not read.
        StreamError: when it is encrypted.
    """
    try:
        yield from batches
    except DatagenError:
        raise  # of the store that the file is in: the file is not at fault
    except (OSError, arrow().ArrowException) as error:
        if "crypt" in str(error):
            raise StreamError(
                f"{path} has encrypted columns: {error}; decrypt it, or choose other columns with ?columns=…"
            ) from error
        raise ValueError(str(error)) from error


class RowMaker:
    """Makes records of record batches of one schema.

    Args:
        schema: the schema.
        path: the file, for messages.

    Attributes:
        has_json: whether a column holds values as JSON text.

    Raises:
        StreamError: when a column has a type that rows cannot hold, naming both.
    """

    def __init__(self, schema: Any, path: str) -> None:
        pa = arrow()
        if twice := sorted(name for name, count in Counter(schema.names).items() if count > 1):
            raise StreamError(f"{path} has two columns {twice[0]!r}, and a row has one; rename one of them")
        for field in schema:
            check_type(field.type, field.name, path)
        self._schema = pa.schema([(field.name, plain(pa.nulls(0, field.type)).type) for field in schema])
        self._is_plain = all(is_plain(field.type) for field in schema)
        self._converts = {
            field.name: convert for field in schema if (convert := value_converter(field.type, field)) is not None
        }
        self.has_json = any(holds_json(field) for field in schema)
        self._is_same = not self._converts and all(is_same(field.type) for field in schema)
        self._floats = [number for number, field in enumerate(self._schema) if _has_floats(field.type)]

    def records(self, batch: Any, check: Callable[[int, int], None] | None = None) -> list[Any]:
        """Return the rows of a batch, as `TableRow` or as lines of JSON.

        What a row cannot hold makes it an `UnreadableRecord`, and no other row.

        Args:
            batch: the batch.
            check: called with the first row of the batch to look at, and how many; raises ValueError to refuse them.
        """
        if check is None and self._is_same and self._is_sound(batch):
            return table_rows(batch)
        try:
            return self._lines(batch, check, 0)
        except (ValueError, TypeError, RecursionError, arrow().ArrowException):
            return [self._line(batch.slice(number, 1), check, number) for number in range(batch.num_rows)]

    def _is_sound(self, batch: Any) -> bool:
        """Return whether all of its text is UTF-8, and no float is odd."""
        try:
            batch.validate(full=True)
        except arrow().ArrowException:
            return False
        return not any(_is_odd(batch.column(number)) for number in self._floats)

    def _line(self, row: Any, check: Callable[[int, int], None] | None, number: int) -> bytes:
        try:
            return self._lines(row, check, number)[0]
        except (ValueError, TypeError, RecursionError, arrow().ArrowException) as error:
            return UnreadableRecord(str(error).encode("utf-8", "replace"))

    def _lines(self, batch: Any, check: Callable[[int, int], None] | None, number: int) -> list[bytes]:
        if check is not None:
            check(number, batch.num_rows)
        batch, rows = self._told(batch)
        if any(_is_odd(batch.column(number)) for number in self._floats):
            return [json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() for row in rows]
        return [dumps(row) for row in rows]

    def rows(self, batch: Any) -> list[dict[str, Any]]:
        """Return the rows of a batch, as `lines` tells them, for programs.

        Raises:
            ValueError: when a row cannot hold a value, naming the column.
        """
        found: list[dict[str, Any]] = self._told(batch)[1]
        return found

    def _told(self, batch: Any) -> tuple[Any, Any]:
        """Return a batch of plain columns, and its rows."""
        if not self._is_plain:
            columns = [
                _in_column(field.name, plain, column) for field, column in zip(self._schema, batch.columns, strict=True)
            ]
            batch = arrow().RecordBatch.from_arrays(columns, schema=self._schema) if columns else batch
        try:
            rows = batch.to_pylist()
        except UnicodeDecodeError:
            for name, column in zip(self._schema.names, batch.columns, strict=True):
                _in_column(name, lambda column: column.to_pylist(), column)
            raise
        for name, convert in self._converts.items():
            for row in rows:
                row[name] = _in_column(name, convert, row[name])
        return batch, rows


def _has_floats(kind: Any) -> bool:
    types = arrow().types
    if types.is_floating(kind):
        return True
    if types.is_map(kind):
        return _has_floats(kind.key_type) or _has_floats(kind.item_type)
    return any(_has_floats(kind.field(number).type) for number in range(kind.num_fields))


def _is_odd(column: Any) -> bool:
    """Return whether a column holds NaN or an infinity, at any depth."""
    types = arrow().types
    kind = column.type
    if types.is_floating(kind):
        compute = arrow("pyarrow.compute")
        return compute.all(compute.is_finite(column)).as_py() is False
    if types.is_struct(kind):
        return any(_is_odd(part) for part in column.flatten() if _has_floats(part.type))
    if types.is_map(kind):
        return any(_is_odd(part) for part in (column.keys, column.items) if _has_floats(part.type))
    return _is_odd(column.flatten())


def _in_column(name: str, make: Convert, value: Any) -> Any:
    try:
        return make(value)
    except UnicodeDecodeError as error:
        raise ValueError(f"column {name!r} holds text that is not UTF-8: {error.object[:40]!r}") from None
    except (ValueError, arrow().ArrowException) as error:
        raise ValueError(f"column {name!r}: {error}") from error
