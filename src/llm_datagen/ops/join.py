"""Columns of another table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from llm_datagen.config import check_choice
from llm_datagen.errors import ConfigError, RowDataError
from llm_datagen.operators import INodeContext
from llm_datagen.operators.fingerprint import Parts
from llm_datagen.ops.base import DataOperator, as_columns, value_of, with_columns, without_id
from llm_datagen.ops.side_table import SideTable, kind_of
from llm_datagen.streams.factory import StreamFactory
from llm_datagen.streams.rows import Rejected
from llm_datagen.streams.storage.local import LocalStorage

How = Literal["left", "inner"]

_NO_MATCH = Rejected("no match in the table")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be text, not {value!r}")
    return value


class Join(DataOperator):
    """Adds the columns of a table's row to each row that has the same key. Several rows of the table make several rows.

    The table is read when a run begins, into a temporary SQLite file: up to 64 MB of it in memory, the rest on disk. It
    keeps no state and works with any concurrency. A null matches nothing.

    Args:
        table: the URI of the table: a file of JSON lines, CSV, Parquet, or any other stream.
        by: the columns of the key, of one name in both; or ``{column of the row: column of the table}``.
        how: "left": a row without a match stays, with null in the table's columns; "inner": it is filtered.
        columns: the columns of the table that are added; None for all but the key.
        prefix: what the names of the added columns begin with.
    """

    def __init__(
        self,
        table: str,
        *,
        by: str | Sequence[str] | Mapping[str, str],
        how: How = "left",
        columns: str | Sequence[str] | None = None,
        prefix: str = "",
    ) -> None:
        if not isinstance(table, str) or not table:
            raise ConfigError(f"table must be the URI of a table, not {table!r}")
        names = dict(by) if isinstance(by, Mapping) else {column: column for column in as_columns("by", by)}
        self.table = table
        self.by = names
        self.how = check_choice("how", how, How)
        self.columns = None if columns is None else as_columns("columns", columns)
        self.prefix = _text("prefix", prefix)
        self._mine, self._theirs = as_columns("by", list(names)), as_columns("by", list(names.values()))
        self._side: SideTable | None = None

    def fingerprint(self) -> Parts:
        """Return the settings, and a digest of the table, if it is a file of this machine."""
        stream = StreamFactory.create(self.table)
        digest = None
        if isinstance(stream.storage, LocalStorage) and Path(stream.path).is_file():
            with Path(stream.path).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        return {**super().fingerprint(), "content of the table": digest}

    def setup(self) -> None:
        """Read the table.

        Raises:
            StreamError: when it cannot be read.
            ConfigError: when it lacks a column.
        """
        side = SideTable(self.table, self._theirs)
        for column in self.columns or ():
            if column not in side.columns:
                side.close()
                raise ConfigError(f"{self.table} has no column {column!r}; known are {', '.join(side.columns)}")
        self._side = side

    def teardown(self) -> None:
        """Forget the table."""
        if self._side is not None:
            self._side.close()
            self._side = None

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row, or the rows, with the columns of the table.

        Raises:
            RowDataError: when the row lacks a column of the key, has a column of the table already, or its key is of a
                kind that no row of the table has, as a number is where the table has texts.
        """
        assert self._side is not None
        side, key = self._side, [value_of(item, column) for column in self._mine]
        found = [] if None in key else side.find(key)
        if not found:
            self._check_kinds(side, key)
            if self.how == "inner":
                return _NO_MATCH
            found = [{}]
        names = side.columns if self.columns is None else self.columns
        rows = [with_columns(item, {self.prefix + name: match.get(name) for name in names}) for match in found]
        return rows[0] if len(rows) == 1 else [without_id(row) for row in rows]

    def _check_kinds(self, side: SideTable, key: list[Any]) -> None:
        for column, value, all_kinds in zip(self._mine, key, side.kinds, strict=True):
            kind, kinds = kind_of(value), all_kinds - {"NoneType"}
            if value is not None and kinds and kind not in kinds:
                raise RowDataError(
                    f"column {column!r} holds a {kind}, and the key of {self.table} {'/'.join(sorted(kinds))}: they "
                    "can never be equal; make them one type in a step before"
                )
