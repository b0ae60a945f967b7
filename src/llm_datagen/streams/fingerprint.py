"""A fingerprint: how a resume knows again an input that nobody accounts for (M22)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from llm_datagen.errors import StreamChangedError
from llm_datagen.streams.spans import Coverage, Span
from llm_datagen.streams.stream import Stream

HEAD_BYTES = 8 * 1024 * 1024
"""How much of an input is looked at, from its beginning."""

PARTS = 64
"""Checksums that are taken of it."""

_SMALLEST_PART = 64
_HINT = "restore it, or start afresh with if_exists='overwrite'"


class Fingerprint:
    """Checksums of the beginning of a stream, part by part.

    Only what was read and is done with must be the same: behind that, an input may be mended, and may grow.
    """

    @staticmethod
    def of_input(source: Stream, *, follow: bool) -> dict[str, Any] | None:
        """Return the fingerprints of what a node reads as it is; of several streams, by their URIs."""
        known = {stream.uri: Fingerprint.of(stream) for stream in source.read_as_is(follow=follow)}
        return known.get(source.uri) if source.places == [source.place] else known

    @staticmethod
    def check_input(source: Stream, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """See to it that what a node has read is still what it was: of what is read as it is.

        Args:
            source: what it reads.
            known: what `of_input` has returned before; None checks nothing.
            done: the rows that are done with.
            follow: whether what the source reads is followed.

        Raises:
            StreamChangedError: when it is not.
        """
        static = {stream.place for stream in source.read_as_is(follow=follow)}
        for stream, coverage in source.parts(Coverage(done)):
            if stream.place in static:
                Fingerprint.check(stream, known if stream is source else (known or {}).get(stream.uri), coverage)

    @staticmethod
    def of(stream: Stream) -> dict[str, Any] | None:
        """Return the fingerprint of a stream as it is now, as plain data; None when it does not exist."""
        size = stream.size()
        if size is None:
            return None
        part = max(_SMALLEST_PART, -(-min(size, HEAD_BYTES) // PARTS))
        return {"size": size, "part": part, "crcs": _crcs(stream, part, min(size, HEAD_BYTES))}

    @staticmethod
    def check(stream: Stream, known: Any, done: Iterable[Span]) -> None:
        """See to it that what was read of a stream is still what it was.

        Args:
            stream: the stream.
            known: the fingerprint that was taken before; None checks nothing.
            done: the rows that are done with. Parts that they cover are compared.

        Raises:
            StreamChangedError: when it is not.
        """
        # What comes before the first row, such as a header, was read with it.
        read = [(span.offset if span.start else 0, span.offset_end) for span in done]
        if known is None or not read:
            return
        size, needed = stream.size(), read[-1][1]
        if size is None or size < needed:
            what = "is gone" if size is None else f"has only {size} bytes now"
            raise StreamChangedError(f"{stream.path} {what}, and {needed} were read before; {_HINT}")
        part, length = known["part"], min(known["size"], HEAD_BYTES)
        # What has become shorter ends behind what was read: the parts that are missing are none that is compared.
        for number, (before, now) in enumerate(zip(known["crcs"], _crcs(stream, part, length), strict=False)):
            begin, end = number * part, min((number + 1) * part, length)
            if before != now and any(first <= begin and end <= last for first, last in read):
                raise StreamChangedError(
                    f"{stream.path}, bytes {begin} to {end}: the input was edited where it had been read already; "
                    f"{_HINT}"
                )


def _crcs(stream: Stream, part: int, length: int) -> list[int]:
    file = stream.disk.open_read(stream.path)
    try:
        head = memoryview(file.read_at(0, length))
        return [zlib.crc32(head[at : at + part]) for at in range(0, len(head), part)]
    finally:
        file.close()
