"""Parquet files as inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llm_datagen.errors import StreamError
from llm_datagen.streams.inputs.arrow_rows import BATCH_ROWS, RowMaker, arrow, chosen
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
        return ParquetTable(self.path, self.columns)


class ParquetTable:
    """An open Parquet file. One thread at a time uses it.

    Args:
        path: its path.
        columns: which columns to read; None: all.
    """

    def __init__(self, path: str, columns: Sequence[str] | None) -> None:
        parquet = arrow("pyarrow.parquet")
        try:
            self._file: Any = parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        except (arrow().ArrowException, OSError) as error:
            raise StreamError(
                f"{path} cannot be read as Parquet: {error}; replace it with a whole file, or rename it"
            ) from error
        try:
            self._columns = chosen(path, self._file.schema_arrow, columns)
            self._maker = RowMaker(
                arrow().schema([self._file.schema_arrow.field(name) for name in self._columns]), path
            )
        except BaseException:
            self._file.close()
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
        for batch in self._file.iter_batches(
            batch_size=BATCH_ROWS, row_groups=groups, columns=self._columns, use_threads=False
        ):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            yield self._maker.lines(batch.slice(skip) if skip else batch)
            skip = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()
