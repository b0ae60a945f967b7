"""Reading of a file in an object store: an object, or the pieces of one that is being written."""

from __future__ import annotations

import bisect

from llm_datagen.errors import StreamMissingError
from llm_datagen.streams.storage.bucket import Bucket, Found, Range, Version
from llm_datagen.streams.storage.object_parts import Chain, Head, Piece

FIRST_BYTES = 64 * 1024
"""What a read asks for at least."""

MOST_BYTES = 8 << 20
"""What it asks for at most beyond what is wanted, when one read follows the other."""


class ObjectReadFile:
    """A file that is open for reading. See `ReadFile`.

    An object is read as it was when it was opened; one that was replaced since is an error. Of a file that is being
    written, nothing is read ahead, and the head is read again before bytes that nobody has asked for yet: whoever asks
    for bytes knows that they are committed, so they stay; what lies behind them may be what a dead writer has left.

    Args:
        bucket: where it lies.
        key: its key.

    Raises:
        FileNotFoundError: when there is no such file.
    """

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._chain: Chain | None = None
        self._whole: Found | None = None
        self._buffer = b""
        self._at = 0  # of the buffer, in the file
        self._ahead = FIRST_BYTES
        self._checked = 0  # the bytes of pieces that were asked for, so that they are there to stay
        self._open()

    def _open(self) -> None:
        """Find out whether it is an object or pieces."""
        head = Head.read(self._bucket, self._key)
        self._chain = self._whole = None
        self._buffer = b""  # what was not committed may be another writer's by now
        if head is not None and not head.is_whole:
            self._chain = Chain(self._bucket, self._key, head)
            self._chain.grow()
            return
        self._whole = self._bucket.find(self._key)
        if self._whole is None:
            raise FileNotFoundError(f"{self._bucket.name}/{self._key}")

    @property
    def version(self) -> Version | None:
        """The version of the object that is read; None of a file that is being written."""
        return None if self._whole is None else self._whole.version

    def size(self) -> int:
        """Return the file's size in bytes: of an object when it was opened, of pieces now."""
        if self._chain is not None:
            self._look()
        return self._known_size()

    def _known_size(self) -> int:
        if self._whole is not None:
            return self._whole.size
        return 0 if self._chain is None else self._chain.end

    def _look(self) -> None:
        """Look for more pieces, and then whether it was still they that count: when they are listed, they may go."""
        while self._chain is not None:
            self._chain.grow()
            head = Head.read(self._bucket, self._key)
            if head is not None and head.version == self._chain.head.version:
                return
            self._open()

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer only at the end of the file."""
        if self._chain is not None and offset + length > self._checked:
            # What nobody has asked for yet may not be committed: another writer may put other bytes in its place.
            self._look()
            self._checked = max(self._checked, min(offset + length, self._known_size()))
        end = min(offset + length, self._known_size())
        if end <= offset:
            return b""
        if not self._at <= offset <= end <= self._at + len(self._buffer):
            self._fill(offset, end)
        return self._buffer[offset - self._at : end - self._at]

    def _fill(self, offset: int, end: int) -> None:
        """Have the bytes from `offset` to `end` in the buffer, and more of an object when reading goes forward."""
        held_end = self._at + len(self._buffer)
        goes_on = bool(self._buffer) and self._at <= offset <= held_end
        self._ahead = min(self._ahead * 4, MOST_BYTES) if goes_on else FIRST_BYTES
        kept = self._buffer[offset - self._at :] if goes_on else b""
        begin = offset + len(kept)
        ahead = end if self._chain is not None else min(max(end, begin + self._ahead), self._known_size())
        self._buffer, self._at = kept + self._fetch(begin, ahead), offset

    def _fetch(self, begin: int, end: int) -> bytes:
        try:
            return self._fetch_now(begin, end)
        except FileNotFoundError:
            if self._chain is None:
                raise self._gone() from None
        self._open_again()  # its pieces were put together since, and are no more
        try:
            return self._fetch_now(begin, end)
        except FileNotFoundError:
            raise self._gone() from None

    def _open_again(self) -> None:
        try:
            self._open()
        except FileNotFoundError:
            raise self._gone() from None

    def _fetch_now(self, begin: int, end: int) -> bytes:
        if self._whole is not None:
            return self._bucket.read(self._key, begin, end, self._whole.version)
        assert self._chain is not None
        wanted = [
            Range(piece.key, max(begin, piece.begin) - piece.begin, min(end, piece.end) - piece.begin)
            for piece in pieces_between(self._chain.pieces, begin, end)
        ]
        return self._bucket.read(*wanted[0]) if len(wanted) == 1 else b"".join(self._bucket.read_all(wanted))

    def _gone(self) -> StreamMissingError:
        return StreamMissingError(
            f"{self._bucket.name}/{self._key} was removed while it was read; restore the object, then resume"
        )

    def close(self) -> None:
        """Let go of what was read ahead. May be called more than once."""
        self._buffer = b""


def pieces_between(pieces: list[Piece], begin: int, end: int) -> list[Piece]:
    """Return those pieces of a chain that have bytes between `begin` and `end`."""
    first = bisect.bisect_right(pieces, begin, key=lambda piece: piece.begin) - 1
    last = bisect.bisect_left(pieces, end, key=lambda piece: piece.begin)
    return pieces[max(first, 0) : last]
