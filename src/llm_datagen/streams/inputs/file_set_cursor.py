"""Reads the files of a set, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llm_datagen.errors import StreamChangedError, StreamError, StreamMissingError
from llm_datagen.streams.block import Block
from llm_datagen.streams.coverage import START, Segment
from llm_datagen.streams.inputs.lazy_streams import LazyStreams
from llm_datagen.streams.source_cursor import Described, SourceCursor
from llm_datagen.streams.storage.base import Place

FILE_STRIDE = 2**42
"""Where the addresses of the next file begin. No file holds so many bytes."""


class Files(Described, Protocol):
    """What is read: some files."""

    @property
    def streams(self) -> LazyStreams:
        """The files, in their order."""

    @property
    def sizes(self) -> list[int]:
        """The bytes of each file."""

    def begin(self, number: int, row: int, offset: int) -> None:
        """Note that a file is read on from a row: its number among all, and its address in the file."""

    def missing(self) -> StreamMissingError:
        """Return the error that says that there is no file."""


class FileSetCursor:
    """Reads the files of a set, one after the other. One thread at a time may use it. See `SourceCursor`.

    Args:
        stream: the files.
        segments: what to read of them, in order; only the last may be open-ended.
    """

    def __init__(self, stream: Files, segments: Sequence[Segment]) -> None:
        self.stream = stream
        self._segments = list(segments)
        self._number = 0  # of the file
        self._cursor: SourceCursor | None = None
        self._start, self._offset = (segments[0] if segments else START)[:2]
        self._sizes: list[int] = []
        self._first = self._start  # the first row of the file

    @property
    def offset(self) -> int:
        """The address up to which the files were read."""
        return self._offset

    @property
    def start(self) -> int:
        """The number of the next row."""
        return self._start

    @property
    def limit(self) -> int:
        """The bytes of all files."""
        return sum(self._known_sizes())

    @property
    def knows_end(self) -> bool:
        """Whether `limit` is where the files end: always."""
        return True

    @property
    def has_more(self) -> bool:
        """Whether there are rows, or may be."""
        return bool(self._segments)

    def estimate(self) -> int | None:
        """Return about how many rows there are; None before anything is known of the first file."""
        sizes = self._known_sizes()
        passed = sum(sizes[: self._number - self.stream.streams.first])
        if passed:
            return round(self._first * sum(sizes) / passed)
        rows = self._cursor.estimate() if self._cursor is not None else None
        return None if rows is None else round(rows * sum(sizes) / max(1, sizes[0]))

    def extend(self, limit: int, place: Place | None = None) -> None:
        """Do nothing: no node writes such files."""

    def read(self, rows: int) -> Block | None:
        """Return the next rows of a file, `rows` at most; None when there are none.

        Raises:
            StreamMissingError: when there is no file, or one has gone.
            StreamError: when a file cannot be read.
        """
        while self._segments:
            if self._cursor is None and not self._open():
                return None
            assert self._cursor is not None
            block = self._cursor.read(rows)
            if block is not None:
                return self._shifted(block)
            self._start = self._cursor.start
            self._cursor.close()
            self._cursor = None
            self._pass_file()
        return None

    def ended(self) -> bool:
        """Return whether everything was read."""
        return not self._segments

    def close(self) -> None:
        """Close the file."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None

    def _open(self) -> bool:
        """Open the file that is next; return whether there is one."""
        files, segment = self.stream.streams, self._segments[0]
        if not len(files):
            raise self.stream.missing()
        self._number, local = divmod(self._offset, FILE_STRIDE)
        if self._number not in files:
            self._segments.clear()
            return False
        file = files[self._number]
        if self._number and not local:
            file.check_source()  # the first was looked at before the run began
        end: int | None = None
        offset_end: int | None = None
        if segment.offset_end is not None and segment.offset_end // FILE_STRIDE == self._number:
            end, offset_end = segment.end, segment.offset_end % FILE_STRIDE
        self._first = self._start
        self.stream.begin(self._number, self._start, local)
        self._cursor = file.cursor([Segment(self._start, local, end, offset_end)], follow=False)
        return True

    def _pass_file(self) -> None:
        """Go on to the next file, or to the next segment."""
        segment = self._segments[0]
        self._offset = (self._number + 1) * FILE_STRIDE
        if segment.end is not None and segment.offset_end is not None and self._offset >= segment.offset_end:
            if self._start != segment.end:
                raise StreamChangedError(
                    f"{self.stream.path}: the files had {segment.end} rows up to where row {segment.end} began, and "
                    f"now have {self._start}; restore them, or start afresh with if_exists='overwrite'"
                )
            self._segments.pop(0)
            if self._segments:
                self._start, self._offset = self._segments[0][:2]

    def _shifted(self, block: Block) -> Block:
        base = self._number * FILE_STRIDE
        if block.offset_end >= FILE_STRIDE:
            raise StreamError(f"{self.stream.streams[self._number].path} holds more than {FILE_STRIDE} bytes")
        ends = None if block.ends is None else [base + end for end in block.ends]
        shifted = Block(block.records, block.start, base + block.offset, base + block.offset_end, ends, block.decode)
        self._start, self._offset = shifted.end, shifted.offset_end
        return shifted

    def _known_sizes(self) -> list[int]:
        if not self._sizes:
            self._sizes = self.stream.sizes
        return self._sizes
