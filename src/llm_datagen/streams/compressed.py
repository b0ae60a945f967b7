"""Compressed streams: JSON lines, CSV and other text in gzip, bzip2, xz or Zstandard.

Rows lie at the offsets of what the file holds. What the engine writes, it writes as one member per flush. So a file
that is cut at a commit is whole, and other programs read it while it grows; commits, seal and checksums speak of the
bytes on disk.

What other programs have written must stay as it was until the run has ended. To go on where it was, a run unpacks the
file from the last member that was known before its next row: commits keep where that is. A file of one member is
unpacked from its beginning, without decoding rows: that takes seconds for each gigabyte.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from llm_datagen.errors import StreamChangedError
from llm_datagen.streams.block import Block
from llm_datagen.streams.coverage import START, Coverage, Segment, Span
from llm_datagen.streams.cursor import READ_BYTES, Cursor
from llm_datagen.streams.file_streams import FileStream
from llm_datagen.streams.formats.base import Codec
from llm_datagen.streams.inputs.whole_file import check_fingerprint_of, fingerprint_of
from llm_datagen.streams.read_limit import readable
from llm_datagen.streams.storage.base import Place
from llm_datagen.streams.storage.compressed_file import CompressedReadFile, Members
from llm_datagen.streams.storage.compression import Compression, compression_of, ending_of


class CompressedStream(FileStream):
    """A stream in a compressed file.

    Args:
        uri: its URI; the path ends with that of a compression.
        codec: the format of what the file holds; None: by the ending before that of the compression.
    """

    has_tails: bool = False
    has_seek_marks: bool = True

    def __init__(self, uri: str, codec: Codec | None = None) -> None:
        if codec is not None:
            self.codec = codec
        super().__init__(uri)
        ending = ending_of(self.path)
        assert ending is not None
        self.compression = ending
        self._members = Members()
        self._line_lock = threading.Lock()
        self._line_file: CompressedReadFile | None = None

    @property
    def format_path(self) -> PurePath:
        """The path, without the ending of the compression."""
        return PurePath(self.path).with_suffix("")

    def pack(self, data: bytes) -> bytes:
        """Return what lies on disk of some bytes: a member."""
        return self._compression().compress(data)

    def open_data(self) -> CompressedReadFile:
        """Open what the file holds."""
        return CompressedReadFile(
            lambda: self.storage.open_read(self.path), self.path, self._compression(), self._members
        )

    def seek_mark(self, offset: int) -> list[int] | None:
        """Return where the last known member before `offset` begins: in what the file holds, and in the file."""
        begin, raw_begin = self._members.before(offset)
        return [begin, raw_begin] if begin else None

    def use_seek_mark(self, mark: list[int]) -> None:
        """Take what an earlier process knew of the members."""
        self._members.add(*mark)

    def open_cursor(self, segments: Sequence[Segment] = (START,), *, follow: bool = True) -> CompressedCursor:
        """Return a cursor over some segments; with `follow`, it goes on until the seal."""
        return CompressedCursor(self, segments, follow=follow)

    def size_after(self, done: Coverage) -> int:
        """Return the bytes of the file."""
        return self.size() or 0

    def fingerprint(self, *, follow: bool) -> Any:
        """Return what tells later whether the file was changed; None when it is followed."""
        return fingerprint_of(self) if self.read_as_is(follow=follow) else None

    def check_fingerprint(self, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """Check that the file is what it was, if rows of it were read, and it is not followed.

        Raises:
            StreamChangedError: when it is not.
        """
        if known is not None and any(done) and self.read_as_is(follow=follow):
            check_fingerprint_of(self, known)

    def check_resumable(self, done: Coverage) -> None:
        """Check that the file is there, if rows of it were read: whether it is the same, its fingerprint says.

        Raises:
            StreamChangedError: when it is gone.
        """
        if any(done) and self.size() is None:
            raise StreamChangedError(
                f"{self.path} is gone, but rows were read from it before the run was interrupted; restore it, or start "
                "afresh with if_exists='overwrite'"
            )

    def line_place(self, offset: int) -> str:
        """Return the path and the line of the row that begins there, for messages.

        What was unpacked stays for the next error, so that it is not unpacked again from its beginning.
        """
        with self._line_lock:
            number = self._lines.known(offset)
            if number is None:
                if self._line_file is None:
                    self._line_file = self.open_data()
                try:
                    number = self._lines.number(self._line_file, offset)
                finally:
                    self._line_file.close()
        return f"{self.shown}, line {number}"

    def check_path(self) -> None:
        """Check that the file can be written."""
        super().check_path()
        self._compression()

    def check_source(self) -> None:
        """Check that what is there can be read."""
        super().check_source()
        if self.size():
            file = self.open_data()
            try:
                file.available(1)
            finally:
                file.close()

    def _compression(self) -> Compression:
        return compression_of(self.compression or "")


class CompressedCursor(Cursor):
    """Reads a compressed stream. Where it ends, in offsets of rows, is known when it was unpacked to there."""

    def __init__(self, stream: CompressedStream, segments: Sequence[Segment], *, follow: bool) -> None:
        super().__init__(stream, segments, follow=follow)
        self._raw_limit = 0
        self._knows_raw_limit = False
        self._has_news = False

    @property
    def limit(self) -> int:
        """The bytes of the file that are known to be readable."""
        return self._raw_limit

    @property
    def knows_end(self) -> bool:
        """Whether `limit` is where the file ends."""
        return self._knows_raw_limit

    def estimate(self) -> int | None:
        """Return about how many rows there are; None while nobody knows where the file ends."""
        file = self._file
        if not self._knows_raw_limit or not isinstance(file, CompressedReadFile):
            return None
        return round(self.start * self._raw_limit / max(1, file.raw_offset))

    @property
    def has_more(self) -> bool:
        """Whether there is more that may be read: also what is not unpacked yet, so that nobody knows how much."""
        file = self._file
        is_packed = not self._ended and isinstance(file, CompressedReadFile) and file.holds_more
        return self._has_news or is_packed or super().has_more

    def extend(self, limit: int, place: Place | None = None) -> None:
        """Take a writer's word that the first `limit` bytes of the file are committed: look at them when read."""
        self._has_news = True

    def _look(self) -> bool:
        self._has_news = False
        if self._ended:
            self._segments.clear()
            return False
        state = readable(self.stream, follow=self._follow)
        if state is None:
            return super()._look()
        if self._file is None:
            self._file = self.stream.open_data()
        assert isinstance(self._file, CompressedReadFile)
        self._raw_limit, self._knows_raw_limit = state.limit, state.ended
        self._file.limit_raw(state.limit)
        before = self._limit
        if self._decode is None:
            self._limit = self._file.available(READ_BYTES)
            self._decode = self._read_preamble()
        self._file.read_at(self._offset, 0)  # nothing before it is wanted again
        # Of a long record, which is read from its beginning each time, twice as much each time.
        ahead = max(READ_BYTES, before - self._offset)
        self._limit = self._file.available(max(before, self._offset) + ahead)
        if self._limit > before:
            return True
        if state.ended and self._file.is_at_end():
            if self._limit < max(self._offset, self._known):
                raise self._shorter(self._limit, max(self._offset, self._known))
            self._ended = True
        return self._ended

    def _read_long(self, end: int | None, *, is_final: bool) -> Block | None:
        """Pass over a line that is too long at once, unpacked piece by piece: it may hold gigabytes."""
        block = super()._read_long(None if self._knows_raw_limit else end, is_final=is_final)
        self._limit = max(self._limit, self._offset)
        return block

    def _check_place(self, at: int) -> None:
        """Do nothing: the fingerprint tells whether the file was changed."""
