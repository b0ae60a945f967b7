"""Numbers of lines, for errors that name them."""

from __future__ import annotations

from bisect import bisect_right, insort

from llm_datagen.streams.storage.base import ReadFile

_COUNT_BYTES = 1 << 16
_LOOK_BYTES = 1 << 15


class LineCounter:
    """Counts the lines of a file, each piece of it once: bad lines come in order, about. Any thread may ask."""

    def __init__(self) -> None:
        self._known = [(0, 1)]  # bytes, a piece apart, and the numbers of the lines that they are in
        self._last = (0, 1)  # where it was asked last
        self._piece = (0, b"", 1)  # what was read last: where it begins, the bytes, and the number of the first line
        self._counted = (0, 1)  # a place in it, and the number of its line

    def known(self, offset: int) -> int | None:
        """Return what `number` would, if what was read last tells it: bad lines come together."""
        begin, data, line = self._piece
        at = offset - begin
        while 0 <= at < len(data) and data[at] in b"\r\n":
            at += 1
        if not 0 <= at < len(data):
            return None
        last, counted = self._counted
        if not begin <= last <= begin + at:
            last, counted = begin, line
        counted += data.count(b"\n", last - begin, at)
        self._counted = begin + at, counted
        return counted

    def number(self, file: ReadFile, offset: int) -> int:
        """Return the number, from 1, of the first line at or after byte `offset` that is not blank."""
        last, known = self._last, self._known[bisect_right(self._known, offset, key=lambda mark: mark[0]) - 1]
        at, line = last if known[0] <= last[0] <= offset else known
        while at < offset:
            end = min(offset, (at // _COUNT_BYTES + 1) * _COUNT_BYTES)
            data = file.read_at(at, end - at)
            if not data:
                break
            line += data.count(b"\n")
            at += len(data)
            if at % _COUNT_BYTES == 0 and at > self._known[-1][0]:
                insort(self._known, (at, line))
        self._last = at, line
        while data := file.read_at(at, _LOOK_BYTES):
            self._piece = at, data, line
            begin = len(data) - len(data.lstrip(b"\r\n"))
            line += data.count(b"\n", 0, begin)
            if begin < len(data):
                break
            at += len(data)
        return line
