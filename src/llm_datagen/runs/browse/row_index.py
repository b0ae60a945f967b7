"""Where rows lie in a stream, so that a page is read by seek: the place of some rows, about one per megabyte.

Of JSON lines, line ends are counted in large blocks, and no line is cut out; of other formats, records are split and
not decoded. Tables know the place of each row by themselves. An index goes as far as somebody has asked, and follows a
stream that grows.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from functools import cached_property

from llm_datagen.streams import Stream
from llm_datagen.streams.coverage import Segment
from llm_datagen.streams.cursor import READ_BYTES
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.inputs.file_set import FileSet
from llm_datagen.streams.inputs.file_set_cursor import FILE_STRIDE
from llm_datagen.streams.inputs.numbered_rows import NumberedRows
from llm_datagen.streams.inputs.table_cursor import ENDLESS

_BLOCK_ROWS = 4096
_MOST_PLACES = 1 << 16
"""Places that are kept: of a stream with more, every second one is dropped, and so on."""

_TAIL_BYTES = 64


class RowIndex:
    """The places of some rows of a stream. One thread at a time may use it.

    Args:
        stream: the stream.
        limit: bytes of it that may be read, of a file beside a stream; None: as the stream says.

    Attributes:
        rows: rows that it has counted.
    """

    def __init__(self, stream: Stream, limit: int | None = None) -> None:
        self.stream = stream
        self.limit = limit
        self._begin()

    def _begin(self) -> None:
        self.rows = 0
        self._offset = 0  # behind the last row that was counted
        self._total: int | None = None  # once it was counted to the end, to which `_total_bytes` belongs
        self._total_bytes = 0
        self._numbers, self._offsets = array("Q", [0]), array("Q", [0])
        self._stride = 1  # blocks per place
        self._blocks = 0
        self._seen_bytes, self._tail = 0, b""

    @cached_property
    def _is_table_set(self) -> bool:
        return isinstance(self.stream, FileSet) and all(
            isinstance(self.stream.streams[number], NumberedRows) for number in range(len(self.stream.streams))
        )

    def place(self, number: int) -> tuple[int, int]:
        """Return the number and the offset of a row that is not behind `number`; near it, if the stream has so many.

        Raises:
            StreamError: when the stream cannot be read.
        """
        if isinstance(self.stream, NumberedRows):
            return number, number
        if self.is_stale():
            self._begin()
        if number >= self.rows:
            self._extend(number)
        at = bisect_right(self._numbers, number) - 1
        begin, offset = self._numbers[at], self._offsets[at]
        if self._is_table_set and at + 1 < len(self._numbers):
            return number, offset + number - begin
        return begin, offset

    def total(self) -> int | None:
        """Return how many rows there are; None when they were not counted to the end, or never end."""
        if isinstance(self.stream, NumberedRows):
            table = self.stream.open_table()
            try:
                rows: int = table.rows
            finally:
                table.close()
            return rows if rows < ENDLESS else None
        if self._total is None or self._readable() != self._total_bytes or self.is_stale():
            return None
        return self._total

    def _readable(self) -> int:
        """Return the bytes that may be read."""
        if self.limit is not None:
            return self.limit
        found = self.stream.readable(follow=False)
        return 0 if found is None else found.limit

    def is_stale(self) -> bool:
        """Return whether the stream is another one than that which was counted: it was made anew at the same place."""
        if not self._seen_bytes or isinstance(self.stream, FileSet):
            return False
        size = self.stream.storage.size(self.stream.path) or 0
        return size < self._seen_bytes or self._tail_at(self._seen_bytes) != self._tail

    def _tail_at(self, end: int) -> bytes:
        file = self.stream.storage.open_read(self.stream.path)
        try:
            begin = max(0, end - _TAIL_BYTES)
            return file.read_at(begin, end - begin)
        finally:
            file.close()

    def _extend(self, number: int) -> None:
        """Count rows up to row `number`, or as many as there are now."""
        self._total = None
        if self._is_table_set:
            self._count_tables(number)
            return
        limit = self._readable()
        if isinstance(self.stream, FileSet):
            self._count_records(number, limit)
            return
        codec = self.stream.codec_to_read()
        if isinstance(codec, JsonlCodec) and self.stream.compression is None:
            self._count_lines(number, limit, codec)
        else:
            self._count_records(number, limit)
        if limit:
            self._seen_bytes = min(limit, self._offset) if self.stream.compression is None else limit
            self._tail = self._tail_at(self._seen_bytes)

    def _add(self, rows: int, offset: int) -> None:
        """Note that a row begins at `offset`, after `rows` others."""
        self.rows, self._offset = rows, offset
        self._blocks += 1
        if self._blocks % self._stride:
            return
        self._numbers.append(rows)
        self._offsets.append(offset)
        if len(self._numbers) > _MOST_PLACES:
            self._numbers, self._offsets = self._numbers[::2], self._offsets[::2]
            self._stride *= 2

    def _count_lines(self, number: int, limit: int, codec: JsonlCodec) -> None:
        may_have_blanks = not self.stream.is_accounted_for() and self.limit is None
        file = self.stream.open_data()
        length = READ_BYTES
        try:
            if not self._offset and (preamble := codec.read_preamble(file.read_at(0, _TAIL_BYTES), final=True)):
                self._offset = min(preamble[1], limit)
            while self.rows <= number and self._offset < limit:
                data = file.read_at(self._offset, min(length, limit - self._offset))
                end = data.rfind(b"\n") + 1
                if not end:
                    if len(data) < length:
                        break  # what follows the last newline: the page reads it
                    length *= 2
                    continue
                length = READ_BYTES
                self._add(self.rows + _lines_in(data, end, may_have_blanks=may_have_blanks), self._offset + end)
            if self.rows <= number:  # a last line without its newline is a row, too
                rest = file.read_at(self._offset, min(READ_BYTES, limit - self._offset))
                self._total, self._total_bytes = self.rows + bool(rest.strip(b"\r\n")), limit
        finally:
            file.close()

    def _count_records(self, number: int, limit: int) -> None:
        cursor = self.stream.open_cursor([Segment(self.rows, self._offset)], follow=False)
        last = self._offset
        try:
            while self.rows <= number:
                block = cursor.read(_BLOCK_ROWS)
                if block is None:
                    self._total, self._total_bytes = self.rows, limit
                    break
                if block.offset // FILE_STRIDE != last // FILE_STRIDE:  # each file begins with a place of its own
                    self._add(block.start, block.offset)
                self._add(block.end, block.offset_end)
                last = block.offset
        finally:
            cursor.close()

    def _count_tables(self, number: int) -> None:
        assert isinstance(self.stream, FileSet)
        files = self.stream.streams
        while self.rows <= number:
            at = self._offset // FILE_STRIDE
            if at not in files:
                self._total, self._total_bytes = self.rows, self._readable()
                return
            file = files[at]
            assert isinstance(file, NumberedRows)
            table = file.open_table()
            try:
                self._add(self.rows + table.rows, (at + 1) * FILE_STRIDE)
            finally:
                table.close()


def _lines_in(data: bytes, end: int, *, may_have_blanks: bool) -> int:
    """Return how many lines end before `end` that are not blank."""
    if not may_have_blanks:
        return data.count(b"\n", 0, end)
    lines = data[: end - 1].split(b"\n")  # faster than to look for two line ends in a row
    blanks = lines.count(b"") + lines.count(b"\r") if b"" in lines or b"\r" in lines else 0
    return len(lines) - blanks
