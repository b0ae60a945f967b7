"""Exports as tables: Parquet files, and the Arrow files of a Hugging Face folder. Needs pyarrow."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.streams.arrow_library import arrow
from llm_datagen.streams.outputs.arrow import Batches, Failed
from llm_datagen.streams.outputs.column_types import ColumnType
from llm_datagen.streams.outputs.part_file import PartFile

_GROUP_ROWS = 65_536
_GROUP_BYTES = 8 << 20


class ParquetPart:
    """Writes rows as a Parquet file. A row group has 65,536 rows, or 8 MiB: memory holds one.

    Args:
        part: the file.
        columns: its columns.
        dictionaries: the columns with few different values, which are kept once.
        guess: the columns as they were found in the first rows, when they are a guess; see `Batches`.
    """

    def __init__(
        self,
        part: PartFile,
        columns: Mapping[str, ColumnType],
        dictionaries: Sequence[str],
        guess: dict[str, Any] | None = None,
    ) -> None:
        self._pa, pq = arrow(), arrow("pyarrow.parquet")
        self._pa.default_memory_pool().release_unused()  # of the run before
        self._batches = Batches(columns, guess)
        self._waiting: list[Any] = []
        self._rows = self._bytes = 0
        self._writer = pq.ParquetWriter(
            part,
            self._batches.schema,
            compression="zstd",
            use_dictionary=list(dictionaries) or False,
            write_page_checksum=True,
        )

    def write(self, rows: Sequence[dict[str, Any]], failed: Failed) -> int:
        """Write the rows that fit; `failed` is told of the others. Returns how many were written."""
        batch = self._batches.of(rows, failed)
        self.add(batch)
        return int(batch.num_rows)

    def add(self, batch: Any) -> None:
        """Write a batch."""
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what waits, and the footer."""
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the file, which takes nothing any more."""
        with contextlib.suppress(Exception):
            self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._pa.Table.from_batches(self._waiting), row_group_size=self._rows)
        self._waiting, self._rows, self._bytes = [], 0, 0


class ArrowPart:
    """Writes rows as an Arrow stream file, as `datasets` keeps them: batches of some thousand rows."""

    def __init__(self, part: PartFile, columns: Mapping[str, ColumnType]) -> None:
        pa = arrow()
        self._batches = Batches(columns)
        self._writer = pa.ipc.new_stream(part, self._batches.schema)

    def write(self, rows: Sequence[dict[str, Any]], failed: Failed) -> int:
        """Write the rows that fit; `failed` is told of the others. Returns how many were written."""
        batch = self._batches.of(rows, failed)
        self.add(batch)
        return int(batch.num_rows)

    def add(self, batch: Any) -> None:
        """Write a batch."""
        if batch.num_rows:
            self._writer.write_batch(batch)

    def close(self) -> None:
        """Write the end."""
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the file, which takes nothing any more."""
        with contextlib.suppress(Exception):
            self._writer.close()
