"""A channel: plain values, sent both ways between this process and another one, over two pipes."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
from typing import Any

_HEADER_BYTES = 8
_PIPE_BYTES = 1 << 20
"""A pipe holds so much where the system lets it, so that a task or a result takes few switches between processes."""


class Channel:
    """One end of a channel. One thread at a time may send, and one receive.

    Args:
        read_fd: the pipe to read from.
        write_fd: the pipe to write to.
    """

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._poll = select.poll()
        self._poll.register(read_fd, select.POLLIN)

    @staticmethod
    def pipes() -> tuple[Channel, tuple[int, int]]:
        """Return one end, and the two pipes (to read from, to write to) that make the other one."""
        here_read, there_write = os.pipe()
        try:
            there_read, here_write = os.pipe()
        except OSError:
            os.close(here_read)
            os.close(there_write)
            raise
        _enlarge(here_read)
        _enlarge(there_read)
        return Channel(here_read, here_write), (there_read, there_write)

    def send(self, value: Any) -> None:
        """Send a value that can be pickled.

        Raises:
            BrokenPipeError: when the other end is closed.
        """
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        self._write(len(data).to_bytes(_HEADER_BYTES, "big"))
        self._write(data)

    def receive(self) -> Any:
        """Return the next value; wait for it.

        Raises:
            EOFError: when the other end is closed.
        """
        length = int.from_bytes(self._read(_HEADER_BYTES), "big")
        return pickle.loads(self._read(length))

    def is_readable(self, seconds: float) -> bool:
        """Wait, at most so long, until there is a value (or the end) to receive; return whether there is."""
        return bool(self._poll.poll(seconds * 1000))

    def close(self) -> None:
        """Close both pipes. May be called more than once."""
        for fd in (self._read_fd, self._write_fd):
            if fd >= 0:
                os.close(fd)
        self._read_fd = self._write_fd = -1

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._write_fd, left) :]

    def _read(self, length: int) -> bytearray:
        data = bytearray(length)
        left = memoryview(data)
        while left:
            count = os.readv(self._read_fd, [left])
            if not count:
                raise EOFError
            left = left[count:]
        return data


def _enlarge(fd: int) -> None:
    try:
        import fcntl

        set_size = fcntl.F_SETPIPE_SZ
    except (ImportError, AttributeError):  # known to Linux only
        return
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, set_size, _PIPE_BYTES)
