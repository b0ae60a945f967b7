"""A file, looked through once for places where it may be cut. Rows are counted, not decoded; memory is flat.

It comes as *pieces*: some rows, one after the other. Each finds the first row at or behind an address.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from llm_datagen.errors import RowFormatError, StreamMissingError
from llm_datagen.streams import Block, Stream
from llm_datagen.streams.compressed import CompressedStream
from llm_datagen.streams.coverage import Begin
from llm_datagen.streams.formats.base import Codec
from llm_datagen.streams.formats.jsonl import JsonlCodec, split_lines
from llm_datagen.streams.formats.text import TextCodec
from llm_datagen.streams.inputs.numbered_rows import NumberedRows
from llm_datagen.streams.storage.base import ReadFile
from llm_datagen.streams.storage.compressed_file import CompressedReadFile

PIECE_BYTES = 4 << 20
"""So much of a file of lines is looked at together."""

_ALL = 2**62
_may_be_blank = re.compile(rb"\n[\r\n]").search


class Piece(Protocol):
    """Some rows, one after the other."""

    @property
    def end(self) -> Begin:
        """Number and address of the row behind the last one."""

    def place(self, address: int) -> Begin:
        """Return number and address of the first row that begins at or behind an address of the piece."""


@dataclass(frozen=True, slots=True)
class BlockPiece:
    """A block of records."""

    block: Block

    @property
    def end(self) -> Begin:
        """Number and address of the row behind the last one."""
        return self.block.end, self.block.offset_end

    def place(self, address: int) -> Begin:
        """Return number and address of the first row that begins at or behind an address."""
        begins = [self.block.offset, *self.block.all_ends()]
        found = bisect_left(begins, address)
        return self.block.start + found, begins[found]


@dataclass(frozen=True, slots=True)
class LinesPiece:
    """Lines, none of which is blank, or of text, in which blank ones are rows."""

    data: bytes
    """The lines, and perhaps more behind them."""
    size: int
    start: int
    at: int
    rows: int

    @property
    def end(self) -> Begin:
        """Number and address of the row behind the last one."""
        return self.start + self.rows, self.at + self.size

    def place(self, address: int) -> Begin:
        """Return number and address of the first row that begins at or behind an address."""
        wanted = address - self.at
        begin = self.data.find(b"\n", wanted - 1, self.size) + 1 if wanted > 0 else 0
        if wanted > 0 and not begin:
            return self.end
        return self.start + self.data.count(b"\n", 0, begin), self.at + begin


@dataclass(frozen=True, slots=True)
class LongPiece:
    """One row, of a line that is longer than what is looked at together."""

    start: int
    at: int
    at_end: int

    @property
    def end(self) -> Begin:
        """Number and address of the row behind it."""
        return self.start + 1, self.at_end

    def place(self, address: int) -> Begin:
        """Return number and address of the row, or of the one behind it."""
        return self.end if address > self.at else (self.start, self.at)


@dataclass(frozen=True, slots=True)
class TablePiece:
    """A whole table, whose rows have their numbers as addresses. It is cut where a part begins, if that is near.

    Attributes:
        rows: how many rows it has.
        parts: where its parts (row groups, batches) begin, in order.
        near: how far off the next part may be, in rows.
    """

    rows: int
    parts: list[int]
    near: int

    @property
    def end(self) -> Begin:
        """Number and address of the row behind the last one."""
        return self.rows, self.rows

    def place(self, address: int) -> Begin:
        """Return number and address of a row about there."""
        at = bisect_left(self.parts, address)
        near = [part for part in self.parts[max(0, at - 1) : at + 1] if abs(part - address) <= self.near]
        row = min(near, key=lambda part: abs(part - address), default=address)
        return row, row


def pieces_of(stream: Stream, cuts: int) -> Iterator[Piece]:
    """Yield all rows of a file, piece by piece.

    Args:
        stream: the file.
        cuts: where it is cut, about so often.

    Raises:
        StreamError: when it cannot be read.
    """
    if isinstance(stream, NumberedRows):
        return _table(stream, cuts)
    if type(codec := stream.codec_to_read()) in {JsonlCodec, TextCodec}:
        return _lines(stream, codec)
    return _blocks(stream)


def length_of(stream: Stream, piece: Piece) -> int | None:
    """Return the address behind the last row of a file, as far as it is known; None when only reading tells."""
    if isinstance(piece, TablePiece):
        return piece.rows
    return None if isinstance(stream, CompressedStream) else stream.size()


def _table(stream: NumberedRows, cuts: int) -> Iterator[Piece]:
    table = stream.open_table()
    try:
        yield TablePiece(table.rows, list(getattr(table, "parts", ())), table.rows // (2 * cuts + 2))
    finally:
        table.close()


def _blocks(stream: Stream) -> Iterator[Piece]:
    cursor = stream.open_cursor(follow=False)
    try:
        while (block := cursor.read(_ALL)) is not None:
            yield BlockPiece(block)
    finally:
        cursor.close()


def _lines(stream: Stream, codec: Codec) -> Iterator[Piece]:
    limit = stream.readable(follow=False)
    if limit is None:
        raise StreamMissingError(f"{stream.path} does not exist; check the path of the input")
    file = stream.open_data()
    try:
        if isinstance(file, CompressedReadFile):
            file.limit_raw(limit.limit)
            yield from _lines_in(stream, file, codec, _ALL)
            file.is_at_end()
        else:
            yield from _lines_in(stream, file, codec, limit.limit)
    finally:
        file.close()


def _lines_in(stream: Stream, file: ReadFile, codec: Codec, limit: int) -> Iterator[Piece]:
    are_blank_rows = type(codec) is TextCodec
    row, at = 0, _preamble(stream, file, codec, limit)
    while data := file.read_at(at, min(PIECE_BYTES, limit - at)):
        is_last = len(data) < PIECE_BYTES
        piece: Piece
        whole = len(data) if is_last else data.rfind(b"\n") + 1
        if not whole:
            piece = LongPiece(row, at, _line_end(file, at + len(data), limit))
        elif are_blank_rows or not (_may_be_blank(data, 0, whole) or data.startswith((b"\n", b"\r"))):
            rows = data.count(b"\n", 0, whole) + (whole == len(data) and not data.endswith(b"\n"))
            piece = LinesPiece(data, whole, row, at, rows)
        else:
            records, ends, _, _ = split_lines(data[:whole], final=True)
            behind = None if ends is None else [at + end for end in ends]
            piece = BlockPiece(Block(records, row, at, at + whole, behind, bytes))
        yield piece
        row, at = piece.end


def _preamble(stream: Stream, file: ReadFile, codec: Codec, limit: int) -> int:
    head = file.read_at(0, min(PIECE_BYTES, limit))
    try:
        found = codec.read_preamble(head, final=len(head) < PIECE_BYTES)
    except ValueError as error:
        raise RowFormatError(f"{stream.path}, line 1: {error}") from error
    return 0 if found is None else found[1]


def _line_end(file: ReadFile, at: int, limit: int) -> int:
    """Return the address behind the newline that follows, or the end."""
    while data := file.read_at(at, min(PIECE_BYTES, limit - at)):
        if (found := data.find(b"\n")) >= 0:
            return at + found + 1
        at += len(data)
    return at
