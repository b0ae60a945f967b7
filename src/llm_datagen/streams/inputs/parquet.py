"""Parquet files as inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llm_datagen.errors import StreamError
from llm_datagen.streams.inputs.arrow_rows import RowMaker, arrow, batch_rows, chosen
from llm_datagen.streams.inputs.table import TableStream

_BUFFER_BYTES = 1 << 20


class ParquetStream(TableStream):
    """The rows of a Parquet file. It is only read."""

    extension = "parquet"

    def open_table(self) -> ParquetTable:
        """Open the file.

        Raises:
            StreamError: when it is no Parquet file, or has columns that rows cannot hold.
            ConfigError: when pyarrow is not installed.
        """
        return ParquetTable(self.path, self.columns, self.open_file)


class ParquetTable:
    """An open Parquet file. One thread at a time uses it.

    Args:
        path: its path.
        columns: which columns to read; None: all.
        open_file: returns what pyarrow opens; None: its path.
    """

    def __init__(self, path: str, columns: Sequence[str] | None, open_file: Callable[[], Any] | None = None) -> None:
        self._open = open_file or (lambda: path)
        source = self._open()
        try:
            self._file: Any = _opened(source)
        except (arrow().ArrowException, OSError) as error:
            raise StreamError(
                f"{path} cannot be read as Parquet: {error}; replace it with a whole file, or rename it"
            ) from error
        try:
            self._columns = chosen(path, self._file.schema_arrow, columns)
            self._int96 = _int96_columns(self._file.schema, self._columns, path)
            self._path = path
            self._maker = RowMaker(
                arrow().schema([self._file.schema_arrow.field(name) for name in self._columns]), path
            )
        except BaseException:
            self._file.close(force=True)
            raise

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self._file.metadata.num_rows)

    def batches(self, start: int) -> Iterator[list[bytes]]:
        """Yield all rows from number `start` on, as lines of JSON.

        Raises:
            ValueError: when the file is damaged, or a value cannot be held.
        """
        metadata = self._file.metadata
        first, group = 0, 0
        while group < metadata.num_row_groups and first + metadata.row_group(group).num_rows <= start:
            first += metadata.row_group(group).num_rows
            group += 1
        skip = start - first
        groups = range(group, metadata.num_row_groups)
        sizes = [(metadata.row_group(number).total_byte_size, metadata.row_group(number).num_rows) for number in groups]
        rows = batch_rows(*max(sizes, default=(0, 0)))
        reading = {"batch_size": rows, "row_groups": groups, "use_threads": False}
        moments = self._moments(reading)
        for batch in self._file.iter_batches(columns=self._columns, **reading):
            if self._int96:
                self._check_moments(batch, next(moments))
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            yield self._maker.lines(batch.slice(skip) if skip else batch)
            skip = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close(force=True)

    def _moments(self, reading: dict[str, Any]) -> Iterator[Any]:
        """Yield the INT96 columns in microseconds: nanoseconds wrap around before 1677 and after 2262."""
        if self._int96:
            file = _opened(self._open(), coerce_int96_timestamp_unit="us")
            try:
                yield from file.iter_batches(columns=self._int96, **reading)
            finally:
                file.close(force=True)

    def _check_moments(self, batch: Any, moments: Any) -> None:
        compute, whole = arrow("pyarrow.compute"), arrow().int64()
        for name in self._int96:
            wide = moments.column(name).cast(whole)
            narrow = compute.divide(batch.column(name).cast(whole), 1000)
            if compute.any(compute.greater(compute.abs(compute.subtract(wide, narrow)), 1000)).as_py():
                raise ValueError(f"column {name!r} (INT96) holds a moment before 1677 or after 2262")


def _opened(source: Any, **options: Any) -> Any:
    return arrow("pyarrow.parquet").ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER_BYTES, **options)


def _int96_columns(physical: Any, names: Sequence[str], path: str) -> list[str]:
    """Return the columns of the old type INT96 among those that are read.

    Raises:
        StreamError: naming one inside another column, where moments out of range are not noticed.
    """
    found = []
    for column in (physical.column(number) for number in range(len(physical))):
        if column.physical_type != "INT96":
            continue
        if column.path in names:
            found.append(column.path)
        elif column.path.partition(".")[0] in names:
            raise StreamError(
                f"{path}, column {column.path!r}: INT96 inside another type is not read; leave the column out "
                "with ?columns=…, or write it as a timestamp"
            )
    return found
