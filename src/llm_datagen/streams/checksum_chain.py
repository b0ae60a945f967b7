r"""Lines with a checksum of themselves and of the line before: what logs are made of.

    <checksum> <checksum of the line before> <payload>\n

The checksum is the CRC-32, in 8 hex digits, of all that follows it in the line. The first line names `FIRST`. So a
line that was changed is seen by its own checksum, and one that was removed, doubled or moved by what the next line
names. That lines are missing at the end cannot be seen: a process that is killed leaves just that.
"""

from __future__ import annotations

import zlib

FIRST = b"00000000"
"""What the first line names, in place of the line before."""

_DIGITS = len(FIRST)


class TornLineError(ValueError):
    """Raised for a line that is not as it was written. At the end of a log, a loss of power may leave one."""


class ChecksumChain:
    """Where a log stands: the checksum of its last line. Not thread-safe.

    Args:
        last: the checksum of the last line, as `last` had it; without it, the log has no line yet.
    """

    def __init__(self, last: bytes = FIRST) -> None:
        self.last = last

    def line(self, payload: bytes) -> bytes:
        """Return `payload`, which has no newline, as the next line, with its newline."""
        rest = b"%s %s" % (self.last, payload)
        self.last = b"%08x" % zlib.crc32(rest)
        return b"%s %s\n" % (self.last, rest)

    def read(self, line: bytes) -> bytes:
        """Return the payload of the next line, given without its newline.

        Raises:
            TornLineError: when the line is not as it was written.
            ValueError: when it is, and it does not follow the line before.
        """
        checksum, rest = line[:_DIGITS], line[_DIGITS + 1 :]
        if line[_DIGITS : _DIGITS + 1] != b" " or checksum != b"%08x" % zlib.crc32(rest):
            raise TornLineError("the checksum differs")
        before, _, payload = rest.partition(b" ")
        if before != self.last:
            raise ValueError("it does not follow the line before it: a line was removed, added or moved")
        self.last = checksum
        return payload


class Unchained:
    """The lines of logs of older versions, which have only a checksum of themselves: ``<checksum> <payload>``."""

    def read(self, line: bytes) -> bytes:
        """Return the payload of a line, as `ChecksumChain.read`."""
        checksum, _, payload = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(payload):
            raise TornLineError("the checksum differs")
        return payload


def reader_of(line: bytes) -> ChecksumChain | Unchained:
    """Return what reads the lines of a log of JSON objects, by its first line."""
    is_older = line[_DIGITS:].startswith(b" {")
    return Unchained() if is_older else ChecksumChain()
