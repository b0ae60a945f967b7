"""Several sealed streams, one behind the other, read as one: nothing is copied. An export of all shards reads it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from llm_datagen.errors import StreamError
from llm_datagen.shards.sealed_parts import Body, SealedPart, bodies_of, position_after
from llm_datagen.streams import Stream, StreamFactory
from llm_datagen.streams.seal import Seal
from llm_datagen.streams.storage.base import AppendFile, ReadFile


def joined_stream(entry: Mapping[str, Any], parts: Sequence[SealedPart]) -> Stream:
    """Return the output of a node as all shards have made it: a stream that is sealed, and only read.

    Args:
        entry: the node, in the run state of the whole.
        parts: what the shards have made, in the order of the input.

    Raises:
        StreamError: when the parts cannot be one file.
    """
    stream = StreamFactory.output_of(entry)
    stream.anchor()
    bodies = bodies_of(parts) or [Body(parts[0], 0)]  # without rows, it is as a file without rows is
    files = JoinedFiles(stream.path, bodies)
    position = position_after(parts, {})
    position.bytes = files.size(stream.path) or 0
    seal = Seal.of(position, entry["input_uri"], complete=all(part.seal.complete for part in parts))
    # Of the bytes together, nobody has made a checksum; each shard is compared with its own.
    files.small[stream.done_path] = Seal(
        size=position.bytes,
        rows=position.rows,
        source=seal.source,
        cover=seal.cover,
        filtered=seal.filtered,
        failed=seal.failed,
        ids=seal.ids,
        marks=seal.marks,
        complete=seal.complete,
        sealed_at=max(part.seal.sealed_at for part in parts),
    ).dump()
    stream.storage = files
    return stream


class JoinedFiles:
    """A storage with one file, which is made of pieces of others, and some small ones. It is only read.

    Args:
        path: the path of the file.
        bodies: what it is made of.

    Attributes:
        small: the small files, by their paths.
    """

    def __init__(self, path: str, bodies: Sequence[Body]) -> None:
        self._path = path
        self._bodies = bodies
        self._ends = list(accumulate(body.part.seal.size - body.skip for body in bodies))
        self.small: dict[str, bytes] = {}

    def size(self, path: str) -> int | None:
        """Return the file's size in bytes, or None when there is no such file."""
        if path == self._path:
            return self._ends[-1]
        return len(self.small[path]) if path in self.small else None

    def open_read(self, path: str) -> ReadFile:
        """Open the file for reading.

        Raises:
            FileNotFoundError: when it is another one.
        """
        if path != self._path:
            raise FileNotFoundError(path)
        return _JoinedReadFile(self._bodies, self._ends)

    def read_all(self, path: str) -> bytes | None:
        """Return a small file, or None when there is no such file."""
        return self.small.get(path)

    def open_append(self, path: str) -> AppendFile:
        """Refuse to write."""
        raise self._only_read(path)

    def replace(self, path: str, data: bytes, *, sync: bool) -> None:
        """Refuse to write."""
        raise self._only_read(path)

    def remove(self, path: str) -> None:
        """Refuse to write."""
        raise self._only_read(path)

    def _only_read(self, path: str) -> StreamError:
        return StreamError(f"{path} is what several shards have written, seen as one; it is only read")


class _JoinedReadFile:
    """The file, open. One of those that it is made of is open at a time. See `ReadFile`."""

    def __init__(self, bodies: Sequence[Body], ends: Sequence[int]) -> None:
        self._bodies = bodies
        self._ends = ends
        self._open: tuple[int, ReadFile] | None = None

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer only at the end of the file."""
        pieces: list[bytes] = []
        while length > 0 and offset < self._ends[-1]:
            number = bisect_right(self._ends, offset)
            begin = self._ends[number - 1] if number else 0
            body = self._bodies[number]
            piece = self._file(number).read_at(offset - begin + body.skip, min(length, self._ends[number] - offset))
            if not piece:
                path = body.part.stream.path
                raise StreamError(f"{path} is shorter than shard {body.part.number} has sealed it; restore it")
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return b"".join(pieces)

    def size(self) -> int:
        """Return the file's size in bytes."""
        return self._ends[-1]

    def close(self) -> None:
        """Close the file. May be called more than once."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _file(self, number: int) -> ReadFile:
        if self._open is None or self._open[0] != number:
            self.close()
            stream = self._bodies[number].part.stream
            self._open = number, stream.storage.open_read(stream.path)
        return self._open[1]
