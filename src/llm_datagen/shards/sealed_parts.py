"""What the shards of a run have made of one output: sealed streams, in the order of the input, and their bytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.errors import StreamChangedError, StreamCorruptError, StreamError
from llm_datagen.streams import Stream
from llm_datagen.streams.checksums import with_check
from llm_datagen.streams.coverage import INPUT_STRIDE, Span
from llm_datagen.streams.dead_letters import committed_lines, read_dead_letters
from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.position import REJECTED, Position
from llm_datagen.streams.seal import Seal
from llm_datagen.streams.storage.compression import compression_of

_PIECE_BYTES = 1 << 20
_HEAD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SealedPart:
    """What one shard has made of an output.

    Attributes:
        number: the number of the shard.
        run: the id of the shard's run.
        stream: its stream, which is sealed.
        seal: what the seal says.
        moved: for each input of the node that is a stream of the shard, by its number: how many rows and bytes the
            shards before have in theirs. In the whole, its rows follow those.
    """

    number: int
    run: str
    stream: Stream
    seal: Seal
    moved: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    def cover(self) -> list[Span]:
        """Return the source rows that it covers, by their numbers and addresses in the whole."""
        return [self._in_whole(span) for span in self.seal.cover]

    def moved_on(self, inputs: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Return `moved` of the next shard; `inputs` are the numbers of those inputs that are streams of shards."""
        moved = dict(self.moved)
        for number in inputs:
            base = number * INPUT_STRIDE
            ends = [span for span in self.seal.cover if span.start // INPUT_STRIDE == number]
            rows, size = moved.get(number, (0, 0))
            last, end = max(((span.end - base, span.offset_end - base) for span in ends), default=(0, 0))
            moved[number] = rows + last, size + end
        return moved

    def _in_whole(self, span: Span) -> Span:
        rows, size = self.moved.get(span.start // INPUT_STRIDE, (0, 0))
        return Span(span.start + rows, span.end + rows, span.offset + size, span.offset_end + size)

    def identity(self) -> list[Any]:
        """Return what tells it from what it was before its rows were made again, as plain data."""
        return [self.number, self.run, self.seal.rows, self.seal.size, self.seal.crc, self.seal.sealed_at]

    def packed_pieces(self, skip: int = 0) -> Iterator[bytes]:
        """Yield its bytes as they lie on disk, but for the first `skip`; compared with the seal at the end.

        Raises:
            StreamChangedError: when it is not as long as it was.
            StreamCorruptError: when its checksum differs.
        """
        file = self.stream.storage.open_read(self.stream.path)
        try:
            if file.size() != self.seal.size:
                raise StreamChangedError(
                    f"{self.stream.path} has {file.size()} bytes, and {self.seal.size} when shard {self.number} sealed "
                    "it: restore it"
                )
            at = crc = 0
            while piece := file.read_at(at, _PIECE_BYTES):
                crc = zlib.crc32(piece, crc)
                wanted = piece[max(0, skip - at) :]
                at += len(piece)
                if wanted:
                    yield wanted
        finally:
            file.close()
        if crc != self.seal.crc:
            raise StreamCorruptError(
                f"{self.stream.path}: the checksum is {crc:08x}, and was {self.seal.crc:08x} when shard {self.number} "
                "sealed it: the file was changed; restore it"
            )

    @property
    def rejected(self) -> int:
        """How many of its filtered rows were rejected."""
        return self.seal.position().rejected

    def rejections(self) -> bytes:
        """Return the lines of its rejected rows.

        Raises:
            StreamCorruptError: when some are missing.
        """
        stream, size = self.stream, self.seal.position().rejected_bytes
        return b"".join(committed_lines(stream, stream.rejected_path, size))

    def dead_letters(self) -> bytes:
        """Return the lines of its dead letters, which name their rows by the numbers that these have in the whole.

        Raises:
            StreamCorruptError: when some are missing.
        """
        size = self.seal.failed[2]
        if not size:
            return b""
        if any(map(any, self.moved.values())):
            return b"".join(map(self._dead_letter, read_dead_letters(self.stream, position=self.seal.position())))
        path = self.stream.errors_path
        file = self.stream.storage.open_read(path)
        try:
            data = file.read_at(0, size)
        finally:
            file.close()
        if len(data) != size:
            raise StreamCorruptError(f"{path} has {len(data)} bytes, and {size} were committed; restore the file")
        return data

    def _dead_letter(self, dead_letter: dict[str, Any]) -> bytes:
        row, offset, end = dead_letter["source"]
        span = self._in_whole(Span(row, row + 1, offset, end))
        return with_check(dumps({**dead_letter, "source": [span.start, span.offset, span.offset_end]}))


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of a part that go into an output of several; see `streams.spill.Packed`.

    Attributes:
        part: the part.
        skip: how many of its first bytes do not.
    """

    part: SealedPart
    skip: int

    def packed_pieces(self) -> Iterator[bytes]:
        """Yield them."""
        return self.part.packed_pieces(self.skip)


def bodies_of(parts: Sequence[SealedPart]) -> list[Body]:
    """Return the bodies of the parts of one output that, one behind the other, are one file of its format.

    What files of the format begin with, such as the header of a CSV, is left out of all but the first one that has
    rows; parts without rows are left out.

    Raises:
        StreamError: when two of them do not begin alike.
    """
    bodies: list[Body] = []
    first: tuple[SealedPart, bytes] | None = None
    for part in parts:
        if not part.seal.rows:
            continue
        begin, length = _beginning_of(part.stream)
        if first is not None and begin != first[1]:
            raise StreamError(
                f"{part.stream.path} of shard {part.number} begins with {_shown(begin)}, and {first[0].stream.path} of "
                f"shard {first[0].number} with {_shown(first[1])}, so they cannot be one file: give all rows the same "
                "columns in the same order, write to jsonl://, or keep the shards apart (merge='shards')"
            )
        bodies.append(Body(part, length if first is not None else 0))
        first = first or (part, begin)
    return bodies


def position_after(parts: Sequence[SealedPart], marks: Mapping[str, Any]) -> Position:
    """Return what the parts of one output are together, but for their bytes."""
    position = Position(marks=dict(marks))
    rejected = [part.seal.position() for part in parts]
    if any(each.rejected for each in rejected):
        counts = sum(each.rejected for each in rejected), sum(each.rejected_bytes for each in rejected)
        position.marks[REJECTED] = list(counts)
    for part in parts:
        seal = part.seal
        position.rows += seal.rows or 0
        position.filtered += seal.filtered
        position.skipped += seal.failed[0]
        position.dead += seal.failed[1]
        position.errors_bytes += seal.failed[2]
        position.first_id = seal.ids[0] if position.first_id is None else position.first_id
        position.last_id = position.last_id if seal.ids[1] is None else seal.ids[1]
        for span in part.cover():
            if not position.coverage.add(span):
                raise StreamCorruptError(
                    f"{part.stream.path}: shard {part.number} covers source rows {span.start} to {span.end}, and "
                    "a shard before it does, too; verify the run"
                )
    return position


def _beginning_of(stream: Stream) -> tuple[bytes, int]:
    """Return what a file begins with before its first row, unpacked, and how many bytes of the file that takes."""
    if isinstance(stream.codec, JsonlCodec):
        return b"", 0
    file = stream.open_data()
    try:
        head = file.read_at(0, _HEAD_BYTES)
    finally:
        file.close()
    found = stream.codec_to_read().read_preamble(head, final=len(head) < _HEAD_BYTES)
    if found is None:
        raise StreamError(f"{stream.path} does not begin as a file of its format within {_HEAD_BYTES} bytes")
    length = found[1]
    return head[:length], _packed_length(stream, length) if stream.compression and length else length


def _packed_length(stream: Stream, length: int) -> int:
    """Return how many bytes of a compressed file hold the first `length` of what it holds: its first member."""
    unpacker = compression_of(stream.compression or "").decompressor()
    file = stream.storage.open_read(stream.path)
    taken = found = 0
    try:
        while not unpacker.eof:
            piece = file.read_at(taken, _PIECE_BYTES) if unpacker.needs_input else b""
            if unpacker.needs_input and not piece:
                break
            taken += len(piece)
            found += len(unpacker.decompress(piece, _PIECE_BYTES))
    finally:
        file.close()
    if not unpacker.eof or found != length:
        raise StreamCorruptError(
            f"{stream.path}: its first member holds {found} bytes, and {length} come before the first row: it was not "
            "written by this package; restore it"
        )
    return taken - len(unpacker.unused_data)


def _shown(begin: bytes) -> str:
    return repr(begin[:200].decode(errors="replace").rstrip())
