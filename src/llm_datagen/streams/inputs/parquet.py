"""Parquet files as inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from llm_datagen.errors import DatagenError, StreamError
from llm_datagen.streams.arrow_library import arrow
from llm_datagen.streams.inputs.arrow_plain import is_list
from llm_datagen.streams.inputs.arrow_rows import RowMaker, batch_rows, chosen, read_batches
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
        except DatagenError:
            raise  # of the store that the file is in: the file is not at fault
        except (arrow().ArrowException, OSError) as error:
            raise StreamError(
                f"{path} cannot be read as Parquet: {error}; replace it with a whole file, or rename it"
            ) from error
        try:
            schema = self._file.schema_arrow  # is made anew each time it is asked for
            self._columns = chosen(path, schema, columns)
            self._int96 = _columns_with_int96(self._file, self._columns, self._open)
            self._has_inner_dictionaries = any(map(_has_dictionary_within, schema.types))
            self._path = path
            self._maker = RowMaker(arrow().schema([schema.field(name) for name in self._columns]), path)
        except BaseException:
            self._file.close(force=True)
            raise

    @property
    def has_long_numbers(self) -> bool:
        """Whether its rows may hold whole numbers of more than 64 bits."""
        return self._maker.has_json

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self._file.metadata.num_rows)

    @property
    def parts(self) -> list[int]:
        """The numbers of the rows at which row groups begin: reading from there reads nothing before."""
        metadata = self._file.metadata
        return list(
            accumulate((metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)), initial=0)
        )

    def batches(self, start: int) -> Iterator[list[Any]]:
        """Yield all rows from number `start` on, as records.

        Raises:
            ValueError: when the file is damaged.
            StreamError: when a column is encrypted.
        """
        metadata = self._file.metadata
        first, group = 0, 0
        while group < metadata.num_row_groups and first + metadata.row_group(group).num_rows <= start:
            first += metadata.row_group(group).num_rows
            group += 1
        skip = start - first
        groups = range(group, metadata.num_row_groups)
        sizes = [(metadata.row_group(number).total_byte_size, metadata.row_group(number).num_rows) for number in groups]
        most = batch_rows(*max(sizes, default=(0, 0)))
        reading: dict[str, Any] = {"batch_size": most, "row_groups": groups, "use_threads": False}
        moments = self._moments(reading)
        for batch in read_batches(self._read(self._file, self._columns, **reading), self._path):
            coarse = next(moments) if self._int96 else None
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            rows = batch.select(self._columns).slice(skip)  # names with dots in them choose more columns than one
            yield self._maker.records(rows, self._check(rows, coarse, skip))
            skip = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close(force=True)

    def _read(self, file: Any, columns: Sequence[str], *, row_groups: Sequence[int], **reading: Any) -> Iterator[Any]:
        """Yield batches: of each row group by itself where pyarrow cannot put a batch together of two."""
        parts = [[number] for number in row_groups] if self._has_inner_dictionaries else [row_groups]
        for part in parts:
            yield from file.iter_batches(columns=columns, row_groups=part, **reading)

    def _moments(self, reading: dict[str, Any]) -> Iterator[Any]:
        """Yield the columns with INT96 in microseconds: nanoseconds wrap around before 1677 and after 2262."""
        if self._int96:
            with _reopened(self._open()) as file:
                for batch in self._read(file, self._int96, **reading):
                    yield batch.select(self._int96)

    def _check(self, batch: Any, coarse: Any, skip: int) -> Callable[[int, int], None] | None:
        """Return what refuses rows with a moment of INT96 that nanoseconds of 64 bits do not hold."""
        if coarse is None:
            return None

        def check(first: int, rows: int) -> None:
            for name in self._int96:
                fine = _moments_in(batch.column(name).slice(first, rows))
                for narrow, wide in zip(fine, _moments_in(coarse.column(name).slice(skip + first, rows)), strict=True):
                    _check_moments(name, narrow, wide)

        return check


def _opened(source: Any, **options: Any) -> Any:
    reading = {"pre_buffer": False, "buffer_size": _BUFFER_BYTES, "page_checksum_verification": True}
    return arrow("pyarrow.parquet").ParquetFile(source, **reading, **options)


@contextlib.contextmanager
def _reopened(source: Any) -> Iterator[Any]:
    """Open a file with moments of INT96 in microseconds."""
    file = _opened(source, coerce_int96_timestamp_unit="us")
    try:
        yield file
    finally:
        file.close(force=True)


def _columns_with_int96(file: Any, names: Sequence[str], open_file: Callable[[], Any]) -> list[str]:
    """Return the columns that hold moments of the old type INT96, at any depth, among those that are read."""
    physical = file.schema
    if not any(physical.column(number).physical_type == "INT96" for number in range(len(physical))):
        return []
    with _reopened(open_file()) as coarse:
        fine, wide = file.schema_arrow, coarse.schema_arrow
        return [name for name in names if fine.field(name).type != wide.field(name).type]


def _has_dictionary_within(kind: Any) -> bool:
    types, inner = arrow().types, [kind.field(number).type for number in range(kind.num_fields)]
    return any(types.is_dictionary(each) or _has_dictionary_within(each) for each in inner)


def _moments_in(column: Any) -> Iterator[Any]:
    """Yield the arrays of moments in an array, at any depth."""
    types = arrow().types
    if types.is_timestamp(column.type):
        yield column
    elif types.is_struct(column.type):
        for part in column.flatten():
            yield from _moments_in(part)
    elif types.is_map(column.type):
        begin, end = (column.offsets[0].as_py(), column.offsets[-1].as_py()) if len(column) else (0, 0)
        for part in (column.keys, column.items):
            yield from _moments_in(part.slice(begin, end - begin))
    elif is_list(column.type):
        yield from _moments_in(column.flatten())


def _check_moments(name: str, narrow: Any, wide: Any) -> None:
    compute, whole = arrow("pyarrow.compute"), arrow().int64()
    if wide.type == narrow.type:
        return
    again = compute.divide(narrow.cast(whole), 1000)
    if compute.any(compute.greater(compute.abs(compute.subtract(wide.cast(whole), again)), 1)).as_py():
        raise ValueError(f"column {name!r} (INT96) holds a moment before 1677 or after 2262")
