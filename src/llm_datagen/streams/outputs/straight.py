"""Lines of JSON as Arrow batches, read by Arrow itself: no Python value is made of any cell.

That is taken only where nothing can be lost: of streams that this package has written, for types that JSON has, and
when every row of a batch is of these types. In all other cases the rows are looked at in Python, as `Batches` does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.streams.arrow_library import arrow
from llm_datagen.streams.ids import DATA_FIELD, ID_FIELD
from llm_datagen.streams.outputs.arrow_types import arrow_schema
from llm_datagen.streams.outputs.column_types import ColumnType
from llm_datagen.streams.outputs.lines import Lines

_TYPES = ("null", "bool", "int64", "float64", "string")
_MOST_BYTES = 1 << 30
_TEXT_ID = b'"%s":"' % ID_FIELD.encode()
_EXACT = float(1 << 53)
"""Whole numbers below are the same as floats."""


class StraightBatches:
    """Turns lines of JSON into Arrow batches.

    Args:
        columns: the columns, that of the ids among them.
        ids: the name of that column; None: there is none.
    """

    def __init__(self, columns: Mapping[str, ColumnType], ids: str | None) -> None:
        self._pa, self._json = arrow(), arrow("pyarrow.json")
        self._ids = ids
        self._schema = arrow_schema(columns)
        self._of_rows = arrow_schema({name: type for name, type in columns.items() if name != ids})

    @staticmethod
    def fits(columns: Mapping[str, ColumnType], ids: str | None) -> bool:
        """Return whether columns can be made so."""
        of_rows = {name: type for name, type in columns.items() if name != ids}
        is_clear = ID_FIELD not in of_rows and not isinstance(of_rows.get(DATA_FIELD), dict)  # it may be the whole row
        return is_clear and all(map(_is_of_json, of_rows.values()))

    def of(self, lines: Lines) -> Any:
        """Return rows as a batch; None when they must be looked at one by one."""
        data = lines.view
        if len(data) > _MOST_BYTES:
            return None
        has_text_ids = _TEXT_ID in lines.first_line  # a guess: if it is wrong, reading fails
        id_field = self._pa.field(ID_FIELD, self._pa.string() if has_text_ids else self._pa.int64())
        try:
            table = self._json.read_json(
                self._pa.BufferReader(data),
                self._json.ReadOptions(use_threads=False, block_size=len(data) + 1),
                self._json.ParseOptions(
                    explicit_schema=self._of_rows.append(id_field), unexpected_field_behavior="error"
                ),
            )
            (batch,) = table.to_batches()
            batch.validate(full=True)  # that text is UTF-8
        except (self._pa.ArrowException, ValueError, OSError):
            return None
        names = batch.column(ID_FIELD)
        if batch.num_rows != lines.count or names.null_count or any(map(_is_long, batch.columns)):
            return None
        columns = {**dict(zip(batch.schema.names, batch.columns, strict=True)), self._ids: names.cast("string")}
        made = [columns[name] for name in self._schema.names]
        is_same = all(column.type == field.type for column, field in zip(made, self._schema, strict=True))
        return self._pa.RecordBatch.from_arrays(made, schema=self._schema) if made and is_same else None


def _is_of_json(type: ColumnType) -> bool:
    if isinstance(type, str):
        return type in _TYPES
    if "list" in type:
        return _is_of_json(type["list"])
    return "struct" in type and all(map(_is_of_json, type["struct"].values()))


def _is_long(column: Any) -> bool:
    """Return whether a column holds a float, at any depth, that may be a whole number that was not exact."""
    types, kind = arrow().types, column.type
    if types.is_floating(kind):
        least, most = arrow("pyarrow.compute").min_max(column).values()
        return bool(least.is_valid) and not -_EXACT < least.as_py() <= most.as_py() < _EXACT
    return kind.num_fields > 0 and any(map(_is_long, column.flatten() if types.is_struct(kind) else [column.flatten()]))
