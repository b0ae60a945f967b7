"""What a process writes to standard error: the last lines are kept, for the error that tells of its death."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from typing import IO

LAST_WORDS = 20
"""So many lines are kept."""


class LastWords:
    """Reads the standard error of a process, on a thread of its own, to its end. Any thread may use it.

    Args:
        errors: the pipe; it is closed when it has ended.
        name: of the thread.
        are_passed_on: whether this process writes them to its own standard error.
    """

    def __init__(self, errors: IO[bytes], name: str, *, are_passed_on: bool) -> None:
        self._errors = errors
        self._are_passed_on = are_passed_on
        self._lines: deque[str] = deque(maxlen=LAST_WORDS)
        self._thread = threading.Thread(target=self._read, name=name, daemon=True)
        self._thread.start()

    def clear(self) -> None:
        """Forget what was said so far."""
        self._lines.clear()

    def join(self, seconds: float) -> None:
        """Wait for the end of the pipe, which a process that was forked may hold open; so many seconds at most."""
        self._thread.join(seconds)

    def told(self, *, until: str | None = None) -> str:
        """Return them as the end of an error's text; empty when nothing was said.

        Args:
            until: what they are cut off at.
        """
        said = "\n".join(self._lines)
        said = said if until is None else said.partition(until)[0]
        return f"; its last words:\n{said}" if said else ""

    def _read(self) -> None:
        with self._errors as errors:
            for line in errors:
                text = line.decode(errors="backslashreplace")
                self._lines.append(text.rstrip("\n"))
                if self._are_passed_on:
                    with contextlib.suppress(OSError, ValueError):  # nobody reads any more
                        sys.stderr.write(text)
                        sys.stderr.flush()
