"""Reading and writing a stream without a pipeline: what `get_reader()` and `get_writer()` return (M16, M18)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from llm_datagen.config import check_count, check_seconds
from llm_datagen.errors import RowFormatError, StreamIdleError
from llm_datagen.streams.block import Block
from llm_datagen.streams.coverage import START, Segment
from llm_datagen.streams.formats.base import lines_of
from llm_datagen.streams.formats.unreadable import explained
from llm_datagen.streams.ids import ID_FIELD, Id, check_id
from llm_datagen.streams.rows import as_row, item_of
from llm_datagen.streams.seal import NUMBERED
from llm_datagen.streams.sink import Sink
from llm_datagen.streams.source_cursor import Described, SourceCursor

EOF_RETRIES = 5
"""How often an empty read is tried again, and said so, before a reader settles down to wait (M18)."""

EOF_RETRY_SECONDS = 0.1

_READ_ROWS = 1024


class StreamWriter:
    """Writes rows to a stream. One thread at a time may use it; `close()` seals."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, rows: Iterable[Any]) -> None:
        """Append rows and commit them. A row without an id gets its number in the stream.

        Raises:
            TypeError, ValueError: when the format cannot hold one of them; then none of them is written.
        """
        if isinstance(rows, Mapping | str | bytes):
            raise TypeError(f"write() takes rows, such as a list of dicts, not one {type(rows).__name__}")
        encoded: list[bytes] = []
        ids: list[Id] = []
        is_numbered = self._sink.position.marks.get(NUMBERED, not self._sink.position.rows)
        for row in rows:
            known = row.get(ID_FIELD) if isinstance(row, dict) else None
            row_id: Id = self._sink.position.rows + len(encoded) if known is None else check_id(known)
            ids.append(row_id)
            is_numbered = is_numbered and known is None
            encoded.append(self._sink.encoder.encode_other(as_row(row, row_id)))
        if encoded:
            marks = {NUMBERED: is_numbered}
            self._sink.append(lines_of(encoded), rows=len(encoded), ids=(ids[0], ids[-1]), marks=marks)

    def close(self) -> None:
        """Seal the stream. When that is not possible, such as after a write that failed, it is closed unsealed.

        Raises:
            StreamError: when it cannot be sealed.
            DiskError: when the disk refuses.
        """
        try:
            self._sink.seal()
        finally:
            self._sink.close()

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:  # what was written stays, unsealed: it can be continued
            self._sink.close()


class Readable(Described, Protocol):
    """What a `StreamReader` reads."""

    def cursor(self, segments: Sequence[Segment] = (START,), *, follow: bool = True) -> SourceCursor:
        """Return a cursor."""

    def row_error(self, error: ValueError, offset: int) -> RowFormatError:
        """Return the error that says which line cannot be parsed, and why."""


class StreamReader:
    """Reads rows from a stream. One thread at a time may use it."""

    def __init__(
        self,
        stream: Readable,
        follow: bool,
        retry_interval: float,
        idle_timeout: float | None,
        on_retry: Callable[[int], None] | None,
    ) -> None:
        self._stream = stream
        self._follow = follow
        self._retry_interval = check_seconds("retry_interval", retry_interval)
        self._idle_timeout = None if idle_timeout is None else check_seconds("idle_timeout", idle_timeout)
        self._on_retry = on_retry

    def read(self, batch_size: int = 1) -> Iterator[tuple[list[Any], list[Id]]]:
        """Yield ``(rows, ids)``, `batch_size` rows at a time, until the stream ends.

        A batch is short only when there is no more now.

        Raises:
            StreamIdleError: when nothing new came for `idle_timeout` seconds.
            RowFormatError: on a line that is not a row.
        """
        check_count("batch_size", batch_size)
        cursor = self._stream.cursor(follow=self._follow)
        tries, since = 0, time.monotonic()
        try:
            while True:
                block = self._next_block(cursor, batch_size)
                if block is not None:
                    for first in range(0, len(block.records), batch_size):
                        yield self._decoded(block, first, first + batch_size)
                    tries, since = 0, time.monotonic()
                elif cursor.ended():
                    return
                else:
                    tries += 1
                    self._wait(tries, time.monotonic() - since)
        finally:
            cursor.close()

    def _next_block(self, cursor: SourceCursor, batch_size: int) -> Block | None:
        """Return the rows of several batches, or as many as there are now."""
        rows = max(_READ_ROWS // batch_size, 1) * batch_size
        block = cursor.read(rows)
        while block and (short := -len(block.records) % batch_size) and (more := cursor.read(short)):
            block = block.joined(more)
        return block

    def _decoded(self, block: Block, first: int, last: int) -> tuple[list[Any], list[Id]]:
        rows: list[Any] = []
        ids: list[Id] = []
        for number, record in enumerate(block.records[first:last], first):
            try:
                value = block.decode(record)
            except ValueError as error:
                raise self._stream.row_error(explained(error, record), block.offset_after(number)) from error
            row_id, item = item_of(value, block.start + number)
            rows.append(item)
            ids.append(row_id)
        return rows, ids

    def _wait(self, tries: int, waited: float) -> None:
        """Wait before the stream is looked at again."""
        if tries <= EOF_RETRIES and self._on_retry is not None:
            self._on_retry(tries)
        if self._idle_timeout is not None and waited >= self._idle_timeout:
            raise StreamIdleError(
                f"{self._stream.path} gave nothing new for {waited:.1f} s and is not sealed "
                f"({self._stream.done_path} is missing); seal() it if it has ended"
            )
        time.sleep(EOF_RETRY_SECONDS if tries <= EOF_RETRIES else self._retry_interval)
