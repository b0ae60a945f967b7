"""Rows as the lines that they are in a stream, uncut: what Arrow reads itself needs no bytes object for each line."""

from __future__ import annotations

from collections.abc import Generator

from llm_datagen.errors import StreamChangedError
from llm_datagen.streams.block import Block
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.stream import Stream

_PIECE_BYTES = 1 << 20


class Lines:
    """Consecutive rows of a stream of JSON lines that this package wrote: each is a line, and none is blank.

    Args:
        piece: bytes that begin with the lines, each with its newline. They are not copied.
        start: the number of the first line.
        offset: the byte of the stream at which it begins.
        size: how many of the bytes are theirs; None: all.

    Attributes:
        count: how many they are.
    """

    def __init__(self, piece: bytes, start: int, offset: int, size: int | None = None) -> None:
        self._piece = piece
        self.start = start
        self.offset = offset
        self._size = len(piece) if size is None else size
        self.count = piece.count(b"\n", 0, self._size)

    @property
    def view(self) -> memoryview:
        """The lines, where they are."""
        return memoryview(self._piece)[: self._size]

    @property
    def first_line(self) -> bytes:
        """The first line."""
        return self._piece[: self._piece.find(b"\n", 0, self._size) + 1]

    @property
    def end(self) -> int:
        """The number after the last row."""
        return self.start + self.count

    @property
    def offset_end(self) -> int:
        """The byte after the last row."""
        return self.offset + self._size

    def first(self, rows: int) -> Lines:
        """Return the first `rows` rows, or all."""
        if rows >= self.count:
            return self
        at = 0
        for _ in range(rows):
            at = self._piece.index(b"\n", at, self._size) + 1
        return Lines(self._piece, self.start, self.offset, at)

    def until(self, offset: int) -> Lines:
        """Return the rows that begin before byte `offset` of the stream."""
        if offset >= self.offset_end:
            return self
        begin = max(offset - 1 - self.offset, 0)
        at = self._piece.index(b"\n", begin, self._size) + 1 if offset > self.offset else 0
        return Lines(self._piece, self.start, self.offset, at)

    def block(self, stream: Stream) -> Block:
        """Return the rows one by one.

        Raises:
            StreamChangedError: when a line of them is blank.
        """
        codec = stream.codec_to_read()
        found = codec.read_preamble(b"", final=True)
        assert found is not None
        records, ends, _, decode = codec.split(bytes(self.view), final=True)
        if ends is not None:
            raise StreamChangedError(
                f"{stream.path} has a blank line behind byte {self.offset}: it was changed after it was written; "
                "restore it, or make it again"
            )
        return Block(records, self.start, self.offset, self.offset_end, None, decode or found[0])


def are_lines(stream: Stream) -> bool:
    """Return whether a stream is of lines of JSON in UTF-8 that this package wrote."""
    codec, seal = stream.codec, stream.read_seal()
    return seal is not None and seal.rows is not None and isinstance(codec, JsonlCodec) and codec.is_utf8


def read_lines(stream: Stream, start: int, offset: int) -> Generator[Lines, None, None]:
    """Yield the rows from one on, whose number and byte are known. Where they are cut depends on that byte alone."""
    file, length = stream.open_data(), _PIECE_BYTES
    try:
        while data := file.read_at(offset, length):
            end = data.rfind(b"\n") + 1
            if not end and len(data) == length:  # a line is longer
                length *= 2
                continue
            lines = Lines(data, start, offset, end) if end else Lines(data + b"\n", start, offset)
            yield lines
            start, offset, length = lines.end, lines.offset_end, _PIECE_BYTES
    finally:
        file.close()
