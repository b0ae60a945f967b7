"""What commits keep of the source: checksums of what was read last (M22), and how to find the next row again.

A resume after a kill at any moment compares the checksums, and goes on from there.
"""

from __future__ import annotations

import contextlib
import zlib
from typing import Any

from llm_datagen.streams.coverage import Coverage
from llm_datagen.streams.fingerprint import TAIL_BYTES, Fingerprint
from llm_datagen.streams.source import Source
from llm_datagen.streams.storage.base import ReadFile
from llm_datagen.streams.stream import Stream

MARK = "tails"
"""The key under which a commit and a seal hold the checksums, among their marks."""

SEEK = "seek"
"""The key of what `seek_mark` has returned of each stream."""


class Tails:
    """Checksums of the bytes just before the first row that is not done, of each stream that a node reads as it is.

    They go into every commit, so they are never older than the rows that it covers. As plain data: for each of the
    streams, in their order, ``[begin, end, CRC-32]``, or None. The bytes are read once more for it, when they have just
    been read. One thread at a time may use it.

    Args:
        source: what the node reads.
        follow: whether what the source reads is followed.
    """

    def __init__(self, source: Source, *, follow: bool) -> None:
        self._source = source
        static = {stream.place for stream in source.read_as_is(follow=follow) if stream.has_tails}
        self._tails = [_Tail(stream) if stream.place in static else None for stream, _ in source.parts(Coverage())]

    def added_to(self, marks: dict[str, Any], coverage: Coverage) -> dict[str, Any]:
        """Return the marks of a commit after which `coverage` is done, with the tails among them."""
        ends = [(stream, _frontier(stream, done)) for stream, done in self._source.parts(coverage)]
        tails = [None if tail is None else tail.at(end) for tail, (_, end) in zip(self._tails, ends, strict=True)]
        added: dict[str, Any] = {MARK: tails}
        if any(stream.has_seek_marks for stream, _ in ends):
            added[SEEK] = [stream.seek_mark(end) for stream, end in ends]
        return marks | added

    def close(self) -> None:
        """Close the files. May be called more than once."""
        for tail in self._tails:
            if tail is not None:
                tail.close()

    @staticmethod
    def find(source: Source, marks: dict[str, Any]) -> None:
        """Give the streams of a source what helps to find their next rows."""
        for mark, (stream, _) in zip(marks.get(SEEK, ()), source.parts(Coverage()), strict=False):
            if mark is not None:
                stream.use_seek_mark(mark)

    @staticmethod
    def check(source: Source, marks: dict[str, Any], coverage: Coverage) -> None:
        """Check that what was read last is still what it was.

        Args:
            source: what a node reads.
            marks: those of its output's last commit, or seal; of an older version, they hold no tails.
            coverage: the rows that are done.

        Raises:
            StreamChangedError: when it is not.
        """
        for tail, (stream, done) in zip(marks.get(MARK, ()), source.parts(coverage), strict=False):
            if tail is not None:
                Fingerprint.check_tail(stream, tail, done)


class _Tail:
    """The tail of one stream. What is done next is added to the checksum while it is of at most twice `TAIL_BYTES`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._first = stream.begins_at[1]
        self._file: ReadFile | None = None
        self._known: list[int] | None = None

    def at(self, end: int) -> list[int] | None:
        """Return the tail before byte `end`; None when nothing is before it, or it cannot be read."""
        if end <= self._first:
            return None
        begin, at, crc = self._known or (self._first, end + 1, 0)
        if at > end or end - begin > 2 * TAIL_BYTES:
            begin = at = max(self._first, end - TAIL_BYTES)
            crc = 0
        self._known = None
        with contextlib.suppress(OSError):  # that it cannot be read, its reader says
            if self._file is None:
                self._file = self._stream.open_data()
            if at < end:
                crc = zlib.crc32(self._file.read_at(at, end - at), crc)
            self._known = [begin, end, crc]
        return self._known

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _frontier(stream: Stream, done: Coverage) -> int:
    """Return the byte where the first row begins that is not done; blank lines before it are not looked at."""
    first = next(iter(done), None)
    row, at = stream.begins_at
    return first.offset_end if first is not None and first.start == row else at
