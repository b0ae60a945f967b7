"""The rows that are committed of a stream that is being written, by their numbers. 16 bytes of memory per row."""

from __future__ import annotations

from array import array
from threading import Lock
from typing import Any

from llm_datagen.streams.formats.base import Decoder
from llm_datagen.streams.recovery import last_position
from llm_datagen.streams.rows import item_of
from llm_datagen.streams.source_cursor import SourceCursor
from llm_datagen.streams.storage.base import ReadFile
from llm_datagen.streams.stream import Stream

_BLOCK_ROWS = 4096


class CommittedRows:
    """Rows of a stream, as far as its writer has committed them. Any thread may use it.

    Args:
        stream: the stream.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._lock = Lock()
        self._cursor: SourceCursor | None = None
        self._file: ReadFile | None = None
        self._decode: Decoder | None = None
        self._starts = array("Q")
        self._lengths = array("Q")
        self._limit = self._seen = 0

    def look(self) -> None:
        """Take what is committed now, by what lies beside the stream."""
        self.extend(last_position(self.stream).bytes)

    def extend(self, limit: int) -> None:
        """Take the writer's word that the first `limit` bytes are committed. One thread at a time calls it."""
        self._limit = max(self._limit, limit)

    def __len__(self) -> int:
        """Return how many rows are committed."""
        with self._lock:
            self._index()
            return len(self._starts)

    def __getitem__(self, number: int) -> Any:
        """Return a row, or value, by its number; a row has its id."""
        with self._lock:
            self._index()
            begin, length = self._starts[number], self._lengths[number]
            if self._file is None:
                self._file = self.stream.open_data()
            assert self._decode is not None
            return item_of(self._decode(self._file.read_at(begin, length)), number)[1]

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for file in (self._cursor, self._file):
                if file is not None:
                    file.close()
            self._cursor = self._file = None

    def _index(self) -> None:
        limit = self._limit
        if limit == self._seen:
            return
        self._seen = limit
        if self._cursor is None:
            self._cursor = self.stream.open_cursor()
        cursor = self._cursor
        cursor.extend(limit)
        looks = self.stream.compression is not None  # how many rows these bytes hold, is known when they are unpacked
        while (looks or cursor.has_more) and (block := cursor.read(_BLOCK_ROWS)) is not None:
            self._decode = block.decode
            self._starts.append(block.offset)
            self._starts.extend(block.all_ends()[:-1])
            self._lengths.extend(len(record) for record in block.records)
