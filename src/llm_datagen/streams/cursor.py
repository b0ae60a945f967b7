"""The reading end of a stream: blocks of records, by byte offset, never past what is committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from llm_datagen.errors import RowFormatError, StreamChangedError, StreamMissingError
from llm_datagen.streams.block import Block
from llm_datagen.streams.coverage import START, Segment
from llm_datagen.streams.formats.base import Codec, Decoder, Split
from llm_datagen.streams.formats.unreadable import LongRecord
from llm_datagen.streams.location import StreamFiles
from llm_datagen.streams.read_limit import readable
from llm_datagen.streams.storage.base import Place, ReadFile

READ_BYTES = 1024 * 1024
"""A block is about so large; a longer record makes a longer block."""

_HEAD_BYTES = 1024
"""So much is kept of a record that is longer than one may be."""


class Cursor:
    """Reads the records of some segments of a stream, in order. One thread at a time may use it.

    Args:
        stream: the stream.
        segments: what to read, in order; only the last may be open-ended.
        follow: True: the stream goes on until it is sealed. False: what may be read now is all there is.
    """

    def __init__(self, stream: StreamFiles, segments: Sequence[Segment] = (START,), *, follow: bool = True) -> None:
        self.stream = stream
        self._segments = list(segments)
        self._follow = follow
        self._file: ReadFile | None = None
        self._codec: Codec | None = None
        self._decode: Decoder | None = None
        self._pending: Block | None = None
        self._limit = 0
        self._ended = False
        self._first = 0  # the byte after the preamble
        self._is_placed = False  # whether the ends of the current segment were checked
        self._start, self._offset = (segments[0] if segments else START)[:2]
        last = segments[-1] if segments else START
        self._known = last.offset if last.offset_end is None else last.offset_end

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

    @property
    def knows_end(self) -> bool:
        """Whether `limit` is where the stream ends."""
        return self._ended

    @property
    def has_more(self) -> bool:
        """Whether there is more that may be read, without a look at what was written since."""
        return self._pending is not None or self._offset < self._limit

    def estimate(self) -> int | None:
        """Return about how many rows there are; None while nobody knows where the stream ends."""
        return round(self.start * self.limit / max(1, self.offset)) if self.knows_end else None

    def extend(self, limit: int, place: Place | None = None) -> None:
        """Take a writer's word that the first `limit` bytes are committed; `place` says of which stream."""
        self._limit = max(self._limit, limit)

    def read(self, rows: int) -> Block | None:
        """Return the next records, `rows` at most.

        Returns:
            None when there is nothing now; `ended()` tells whether there ever will be.

        Raises:
            StreamMissingError: when a stream that is to be read as it is does not exist.
            StreamChangedError: when the stream is not what it was when the segments were made.
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
            if self._offset < end:
                block = self._read_block(end)
                if block is not None:
                    return block
            if segment.offset_end is not None and self._offset >= segment.offset_end:
                self._next_segment()
            elif not self._look():
                return None
        return None

    def _look(self) -> bool:
        """Look how far the stream may be read now; return whether it is worth trying again."""
        if self._ended:
            self._segments.clear()
            return False
        state = readable(self.stream, follow=self._follow)
        if state is None:
            if self._follow:
                return False
            raise StreamMissingError(f"{self.stream.path} does not exist; check the path of the input")
        needed = max(self._offset, self._known)
        if state.limit < needed:
            raise self._shorter(state.limit, needed)
        is_news = state.ended or state.limit > self._limit
        self._limit, self._ended = max(state.limit, self._limit), state.ended
        return is_news

    def _shorter(self, size: int, needed: int) -> StreamChangedError:
        return StreamChangedError(
            f"{self.stream.path} ends at byte {size}, but it was read up to byte {needed} before: it was "
            "shortened after the run was interrupted; restore it, or start afresh with if_exists='overwrite'"
        )

    def _changed(self, what: str) -> StreamChangedError:
        return StreamChangedError(
            f"{self.stream.path}: {what}: it was changed after the run was interrupted; restore it, or start afresh "
            "with if_exists='overwrite'"
        )

    def _next_segment(self) -> None:
        segment = self._segments.pop(0)
        if self._start != segment.end:
            raise self._changed(
                f"bytes {segment.offset} to {segment.offset_end} held the rows {segment.start} to {segment.end}, "
                f"and now end with row {self._start}"
            )
        if self._segments:
            self._start, self._offset = self._segments[0][:2]
            self._is_placed = False

    def _read_block(self, end: int) -> Block | None:
        """Read whole records between the current offset and `end`; None when there is none."""
        if self._file is None:
            self._file = self.stream.open_data()
        if self._decode is None:
            self._decode = self._read_preamble()
            if self._decode is None:
                return None
        assert self._codec is not None
        segment = self._segments[0]
        is_last = self._ended and segment.offset_end is None
        if not self._is_placed:
            self._check_place(segment.offset)
            self._check_place(segment.offset_end or 0)
            self._is_placed = True
        length = READ_BYTES
        most: int | None = getattr(self._codec, "max_record_bytes", None)
        while self._offset < end:
            wanted = min(length, end - self._offset)
            data = self._file.read_at(self._offset, wanted)
            if len(data) < wanted:
                raise self._shorter(self._offset + len(data), end)
            is_all = self._offset + wanted == end
            is_final = is_all and (self._ended or segment.offset_end == end)
            records, ends, consumed, decode = self._split(data, is_final=is_final, is_end=is_all and is_last)
            if most is not None and not consumed and len(data) > most:
                return self._read_long(end, is_final=self._ended or segment.offset_end == end)
            base, self._decode = self._offset, decode or self._decode
            self._offset += consumed
            if records:
                if ends is not None:
                    ends = [base + at for at in ends]
                block = Block(records, self._start, base, self._offset, ends, self._decode)
                self._start = block.end
                if segment.end is not None and block.end > segment.end:
                    raise self._changed(f"byte {self._offset} was the end of row {segment.end} at the latest")
                return block
            if not consumed:  # else these were blank lines
                if is_all:
                    return None
                length = length * 2 if most is None else min(length * 2, most + 1)
        return None

    def _split(self, data: bytes, *, is_final: bool, is_end: bool) -> Split:
        """Split some bytes. With `is_end`, they are the last ones, and a format that says where it ends must do so."""
        assert self._codec is not None
        split_end = getattr(self._codec, "split_end", None)
        try:
            if is_end and split_end is not None:
                return cast(Split, split_end(data))
            return self._codec.split(data, final=is_final)
        except ValueError as error:
            raise RowFormatError(f"{self.stream.line_place(self._offset)}: {error}") from error

    def _read_long(self, end: int | None, *, is_final: bool) -> Block | None:
        """Pass over a line that is longer than a record may be; return its beginning, which no decoder takes.

        Args:
            end: how far may be read; None: as far as there is anything.
            is_final: whether the last line may lack its newline.
        """
        assert self._file is not None
        assert self._decode is not None
        begin = at = self._offset
        head = b""
        while end is None or at < end:
            piece = self._file.read_at(at, READ_BYTES if end is None else min(READ_BYTES, end - at))
            if end is None and not piece:
                break
            if not head:  # there may be blank lines before it
                head = piece.lstrip(b"\r\n")
                begin = at + len(piece) - len(head)
            newline = piece.find(b"\n", max(begin - at, 0))
            if newline >= 0:
                at += newline + 1
                break
            at += len(piece)
        else:
            if not is_final:
                return None
        record = LongRecord(head[:_HEAD_BYTES])
        block = Block([record], self._start, begin, at, [at], self._decode)
        self._start, self._offset = block.end, at
        return block

    def _read_preamble(self) -> Decoder | None:
        """Return how to decode records; None when too little of the stream is there to know."""
        assert self._file is not None
        self._codec = self.stream.codec_to_read()
        length = 64 * 1024
        while True:
            wanted = min(length, self._limit)
            head = self._file.read_at(0, wanted)
            if len(head) < wanted:
                raise self._shorter(len(head), self._limit)
            is_all = wanted == self._limit
            try:
                found = self._codec.read_preamble(head, final=is_all and self._ended)
            except ValueError as error:
                raise RowFormatError(f"{self.stream.path}, line 1: {error}") from error
            if found is not None:
                decode, self._first = found
                self._offset = max(self._offset, self._first)
                return decode
            if is_all:
                return None
            length *= 2

    def _check_place(self, at: int) -> None:
        """Make sure that a row still ends at byte `at`, as it did when the stream was read before (M22)."""
        assert self._file is not None
        if at <= self._first:
            return
        assert self._codec is not None
        is_boundary = getattr(self._codec, "is_boundary", None)
        if is_boundary is not None:
            if not is_boundary(self._file.read_at(at - 1, 1), self._file.read_at(at, 1)):
                raise self._changed(f"byte {at} was between two rows, and now is within one")
            return
        if self._file.read_at(at - 1, 1) in (b"", b"\n"):
            return
        # Where the stream ended, its last line may have got its newline since.
        if at < self._known or self._file.read_at(at, 1) not in (b"", b"\n", b"\r"):
            raise self._changed(f"byte {at} was between two rows, and now is within one")
