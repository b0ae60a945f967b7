"""Bytes that came piece by piece, read at offsets. They are not put together: each is copied once, when it is read."""

from __future__ import annotations

from bisect import bisect_right


class Pieces:
    """Some bytes of something longer, from one offset to another. One thread at a time may use it.

    Args:
        offset: where the first piece begins.

    Attributes:
        end: the offset after the last one.
    """

    def __init__(self, offset: int) -> None:
        self.end = offset
        self._pieces: list[bytes] = []
        self._begins: list[int] = []

    @property
    def base(self) -> int:
        """The offset at which the first piece begins that is kept."""
        return self._begins[0] if self._begins else self.end

    @property
    def is_empty(self) -> bool:
        """Whether none is kept."""
        return not self._pieces

    def add(self, piece: bytes) -> None:
        """Add a piece behind the others."""
        if piece:
            self._pieces.append(piece)
            self._begins.append(self.end)
            self.end += len(piece)

    def forget(self, offset: int) -> None:
        """Drop the pieces that end at `offset`, or before."""
        count = bisect_right(self._begins, offset) - (offset < self.end)
        if count > 0:
            del self._pieces[:count], self._begins[:count]

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`, which is not before `base`; fewer only at the end."""
        found = []
        for number in range(max(bisect_right(self._begins, offset) - 1, 0), len(self._pieces)):
            at = offset - self._begins[number]
            part = self._pieces[number][at : at + length]
            found.append(part)
            offset, length = offset + len(part), length - len(part)
            if not length:
                break
        return found[0] if len(found) == 1 else b"".join(found)
