"""Codecs: how rows are written as bytes, and nothing else. A format is one small file that has these three parts.

Splitting, decoding and encoding are separate because they happen in different places: a reader splits blocks into
records, workers decode and encode them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from llm_datagen.streams.spans import Span

Decoder = Callable[[bytes], Any]
"""Turns one record into a row. Raises ValueError when it is none. Any thread may call it."""


class Split(NamedTuple):
    """The whole records at the beginning of some bytes.

    Attributes:
        records: the records; their terminators may or may not be kept.
        ends: for each record, where the next one begins, counted from the beginning of the bytes; None when
            each record is followed by exactly one byte that was taken off.
        consumed: how many bytes the records take, with blank lines.
        decode: how to decode these records and all that follow, when not as `read_preamble` has said. It must be able
            to decode what was before, too.
    """

    records: list[bytes]
    ends: list[int] | None
    consumed: int
    decode: Decoder | None = None

    def up_to(self, most: int) -> Split:
        """Return what comes before the first record of more than `most` bytes."""
        for number, record in enumerate(self.records):
            if len(record) > most:
                records, ends = self.records[:number], self.ends
                if ends is None:
                    return Split(records, None, sum(map(len, records)) + number)
                return Split(records, ends[:number], ends[number - 1] if number else 0)
        return self


class Encoder(Protocol):
    """Turns rows into bytes. Any thread may call it."""

    @property
    def encode(self) -> Callable[[dict[str, Any]], bytes]:
        """What returns the record of a row, without its newline. A TypeError means: ask `encode_other`."""

    def encode_other(self, row: dict[str, Any]) -> bytes:
        """Return the record of a row that holds more than plain values, without its newline.

        Raises:
            TypeError, ValueError: when the format cannot hold the row.
        """

    def preamble(self) -> bytes:
        """Return what an empty file must begin with, once rows have been encoded."""


def lines_of(records: list[bytes]) -> bytes:
    """Return records, each with its newline."""
    records.append(b"")
    lines = b"\n".join(records)
    records.pop()
    return lines


class Codec(Protocol):
    """A format of text: every record ends with a newline, though there may be newlines in it as well.

    It may have an attribute `max_record_bytes`: its `split` stops before a longer record, which then is an error, and
    what follows its first line goes on. It may have a method `with_data(DataConfig)`, which returns it with settings.
    """

    def read_preamble(self, head: bytes, *, final: bool) -> tuple[Decoder, int] | None:
        """Return the decoder and the offset of the first record.

        Args:
            head: the file's first bytes.
            final: whether they are the whole file.

        Returns:
            None when more bytes are needed.

        Raises:
            ValueError: when the file cannot be of this format.
        """

    def split(self, data: bytes, *, final: bool) -> Split:
        """Split `data` into whole records; with `final`, what is left at the end is a record too."""

    def encoder(self, head: bytes) -> Encoder:
        """Return an encoder for a file that begins with `head` (empty for a new file)."""


@dataclass(slots=True)
class Block:
    """Consecutive records of a stream, as they lie on disk.

    Attributes:
        records: the records, undecoded.
        start: the ordinal of the first one.
        offset: the byte at which it begins.
        offset_end: the byte after the last one.
        ends: for each record, the byte at which the next one begins; None: records and one byte each.
        decode: how to decode them.
    """

    records: list[bytes]
    start: int
    offset: int
    offset_end: int
    ends: list[int] | None
    decode: Decoder

    def __repr__(self) -> str:  # rows must not end up in logs
        return f"<Block rows {self.start}..{self.end} bytes {self.offset}..{self.offset_end}>"

    @property
    def end(self) -> int:
        """The ordinal after the last record."""
        return self.start + len(self.records)

    @property
    def span(self) -> Span:
        """Where the records lie in the stream."""
        return Span(self.start, self.end, self.offset, self.offset_end)

    @property
    def size(self) -> int:
        """The bytes that the records take."""
        return self.offset_end - self.offset

    def offset_after(self, count: int) -> int:
        """Return the byte at which record number `count` of this block begins."""
        if count >= len(self.records):
            return self.offset_end
        if self.ends is not None:
            return self.ends[count - 1] if count else self.offset
        return self.offset + sum(map(len, self.records[:count])) + count

    def split_at(self, count: int) -> tuple[Block, Block]:
        """Return the first `count` records and the rest, as two blocks."""
        middle = self.offset_after(count)
        ends = self.ends
        head = Block(
            self.records[:count],
            self.start,
            self.offset,
            middle,
            None if ends is None else ends[:count],
            self.decode,
        )
        rest = Block(
            self.records[count:],
            self.start + count,
            middle,
            self.offset_end,
            None if ends is None else ends[count:],
            self.decode,
        )
        return head, rest

    def joined(self, after: Block) -> Block:
        """Return this block and the one that follows it at once, as one block."""
        ends: list[int] | None = None
        is_regular = self.ends is None and after.ends is None
        if not is_regular or self.offset_end != after.offset:  # blank lines may lie between them
            ends = self._all_ends() + after._all_ends()
        return Block(self.records + after.records, self.start, self.offset, after.offset_end, ends, after.decode)

    def _all_ends(self) -> list[int]:
        if self.ends is not None:
            return self.ends
        ends: list[int] = []
        at = self.offset
        for record in self.records:
            at += len(record) + 1
            ends.append(at)
        if ends:
            ends[-1] = self.offset_end
        return ends
