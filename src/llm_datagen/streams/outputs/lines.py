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
        data: the lines, each with its newline.
        start: the number of the first one.
        offset: the byte at which it begins.

    Attributes:
        count: how many they are.
    """

    def __init__(self, data: bytes, start: int, offset: int) -> None:
        self.data = data
        self.start = start
        self.offset = offset
        self.count = data.count(b"\n")

    @property
    def end(self) -> int:
        """The number after the last row."""
        return self.start + self.count

    @property
    def offset_end(self) -> int:
        """The byte after the last row."""
        return self.offset + len(self.data)

    def first(self, rows: int) -> Lines:
        """Return the first `rows` rows, or all."""
        if rows >= self.count:
            return self
        at = 0
        for _ in range(rows):
            at = self.data.index(b"\n", at) + 1
        return Lines(self.data[:at], self.start, self.offset)

    def until(self, offset: int) -> Lines:
        """Return the rows that begin before byte `offset` of the stream."""
        if offset >= self.offset_end:
            return self
        at = self.data.index(b"\n", max(offset - 1 - self.offset, 0)) + 1 if offset > self.offset else 0
        return Lines(self.data[:at], self.start, self.offset)

    def block(self, stream: Stream) -> Block:
        """Return the rows one by one.

        Raises:
            StreamChangedError: when a line of them is blank.
        """
        codec = stream.codec_to_read()
        found = codec.read_preamble(b"", final=True)
        assert found is not None
        records, ends, _, decode = codec.split(self.data, final=True)
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
            lines = Lines(data[:end] if end else data + b"\n", start, offset)
            yield lines
            start, offset, length = lines.end, lines.offset_end, _PIECE_BYTES
    finally:
        file.close()
