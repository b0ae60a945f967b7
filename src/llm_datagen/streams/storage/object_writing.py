"""Writing of a file in an object store: pieces while it grows, one object at its end."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Callable, Iterator

from llm_datagen.errors import StreamChangedError, StreamCorruptError, StreamTakenOverError
from llm_datagen.streams.storage.bucket import Bucket, Found, Range, Version, is_same
from llm_datagen.streams.storage.object_parts import (
    WHOLE,
    Chain,
    Head,
    Turn,
    dump_turns,
    folder_of,
    head_of,
    piece_of,
)

_PIECE_BYTES = 16 << 20
_COPY_BYTES = 8 << 20


def new_writer() -> str:
    """Return a name that no other writer has."""
    return uuid.uuid4().hex


def taken_over(bucket: Bucket, key: str) -> StreamTakenOverError:
    """Return the error of a writer that is no longer the one who writes."""
    return StreamTakenOverError(
        f"{bucket.name}/{key}: another writer has taken the stream over, so nothing more is added to it here; what was "
        "committed before is kept. Let the other one end, or stop it, and resume"
    )


class ObjectAppendFile:
    """A file that is open for appending. See `AppendFile`. Opening it shuts out nobody; who commits first, goes on.

    Args:
        bucket: where it lies.
        key: its key.
    """

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._head = self._opened()
        self._end = self._size() if self._head.turns else 0
        self._writer = ""
        self._confirm: Callable[[], None] | None = None

    def take(self, length: int, confirm: Callable[[], None]) -> None:
        """Go on at `length`, as the writer that the log says; `confirm` raises when it is another one by now."""
        self._confirm = confirm
        self._end, self._writer = length, ""

    def _opened(self) -> Head:
        """Return the head of the file; make it when there is no such file."""
        head = Head.read(self._bucket, self._key)
        if head is not None:
            return head
        if self._bucket.find(self._key) is not None:
            return Head((Turn(WHOLE, 0),), {})
        text = dump_turns(())
        version = self._bucket.put_if(head_of(self._key), text, None)
        if version is not None:
            return Head((), version)
        return self._opened()

    def _size(self) -> int:
        chain = Chain(self._bucket, self._key, self._head)
        chain.grow()
        return chain.end

    def append(self, data: bytes) -> None:
        """Write all of `data` at the end.

        Raises:
            StreamTakenOverError: when another writer has begun since the file was opened.
            DiskError: when the store refuses it.
        """
        if not self._writer:
            self._begin_turn()
        for at in range(0, len(data), _PIECE_BYTES):
            some = data[at : at + _PIECE_BYTES]
            if self._bucket.put_if(piece_of(self._key, self._end, self._writer), some, None) is None:
                raise taken_over(self._bucket, self._key)
            self._end += len(some)

    def _begin_turn(self) -> None:
        """Add this writer to the head."""
        writer = new_writer()
        self._put_head(lambda head: head.with_turn(writer, self._end))
        self._writer = writer

    def _put_head(self, turns_of: Callable[[Head], tuple[Turn, ...]]) -> None:
        """Put another head in place of the one that was read.

        One that was succeeded, and does not know it, may have been faster. So when the head is another one, it is read
        again, and this writer goes on if it can still confirm *after that* that nobody has succeeded it: whoever does
        so from then on changes the head that was read, and the put is refused.

        Raises:
            StreamTakenOverError: when another writer goes on with the file.
        """
        while True:
            turns = turns_of(self._head)
            version = self._bucket.put_if(head_of(self._key), dump_turns(turns), self._head.version or None)
            if version is not None:
                self._head = Head(turns, version)
                return
            head = None if self._confirm is None else Head.read(self._bucket, self._key)
            if self._confirm is None or head is None:
                raise taken_over(self._bucket, self._key)
            self._confirm()
            self._head = head

    def truncate(self, length: int) -> None:
        """Cut the file to `length` bytes: what is appended next goes there, and what lies behind no longer counts."""
        if length < self._end:
            self._end, self._writer = length, ""

    def sync(self) -> None:
        """Do nothing: what a put has answered is safe."""

    def begin_sync(self, offset: int, length: int) -> None:
        """Do nothing."""

    def finish(self, crc: int | None) -> None:
        """Put the file together: one object at its key, which is there when it is whole, and not before.

        Args:
            crc: the CRC-32 that it must have; None compares nothing.

        Raises:
            StreamTakenOverError: when another writer goes on with the file.
            StreamCorruptError: when the checksum differs.
            StreamChangedError: when pieces are gone, or the object is not as long as what was put.
        """
        if self._head.is_whole:
            return
        chain = Chain(self._bucket, self._key, self._head)
        chain.grow()
        if chain.end < self._end:
            if self._confirm is not None:
                self._confirm()  # whoever has succeeded this writer, and ended the stream, has removed them
            raise StreamChangedError(
                f"{self._bucket.name}/{folder_of(self._key)} has pieces of {chain.end} bytes, and {self._end} were "
                "written: somebody else has removed some; start afresh with if_exists='overwrite'"
            )
        before = self._bucket.find(self._key)  # before it is confirmed that this writer may go on: see `_checked`
        if self._end <= _COPY_BYTES:
            data = b"".join(self._checked(chain, crc))
            if self._bucket.put_if(self._key, data, before.version if before else None) is None:
                raise self._changed_meanwhile()
        else:
            self._put_large(chain, crc, before)
        self._put_head(lambda _: (Turn(WHOLE, 0),))
        self._writer = ""

    def _put_large(self, chain: Chain, crc: int | None, before: Found | None) -> None:
        """Put an object in several requests. They have no condition, so it is looked at before the last, and after."""

        def pieces() -> Iterator[bytes]:
            yield from self._checked(chain, crc)
            now = self._bucket.find(self._key)
            if (now and now.version) != (before and before.version):
                raise self._changed_meanwhile()

        self._bucket.put_pieces(self._key, pieces())
        found = self._bucket.find(self._key)
        if found is None or found.size != self._end:
            raise self._changed_meanwhile()

    def _changed_meanwhile(self) -> StreamChangedError:
        return StreamChangedError(
            f"{self._bucket.name}/{self._key} was put by somebody else while it was put together here; what was "
            "committed is kept: resume, and it is put there again"
        )

    def _checked(self, chain: Chain, crc: int | None) -> Iterator[bytes]:
        """Yield the bytes of a chain; at their end, raise when they are not what they must be, or not ours to put."""
        found = 0
        for data in self._bucket.read_all(self._ranges(chain)):
            found = zlib.crc32(data, found)
            yield data
        if crc is not None and found != crc:
            raise StreamCorruptError(
                f"{self._bucket.name}/{self._key}: the checksum of its pieces is {found:08x}, and {crc:08x} was "
                "committed: some were changed; start afresh with if_exists='overwrite'"
            )
        if self._confirm is not None:
            self._confirm()

    def _ranges(self, chain: Chain) -> Iterator[Range]:
        for piece in chain.pieces:
            length = min(piece.end, self._end) - piece.begin
            for begin in range(0, length, _COPY_BYTES):
                yield Range(piece.key, begin, min(begin + _COPY_BYTES, length))

    def close(self) -> None:
        """Do nothing: nobody was shut out."""


class ObjectLog:
    """A log that is one object, put anew with each line. See `Log`.

    Each put is refused when the object is not the one that this writer has put, or found when it was opened. So when
    two writers have opened it, the first one that puts goes on, and the other one can never add a line again.

    Args:
        bucket: where it lies.
        key: its key.
    """

    is_put_whole: bool = True

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._data = b""
        self._version: Version | None = None
        if (found := bucket.get(key)) is not None:
            self._data, self._version = found
        self.writer = new_writer()

    def rewrite(self, data: bytes, *, sync: bool) -> None:
        """Put `data` in place of all lines.

        Raises:
            StreamTakenOverError: when another writer has put some since.
        """
        version = self._bucket.put_if(self._key, data, self._version)
        if version is None:
            raise taken_over(self._bucket, self._key)
        self._data, self._version = data, version

    def append(self, line: bytes, *, sync: bool) -> None:
        """Add a line."""
        self.rewrite(self._data + line, sync=sync)

    def sync(self) -> None:
        """Do nothing: what is put is on the medium."""

    def confirm(self) -> None:
        """Check that no other writer has put lines.

        Raises:
            StreamTakenOverError: when one has.
        """
        found = self._bucket.find(self._key)
        if self._version is None or found is None or not is_same(found.version, self._version):
            raise taken_over(self._bucket, self._key)

    def close(self) -> None:
        """Do nothing."""
