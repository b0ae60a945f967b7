"""The rows of a finished stream, from any row on, for an export: in blocks, since each step per row costs time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from itertools import accumulate
from typing import Any

from llm_datagen.errors import StopRun, StreamError, StreamMissingError
from llm_datagen.streams.block import Block
from llm_datagen.streams.coverage import Segment
from llm_datagen.streams.formats.unreadable import explained
from llm_datagen.streams.ids import DATA_FIELD, ID_FIELD, Id
from llm_datagen.streams.outputs.lines import Lines, read_lines
from llm_datagen.streams.rows import item_of
from llm_datagen.streams.stream import Stream

BATCH_ROWS = 4096
"""How many rows are checked and written together."""


_IDS = (int, str)


class SourceRows:
    """Reads the rows of a stream that has ended.

    Args:
        stream: the stream.
        stopped: asked at some thousand rows; when it returns True, no more are read.

    Raises:
        StreamMissingError: when it is not there.
        StreamError: when it is not finished, so that more rows may come.
    """

    def __init__(self, stream: Stream, stopped: Callable[[], bool] = lambda: False) -> None:
        self.stream = stream
        self._stopped = stopped
        if stream.size() is None:
            raise StreamMissingError(f"{stream.path} does not exist, so there is nothing to export; check the path")
        if not stream.is_sealed() and stream.storage.size(stream.commits_path) is not None:
            raise StreamError(f"{stream.path} is not finished, so it is not exported; resume its run first")

    def identity(self) -> dict[str, Any]:
        """Return what tells the stream from another one, and from what it was before it was made again."""
        seal = self.stream.read_seal()
        of_seal = {} if seal is None else {"rows": seal.rows, "crc32": seal.crc, "sealed_at": seal.sealed_at}
        return {"path": self.stream.path, "bytes": self.stream.size(), **of_seal}

    def check_stopped(self) -> None:
        """Check that the export is to go on.

        Raises:
            StopRun: when it is not.
        """
        if self._stopped():
            raise StopRun("the export was stopped; what is there of it is gone on with")

    def read(self, start: int = 0, offset: int = 0, end: int | None = None) -> Generator[Block, None, None]:
        """Yield the rows from one on, whose number and byte are known; up to number `end`, if it is given.

        Raises:
            StopRun: when it was stopped.
        """
        cursor = self.stream.cursor([Segment(start, offset)], follow=False)
        try:
            while end is None or start < end:
                block = cursor.read(BATCH_ROWS if end is None else min(BATCH_ROWS, end - start))
                if block is None:
                    return
                self.check_stopped()
                start = block.end
                yield block
        finally:
            cursor.close()

    def read_lines(self, start: int, offset: int) -> Generator[Lines, None, None]:
        """Yield the rows from one on as `read` does, uncut; see `are_lines`.

        Raises:
            StopRun: when it was stopped.
        """
        with contextlib.closing(read_lines(self.stream, start, offset)) as pieces:
            for lines in pieces:
                self.check_stopped()
                yield lines

    def items(self, block: Block) -> list[tuple[Id, dict[str, Any]]]:
        """Return the ids and the columns of rows, without their ids. A value that is no object is the column `data`.

        Raises:
            RowFormatError: when one cannot be read.
        """
        try:
            values = list(map(block.decode, block.records))
        except ValueError:
            values = [self._decoded(block, number) for number in range(len(block.records))]
        rows: list[tuple[Id, dict[str, Any]]] = []
        for number, value in enumerate(values, block.start):
            if value.__class__ is dict and len(value) > 2 and value.get(ID_FIELD).__class__ in _IDS:  # most are
                rows.append((value.pop(ID_FIELD), value))
            else:
                rows.append(_item(value, number))
        return rows

    def _decoded(self, block: Block, number: int) -> Any:
        record = block.records[number]
        try:
            return block.decode(record)
        except ValueError as error:
            raise self.stream.row_error(explained(error, record), block.offset_after(number)) from error


def _item(value: Any, number: int) -> tuple[Id, dict[str, Any]]:
    row_id, item = item_of(value, number)
    if item.__class__ is not dict:
        return row_id, {DATA_FIELD: item}
    del item[ID_FIELD]
    return row_id, item


class Batcher:
    """Makes batches of blocks. Where they end depends on their rows alone, not on how they were read.

    Args:
        rows: how many rows a batch has.
        most_bytes: a batch ends with the row with which its records have so many bytes.
    """

    def __init__(self, rows: int = BATCH_ROWS, most_bytes: int | None = None) -> None:
        self._rows = rows
        self._most_bytes = most_bytes
        self._waiting: Block | None = None

    def add(self, block: Block) -> Iterator[Block]:
        """Take the next rows, and yield the batches that are whole."""
        waiting = block if self._waiting is None else self._waiting.joined(block)
        while (count := self._whole(waiting)) is not None:
            batch, waiting = waiting.split_at(count)
            yield batch
        self._waiting = waiting if waiting.records else None

    def rest(self) -> Iterator[Block]:
        """Yield what is left, if anything."""
        if self._waiting is not None:
            yield self._waiting
        self._waiting = None

    def _whole(self, block: Block) -> int | None:
        """Return how many rows the first batch has; None when it is not whole."""
        records = block.records[: self._rows]
        if self._most_bytes is not None and sum(map(len, records)) >= self._most_bytes:
            sizes = accumulate(map(len, records))
            return next(count for count, size in enumerate(sizes, 1) if size >= self._most_bytes)
        return self._rows if len(records) == self._rows else None
