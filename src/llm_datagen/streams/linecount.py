"""Numbers of lines, for errors that name them."""

from __future__ import annotations

from llm_datagen.streams.disk import ReadFile

_COUNT_BYTES = 1 << 20
_LOOK_BYTES = 1 << 10


class LineCounter:
    """Counts the lines of a file, on from where it was asked last: bad lines come in order. Any thread may ask."""

    def __init__(self) -> None:
        self._known = (0, 1)  # a byte, and the number of the line that it is in

    def number(self, file: ReadFile, offset: int) -> int:
        """Return the number, from 1, of the first line at or after byte `offset` that is not blank."""
        at, line = self._known
        if at > offset:
            at, line = 0, 1
        while at < offset and (data := file.read_at(at, min(_COUNT_BYTES, offset - at))):
            line += data.count(b"\n")
            at += len(data)
        self._known = at, line
        while data := file.read_at(at, _LOOK_BYTES):
            begin = len(data) - len(data.lstrip(b"\r\n"))
            line += data.count(b"\n", 0, begin)
            if begin < len(data):
                break
            at += len(data)
        return line
