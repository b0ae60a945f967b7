"""A fingerprint: how a resume knows again an input that nobody accounts for (M22)."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

from llm_datagen.errors import StreamChangedError
from llm_datagen.streams.stream import Stream

HEAD_BYTES = 8 * 1024 * 1024
"""How much of an input is looked at."""


class Fingerprint(NamedTuple):
    """The beginning of a stream. A stream that only grew still has it."""

    bytes: int
    """How many bytes were looked at."""
    crc: int
    """Their CRC-32."""

    @classmethod
    def of(cls, stream: Stream) -> list[int] | None:
        """Return the fingerprint of a stream as it is now, as plain data; None when it does not exist."""
        size = stream.disk.size(stream.path)
        return None if size is None else list(cls(min(size, HEAD_BYTES), _crc(stream, min(size, HEAD_BYTES))))

    @classmethod
    def check(cls, stream: Stream, known: Any) -> None:
        """See to it that a stream begins as it did.

        Args:
            stream: the stream.
            known: the fingerprint that was taken before, as a list; None checks nothing.

        Raises:
            StreamChangedError: when it does not.
        """
        if known is None:
            return
        before = cls(*known)
        size = stream.disk.size(stream.path)
        if size is None or size < before.bytes:
            what = "is gone" if size is None else f"has {size} bytes, and had at least {before.bytes}"
            raise StreamChangedError(f"{stream.path} {what} when the run began; {_HINT}")
        if _crc(stream, before.bytes) != before.crc:
            raise StreamChangedError(
                f"{stream.path}, bytes 0 to {before.bytes}: the input was edited since the run began; {_HINT}"
            )


_HINT = "restore it, or start afresh with if_exists='overwrite'"


def _crc(stream: Stream, length: int) -> int:
    file = stream.disk.open_read(stream.path)
    try:
        return zlib.crc32(file.read_at(0, length))
    finally:
        file.close()
