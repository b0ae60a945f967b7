"""The standard error of a program, of which the end is kept: it is not for the terminal, and has no bound."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TextIO

_KEPT = 8192
_LINE_CHARS = 300


class StderrTail:
    """A pipe that is read as it fills. Made and closed on an event loop.

    Attributes:
        file: what the program writes to.
    """

    def __init__(self) -> None:
        self._end = b""
        self._reading, writing = os.pipe()
        os.set_blocking(self._reading, False)
        self.file: TextIO = os.fdopen(writing, "w")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reading, self._read)

    def last_line(self) -> str:
        """Return the last line that is not blank, or what there is of it; "" for none."""
        lines = [line for line in self._end.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:_LINE_CHARS] if lines else ""

    def close(self) -> None:
        """Stop reading; what the program has written until now is kept."""
        if self._reading < 0:
            return
        self.file.close()
        self._read()
        self._loop.remove_reader(self._reading)
        os.close(self._reading)
        self._reading = -1

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._reading, 65536):
                self._end = (self._end + data)[-_KEPT:]
            self._loop.remove_reader(self._reading)  # all who could write have gone
