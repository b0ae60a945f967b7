"""The last lines of a platform log, and those that come after: without reading what is before them."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from llm_datagen.runs.logs.reader import LogEvent, open_all, parsed

_BLOCK = 1 << 16
_MOST_BYTES = 1 << 24
"""So much is read for one page, at most: of a log in which few lines are wanted."""


_MOST_DIGITS = 18


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some lines of a log.

    Attributes:
        lines: the events that are wanted, the oldest first.
        after: what `lines_after` goes on from.
        events: the names of all events that were passed on the way, wanted or not.
    """

    lines: list[LogEvent]
    after: str
    events: set[str] = field(default_factory=set)


def last_lines(path: Path, wanted: Callable[[LogEvent], bool], limit: int) -> LogPage:
    """Return the last lines that are wanted of a log and its rotated files.

    Raises:
        DiskError: when there is no log, or it cannot be read.
    """
    found: deque[LogEvent] = deque()
    events: set[str] = set()
    left = _MOST_BYTES
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(file) for file in open_all(path)]
        end = _end(files[-1])
        for line in _all_backwards(files, end):
            left -= len(line)
            event = parsed(line)
            if event is not None:
                events.add(event.event)
                if wanted(event):
                    found.appendleft(event)
            if len(found) >= limit or left <= 0:
                break
        return LogPage(list(found), _token(files[-1], end), events)


def lines_after(path: Path, after: str, wanted: Callable[[LogEvent], bool], limit: int) -> LogPage:
    """Return the lines that are wanted behind a place in a log: the next ones.

    Args:
        path: the log. It may have been rotated since: a file that is gone is passed over.
        after: the `after` of the page before.
        wanted: which lines.
        limit: how many, at most.

    Raises:
        DiskError: when there is no log, or it cannot be read.
    """
    found: list[LogEvent] = []
    events: set[str] = set()
    left = _MOST_BYTES
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(file) for file in open_all(path)]
        known = [number for number, file in enumerate(files) if _identity(file) == after.rpartition(".")[0]]
        offset = _offset(after) if known else 0
        for file in files[known[0] if known else 0 :]:
            if offset > _end(file):  # it was cut
                offset = 0
            file.seek(offset)
            while line := file.readline():
                if not line.endswith(b"\n"):
                    break
                offset += len(line)
                left -= len(line)
                event = parsed(line)
                if event is not None:
                    events.add(event.event)
                    if wanted(event):
                        found.append(event)
                if len(found) >= limit or left <= 0:
                    return LogPage(found, _token(file, offset), events)
            after, offset = _token(file, offset), 0
        return LogPage(found, after, events)


def _all_backwards(files: Sequence[BinaryIO], end: int) -> Iterator[bytes]:
    """Yield the lines of some files, the last one first; of the last file, those before `end`."""
    yield from _backwards(files[-1], end)
    for file in reversed(files[:-1]):
        yield from _backwards(file, _end(file))


def _backwards(file: BinaryIO, end: int) -> Iterator[bytes]:
    """Yield the lines of a file before `end`, which is behind a line end, the last one first."""
    head = b""
    at = end
    while at > 0:
        size = min(_BLOCK, at)
        at -= size
        file.seek(at)
        head, *lines = (file.read(size) + head).split(b"\n")
        yield from (line for line in reversed(lines) if line)
    if head:
        yield head


def _end(file: BinaryIO) -> int:
    """Return how far whole lines go."""
    at = file.seek(0, os.SEEK_END)
    while at > 0:
        start = max(0, at - _BLOCK)
        file.seek(start)
        found = file.read(at - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0


def _token(file: BinaryIO, offset: int) -> str:
    return f"{_identity(file)}.{offset}"


def _identity(file: BinaryIO) -> str:
    found = os.fstat(file.fileno())
    return f"{found.st_dev}.{found.st_ino}"


def _offset(after: str) -> int:
    text = after.rpartition(".")[2]
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else 0
