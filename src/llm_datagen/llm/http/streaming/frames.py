"""Bytes become events: server-sent events, and lines of JSON. Wherever the bytes are cut, the events are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """What an endpoint sent at once.

    Attributes:
        name: its name; "" when it has none.
        data: what it says.
    """

    name: str
    data: bytes


class Frames(Protocol):
    """Makes events of the bytes of one response.

    Attributes:
        pending: bytes that are kept because no whole event is in them yet.
    """

    @property
    def pending(self) -> int:
        """Bytes that are kept because no whole event is in them yet."""

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that end in these bytes.

        Raises:
            DamagedBodyError: when they cannot be what was sent.
        """

    def end(self) -> Iterator[Event]:
        """Yield what the end of the bytes makes an event of."""


class _Lines:
    """Cuts bytes into lines, that end in LF, CRLF or CR."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._seen = 0

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, piece: bytes, *, is_last: bool = False) -> Iterator[bytes]:
        """Yield the lines that end in these bytes. After a CR at their end, an LF may follow that belongs to it."""
        self._buffer += piece
        at = 0
        while match := _LINE_END.search(self._buffer, max(at, self._seen)):
            if match.end() == len(self._buffer) and match.group() == b"\r" and not is_last:
                break
            yield bytes(self._buffer[at : match.start()])
            at = self._seen = match.end()
        del self._buffer[:at]
        self._seen = max(len(self._buffer) - 1, 0)
        if is_last and self._buffer:
            yield bytes(self._buffer)
            self._buffer.clear()


class SseFrames:
    """Server-sent events, as the HTML standard has them.

    The last event counts although no blank line ends it: that it is whole is told by what it says.
    """

    def __init__(self) -> None:
        self._lines = _Lines()
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._is_first = True

    @property
    def pending(self) -> int:
        """Bytes that are kept because no whole event is in them yet."""
        return len(self._lines) + self._size

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that end in these bytes."""
        for line in self._lines.feed(piece):
            yield from self._take(line)

    def end(self) -> Iterator[Event]:
        """Yield the event that no blank line has ended."""
        for line in self._lines.feed(b"", is_last=True):
            yield from self._take(line)
        yield from self._dispatched()

    def _take(self, line: bytes) -> Iterator[Event]:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            yield from self._dispatched()
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(value) + 1
        elif field == b"event":
            self._name = value.decode(errors="replace")

    def _dispatched(self) -> Iterator[Event]:
        name, data = self._name, self._data
        self._name, self._data, self._size = "", [], 0
        if data:
            yield Event(name, b"\n".join(data))


class LineFrames:
    """Lines of JSON; blank ones say nothing."""

    def __init__(self) -> None:
        self._lines = _Lines()

    @property
    def pending(self) -> int:
        """Bytes that are kept because no whole line is in them yet."""
        return len(self._lines)

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the lines that end in these bytes."""
        return self._events(self._lines.feed(piece))

    def end(self) -> Iterator[Event]:
        """Yield the line that nothing has ended."""
        return self._events(self._lines.feed(b"", is_last=True))

    @staticmethod
    def _events(lines: Iterator[bytes]) -> Iterator[Event]:
        return (Event("", line) for line in lines if line.strip())
