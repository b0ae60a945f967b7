"""A compressed file that is read as what it holds, at offsets of that."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable

from llm_datagen.errors import StreamError
from llm_datagen.streams.storage.base import ReadFile
from llm_datagen.streams.storage.compression import Compression, Decompressor
from llm_datagen.streams.storage.pieces import Pieces

_RAW_BYTES = 1 << 18
_PIECE_BYTES = 1 << 20
_BACK_BYTES = 4 << 20
"""So much stays unpacked before what was read last: those who look for the numbers of lines go back a bit."""


class Members:
    """Where the members of a file begin, as far as they are known. Any thread may use it."""

    def __init__(self) -> None:
        self._begins = [(0, 0)]
        self._lock = threading.Lock()

    def add(self, begin: int, raw_begin: int) -> None:
        """Add a member: where it begins in what the file holds, and in the file."""
        with self._lock:
            at = bisect_right(self._begins, (begin, raw_begin))
            if self._begins[at - 1][0] < begin:
                self._begins.insert(at, (begin, raw_begin))

    def before(self, offset: int) -> tuple[int, int]:
        """Return where the last member begins that is known, and does not begin behind `offset`."""
        with self._lock:
            return self._begins[bisect_right(self._begins, offset, key=lambda member: member[0]) - 1]


class CompressedReadFile:
    """A compressed file that is open for reading. See `ReadFile`; all offsets and lengths are of what it holds.

    Reading goes forward. A read before the last one begins again at the member in which its offset lies, as far as
    members are known: those that were read.

    Args:
        open_raw: opens the file as it lies on disk.
        path: its path, for messages.
        compression: how it is compressed.
        members: what is known of its members; those that are met are added.
    """

    def __init__(self, open_raw: Callable[[], ReadFile], path: str, compression: Compression, members: Members) -> None:
        self._open_raw = open_raw
        self._raw: ReadFile | None = open_raw()
        self._path = path
        self._compression = compression
        self._members = members
        self._raw_limit: int | None = None
        self._begin(0, 0)

    def _begin(self, offset: int, raw_offset: int) -> None:
        self._member: Decompressor | None = None
        self._pieces = Pieces(offset)
        self._raw_at = raw_offset
        self._given = b""  # read, and not yet given to a member

    @property
    def raw_offset(self) -> int:
        """The bytes of the file that were read."""
        return self._raw_at - len(self._given)

    @property
    def holds_more(self) -> bool:
        """Whether some of the bytes that may be read (see `limit_raw`) were not unpacked yet."""
        if self._raw_limit is None or self._given or self._member is not None:
            return True
        return self._raw_at < self._raw_limit

    def limit_raw(self, limit: int) -> None:
        """Read the first `limit` bytes of the file only: the rest is not committed."""
        self._raw_limit = limit

    def available(self, end: int) -> int:
        """Unpack up to byte `end`, or what there is; return how far."""
        while self._pieces.end < end and self._unpack():
            pass
        return self._pieces.end

    def is_at_end(self) -> bool:
        """Return whether all that may be read of the file was unpacked.

        Raises:
            StreamError: when it ends within a member.
        """
        while self._pieces.is_empty and self._unpack():  # members may be empty
            pass
        if self._given or self._raw_at < self._raw_size():
            return False
        if self._member is not None:
            raise StreamError(
                f"{self._path} is cut short: it ends at byte {self._raw_at}, within {self._compression.name} data; "
                "replace it with a whole one, and resume"
            )
        return True

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer only at the end of the file."""
        begin, raw_begin = self._members.before(offset)
        if offset < self._pieces.base or begin > self._pieces.end:
            self._begin(begin, raw_begin)
        while self._pieces.end < offset and self._unpack():
            self._pieces.forget(offset - _BACK_BYTES)
        self._pieces.forget(offset - _BACK_BYTES)
        self.available(offset + length)
        return self._pieces.read_at(offset, length)

    def size(self) -> int:
        """Return how many bytes the file holds: all of it is unpacked for that."""
        while self._unpack():
            self._pieces.forget(self._pieces.end)
        return self._pieces.end

    def close(self) -> None:
        """Close the file. May be called more than once; a later read opens it again, and goes on where it was."""
        if self._raw is not None:
            self._raw.close()
            self._raw = None

    def _file(self) -> ReadFile:
        if self._raw is None:
            self._raw = self._open_raw()
        return self._raw

    def _raw_size(self) -> int:
        return self._file().size() if self._raw_limit is None else self._raw_limit

    def _unpack(self) -> bool:
        """Add a piece, which may be empty; return whether there was any."""
        if not self._given and (self._member is None or self._member.needs_input):
            self._given = self._file().read_at(self._raw_at, min(_RAW_BYTES, max(0, self._raw_size() - self._raw_at)))
            self._raw_at += len(self._given)
            if not self._given:
                return self._unpack_rest()
        if self._member is None and not self._begin_member():
            return True
        assert self._member is not None
        given, self._given = self._given, b""
        try:
            self._pieces.add(self._member.decompress(given, _PIECE_BYTES))
        except self._compression.errors as error:
            begin = self._members.before(self._pieces.end)[1]
            raise StreamError(
                f"{self._path}, before byte {self._raw_at}: the {self._compression.name} data is damaged ({error}), "
                f"perhaps from byte {begin} on, where the part begins that its checksum is of: rows from there may be "
                "wrong, though they could be read. Replace the file with a whole one, and start afresh with "
                "if_exists='overwrite'; if none of its rows were done, resume"
            ) from error
        if self._member.eof:
            self._given, self._member = self._member.unused_data, None
        return True

    def _unpack_rest(self) -> bool:
        """Add what a member holds back, of a file that has no more bytes; return whether there was anything."""
        rest = b"" if self._member is None else self._member.decompress(b"", _PIECE_BYTES)
        self._pieces.add(rest)
        if self._member is not None and self._member.eof:
            self._member = None
        return bool(rest)

    def _begin_member(self) -> bool:
        """Begin with the next member; return whether there is one, and not only padding."""
        magic, at = self._compression.magic, self.raw_offset
        self._given = self._given.lstrip(b"\0") if at else self._given  # tape drives fill up blocks
        if not self._given:
            return False
        if len(self._given) < len(magic):
            more = self._file().read_at(self._raw_at, min(_RAW_BYTES, max(0, self._raw_size() - self._raw_at)))
            self._raw_at += len(more)
            self._given += more
        at = self.raw_offset
        member = self._compression.member(self._given)
        if member is None:
            what = "is no" if at == 0 else f"has something else behind byte {at} than"
            raise StreamError(
                f"{self._path} {what} {self._compression.name} data, though its name says so; rename it, or replace it "
                "with a whole one"
            )
        self._members.add(self._pieces.end, at)
        self._member = member
        return True
