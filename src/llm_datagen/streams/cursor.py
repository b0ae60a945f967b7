"""The reading end of a stream: blocks of records, by byte offset, never past what is committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_datagen.errors import RowFormatError, StreamChangedError, StreamMissingError
from llm_datagen.streams.codec import Block, Decoder
from llm_datagen.streams.disk import ReadFile
from llm_datagen.streams.spans import START, Segment

if TYPE_CHECKING:
    from llm_datagen.streams.stream import Stream

READ_BYTES = 512 * 1024
"""A block is about so large; a longer record makes a longer block."""


class Cursor:
    """Reads the records of some segments of a stream, in order. One thread at a time may use it.

    Args:
        stream: the stream.
        segments: what to read, in order; only the last may be open-ended.
        follow: False: what is there now is all there is. True: the stream goes on until it is sealed.
    """

    def __init__(
        self, stream: Stream, segments: Sequence[Segment] = (START,), *, follow: bool = True
    ) -> None:
        self.stream = stream
        self._segments = list(segments)
        self._follow = follow
        self._file: ReadFile | None = None
        self._decode: Decoder | None = None
        self._pending: Block | None = None
        self._limit = 0
        self._ended = False
        self._start, self._offset = self._segments[0][:2]

    @property
    def offset(self) -> int:
        """The byte up to which the stream was read."""
        return self._pending.offset if self._pending else self._offset

    @property
    def start(self) -> int:
        """The ordinal of the next record."""
        return self._pending.start if self._pending else self._start

    @property
    def limit(self) -> int:
        """The bytes that are known to be readable."""
        return self._limit

    def extend(self, limit: int) -> None:
        """Take a writer's word that the first `limit` bytes are committed."""
        self._limit = max(self._limit, limit)

    def read(self, rows: int) -> Block | None:
        """Return the next records, `rows` at most.

        Returns:
            None when there is nothing now; `ended()` tells whether there ever will be.

        Raises:
            StreamMissingError: when a stream that is to be read as it is does not exist.
            StreamChangedError: when the stream is shorter than where reading is to go on.
            RowFormatError: when its beginning is not of its format.
        """
        if self._pending is None:
            self._pending = self._next_block()
        block = self._pending
        if block is None:
            return None
        if len(block.records) <= rows:
            self._pending = None
            return block
        head, self._pending = block.split_at(rows)
        return head

    def ended(self) -> bool:
        """Return whether everything was read, of a stream that will not grow."""
        return self._pending is None and not self._segments

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _next_block(self) -> Block | None:
        while self._segments:
            segment = self._segments[0]
            end = self._limit if segment.offset_end is None else min(segment.offset_end, self._limit)
            if self._offset >= end:
                if segment.offset_end is not None and self._offset >= segment.offset_end:
                    self._next_segment()
                    continue
                if not self._look():
                    return None
                continue
            block = self._read_block(end)
            if block is not None:
                return block
            if not self._look():
                return None
        return None

    def _look(self) -> bool:
        """Look how far the stream may be read now; return whether it is worth trying again."""
        if self._ended:
            if self._offset < self._limit and self._segments[0].offset_end is not None:
                raise self._shorter(self._segments[0].offset_end)
            self._segments.clear()
            return False
        state = self.stream.readable(follow=self._follow)
        if state is None:
            if self._follow:
                return False
            raise StreamMissingError(f"{self.stream.path} does not exist; check the path of the input")
        if state.limit < self._offset:
            raise self._shorter(self._offset)
        was = (self._limit, self._ended)
        self._limit, self._ended = max(state.limit, self._limit), state.ended
        if self._ended and self._offset >= self._limit:
            wanted = self._segments[0].offset_end
            if wanted is not None and wanted > self._limit:
                raise self._shorter(wanted)
            self._segments.clear()
            return False
        return (self._limit, self._ended) != was

    def _shorter(self, needed: int) -> StreamChangedError:
        return StreamChangedError(
            f"{self.stream.path} ends at byte {self._limit}, but rows up to byte {needed} were read before: it was "
            "shortened after the run was interrupted; restore it, or start afresh with if_exists='overwrite'"
        )

    def _next_segment(self) -> None:
        self._segments.pop(0)
        if self._segments:
            self._start, self._offset = self._segments[0][:2]

    def _read_block(self, end: int) -> Block | None:
        """Read whole records between the current offset and `end`."""
        if self._file is None:
            self._file = self.stream.disk.open_read(self.stream.path)
        if self._decode is None and not self._read_preamble():
            return None
        length = READ_BYTES
        while True:
            data = self._file.read_at(self._offset, min(length, end - self._offset))
            if len(data) < min(length, end - self._offset):
                self._limit = self._offset + len(data)
                raise self._shorter(end)
            at_end = self._offset + len(data) == end
            closed = at_end and (self._ended or self._segments[0].offset_end == end)
            records, ends, consumed = self.stream.codec.split(data, final=closed)
            if consumed and not records:  # nothing but blank lines
                self._offset += consumed
                return None
            if records:
                base = self._offset
                self._offset += consumed
                block = Block(
                    records,
                    self._start,
                    base,
                    self._offset,
                    None if ends is None else [base + at for at in ends],
                    self._decode or _undecided,
                )
                self._start = block.end
                return block
            if at_end:
                return None
            length *= 2

    def _read_preamble(self) -> bool:
        assert self._file is not None
        length = 64 * 1024
        while True:
            head = self._file.read_at(0, min(length, self._limit))
            is_all = len(head) == self._limit
            try:
                found = self.stream.codec.read_preamble(head, final=is_all and self._ended)
            except ValueError as error:
                raise RowFormatError(f"{self.stream.path}, line 1: {error}") from error
            if found is not None:
                self._decode, first = found
                if self._offset < first:
                    self._offset = first
                return True
            if is_all:
                return False
            length *= 2


def _undecided(_record: bytes) -> None:
    raise AssertionError("a block has no decoder before its preamble was read")
