"""The column that says where a row of an input comes from: the name of its file, and its number in it."""

from __future__ import annotations

from functools import partial
from pathlib import PurePath
from typing import Any, NamedTuple, Protocol

from llm_datagen.streams.block import Block, OwnRecord, decode_own, decoder_of
from llm_datagen.streams.formats.base import Decoder
from llm_datagen.streams.ids import DATA_FIELD
from llm_datagen.streams.source_cursor import Described, SourceCursor
from llm_datagen.streams.storage.base import Place


class Origin(NamedTuple):
    """A file.

    Attributes:
        file: its name.
        first: the number that its first row has in what is read.
        round: which time it is read, from 0; None where it is read once.
    """

    file: str
    first: int
    round: int | None = None


class Located(Described, Protocol):
    """What is read: a stream that tells where its rows come from."""

    def origin(self, offset: int) -> Origin:
        """Return the file in which the row at `offset` lies."""


def name_of(path: str) -> str:
    """Return what a file that is an input by itself is called in the column."""
    return PurePath(path).name or path


class SourceColumnCursor:
    """Reads a stream, and adds the column to each row when it is decoded. See `SourceCursor`.

    Args:
        stream: the stream.
        cursor: what reads it; it is closed with this one.
        column: the column.
    """

    def __init__(self, stream: Located, cursor: SourceCursor, column: str) -> None:
        self.stream = stream
        self._cursor = cursor
        self._column = column

    @property
    def offset(self) -> int:
        """The bytes that were read."""
        return self._cursor.offset

    @property
    def start(self) -> int:
        """The rows that were read."""
        return self._cursor.start

    @property
    def limit(self) -> int:
        """The bytes that are known to be readable."""
        return self._cursor.limit

    @property
    def knows_end(self) -> bool:
        """Whether `limit` is where the stream ends."""
        return self._cursor.knows_end

    @property
    def has_more(self) -> bool:
        """Whether there is more that may be read, without a look at what was written since."""
        return self._cursor.has_more

    def estimate(self) -> int | None:
        """Return about how many rows there are; None while nobody knows where the stream ends."""
        return self._cursor.estimate()

    def extend(self, limit: int, place: Place | None = None) -> None:
        """Take a writer's word that the first `limit` bytes are committed."""
        self._cursor.extend(limit, place)

    def read(self, rows: int) -> Block | None:
        """Return the next records, `rows` at most; None when there are none now."""
        block = self._cursor.read(rows)
        if block is None:
            return None
        file, first, round_number = self.stream.origin(block.offset)
        known: dict[str, Any] = {"file": file}
        if round_number is not None:
            known["round"] = round_number
        decode, column, start = block.decode, self._column, block.start - first
        records = [
            OwnRecord.of(record, partial(_decoded, decoder_of(record, decode), column, known, row))
            for row, record in enumerate(block.records, start)
        ]
        ends = block.ends  # records are as long as they were
        return Block(records, block.start, block.offset, block.offset_end, ends, decode_own)

    def ended(self) -> bool:
        """Return whether everything was read, of a stream that will not grow."""
        return self._cursor.ended()

    def close(self) -> None:
        """Close the files."""
        self._cursor.close()


def _decoded(decode: Decoder, column: str, known: dict[str, Any], row: int, record: bytes) -> dict[str, Any]:
    value = decode(record)
    if not isinstance(value, dict):
        value = {DATA_FIELD: value}
    elif column in value:
        raise ValueError(f"it has a column {column!r} of its own; choose another source_column, or rename the column")
    value[column] = {**known, "row": row}
    return value
