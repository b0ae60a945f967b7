"""The rows of a finished stream, from any row on, for an export."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from llm_datagen.errors import StopRun, StreamError, StreamMissingError
from llm_datagen.streams.coverage import Segment
from llm_datagen.streams.formats.unreadable import explained
from llm_datagen.streams.ids import DATA_FIELD, ID_FIELD, Id
from llm_datagen.streams.rows import item_of
from llm_datagen.streams.stream import Stream

_READ_ROWS = 1024


class SourceRow(NamedTuple):
    """A row of the stream, not yet decoded."""

    number: int
    record: bytes
    end: int
    """The byte at which the next one begins."""


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
        self._decode: Any = None

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

    def read(self, start: int = 0, offset: int = 0, end: int | None = None) -> Generator[SourceRow, None, None]:
        """Yield the rows from one on, whose number and byte are known; up to number `end`, if it is given.

        Raises:
            StopRun: when it was stopped.
        """
        cursor = self.stream.cursor([Segment(start, offset)], follow=False)
        try:
            while (end is None or start < end) and (block := cursor.read(_READ_ROWS)):
                self.check_stopped()
                self._decode = block.decode
                at, ends = block.offset, block.ends  # `offset_after` adds all lengths up, for each row
                for number, record in enumerate(block.records):
                    if end is not None and start >= end:
                        return
                    start += 1
                    at = at + len(record) + 1 if ends is None else ends[number]
                    is_last = number + 1 == len(block.records)
                    yield SourceRow(block.start + number, record, block.offset_end if is_last else at)
        finally:
            cursor.close()

    def item(self, row: SourceRow) -> tuple[Id, dict[str, Any]]:
        """Return the id and the columns of a row, without its id. A value that is no object is the column `data`.

        Raises:
            RowFormatError: when it cannot be read.
        """
        try:
            row_id, item = item_of(self._decode(row.record), row.number)
        except ValueError as error:
            raise self.stream.row_error(explained(error, row.record), row.end - len(row.record) - 1) from error
        if not isinstance(item, dict):
            return row_id, {DATA_FIELD: item}
        item.pop(ID_FIELD, None)
        return row_id, item
