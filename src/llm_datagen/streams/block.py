"""Blocks: consecutive records of a stream, as they lie on disk.

Where records of two files come together in one block, each knows its own decoder: the files may have other headers, or
other formats.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from llm_datagen.streams.coverage import Span
from llm_datagen.streams.formats.base import Decoder
from llm_datagen.streams.formats.unreadable import LongRecord


class OwnRecord(bytes):
    """A record that knows its decoder; `decode_own` decodes it, whatever block it is in.

    Attributes:
        decode_it: how to decode it.
    """

    decode_it: Decoder

    @classmethod
    def of(cls, record: bytes, decode: Decoder) -> bytes:
        """Return a record with its decoder; one that is too long, which has none, as it is."""
        if isinstance(record, LongRecord):
            return record
        own = cls(bytes(record))  # a row of a table, too
        own.decode_it = decode
        return own


def decoder_of(record: bytes, decode: Decoder) -> Decoder:
    """Return how a record is decoded: as it knows itself, or as its block says."""
    return record.decode_it if isinstance(record, OwnRecord) else decode


def decode_own(record: bytes) -> Any:
    """Return the row of a record that knows its decoder.

    Raises:
        ValueError: when it is none.
    """
    if isinstance(record, OwnRecord):
        return record.decode_it(bytes(record))  # parsers take no subclass
    raise ValueError("it is longer than a record may be")


@dataclass(slots=True)
class Block:
    """Consecutive records of a stream, as they lie on disk.

    Attributes:
        records: the records, undecoded: bytes, or what `bytes` makes such of (rows of tables).
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

    def rows_before(self, offset: int) -> int:
        """Return how many of the records begin before a byte."""
        return bisect_left([self.offset, *self.all_ends()[:-1]], offset)

    def joined(self, after: Block) -> Block:
        """Return this block and the one that follows it at once, as one block."""
        ends: list[int] | None = None
        is_regular = self.ends is None and after.ends is None
        if not is_regular or self.offset_end != after.offset:  # blank lines may lie between them
            ends = self.all_ends() + after.all_ends()
        first, second, decode = self.records, after.records, after.decode
        if decode != self.decode:
            first, second, decode = self._own_records(), after._own_records(), decode_own
        return Block(first + second, self.start, self.offset, after.offset_end, ends, decode)

    def _own_records(self) -> list[bytes]:
        if self.decode is decode_own:
            return self.records
        return [OwnRecord.of(record, self.decode) for record in self.records]

    def all_ends(self) -> list[int]:
        """Return for each record the byte at which the next one begins."""
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
