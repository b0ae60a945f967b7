"""Files that grow, in a store whose objects cannot: pieces, put one behind the other.

Beside the key ``out.jsonl`` lie, while the file is being written,

* ``out.jsonl.parts/<offset, 20 digits>-<writer>``: pieces. Each is put once, and never changed.
* ``out.jsonl.parts/head``: who wrote what, as JSON: ``{"format": 1, "writers": [["", 0], ["5f3a…", 4096]]}``. The bytes
  from 4096 on are the pieces of that writer; those before it are in the object at the key itself (the writer ``""``).

A writer adds itself to the head before its first piece, at the byte where it goes on, by a put that fails when the
head is not what the writer has read. So what a writer puts that was left behind is in nobody's way: its pieces lie
where the head says that another one writes. A piece counts if and only if it begins where the one before it ends, and
is of the writer that the head names for its first byte.

A file without a head is the object at its key. So is one whose head names only the writer ``""``. Seals and commit logs
are put whole, always, so nobody looks for their heads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import NamedTuple

from llm_datagen.errors import StreamCorruptError
from llm_datagen.streams.storage.bucket import Bucket, Version

FORMAT = 1
WHOLE = ""
"""The writer of what is in the object at the key."""


COMMITS = ".commits"
"""What the keys of commit logs end with."""

PUT_WHOLE = (".done", COMMITS)
"""What the keys of files end with that are never appended to."""


def folder_of(key: str) -> str:
    """Return what the keys of a file's pieces, and of its head, begin with."""
    return f"{key}.parts"


def head_of(key: str) -> str:
    """Return the key of a file's head."""
    return f"{folder_of(key)}/head"


def piece_of(key: str, offset: int, writer: str) -> str:
    """Return the key of a piece."""
    return f"{folder_of(key)}/{offset:020}-{writer}"


class Turn(NamedTuple):
    """A writer's turn: the first byte that is its own."""

    writer: str
    offset: int


@dataclass(frozen=True, slots=True)
class Head:
    """Who wrote what of a file.

    Attributes:
        turns: the writers, in the order of their bytes.
        version: that of the object it was read from.
    """

    turns: tuple[Turn, ...]
    version: Version

    @classmethod
    def read(cls, bucket: Bucket, key: str) -> Head | None:
        """Return the head of a file; None when there is none.

        Raises:
            StreamCorruptError: when it cannot be read.
        """
        found = None if key.endswith(PUT_WHOLE) else bucket.get(head_of(key))
        if found is None:
            return None
        data, version = found
        try:
            value = json.loads(data)
            if value["format"] != FORMAT:
                raise ValueError(f"format {value['format']} is not {FORMAT}")
            return cls(tuple(Turn(str(writer), int(offset)) for writer, offset in value["writers"]), version)
        except (ValueError, KeyError, TypeError) as error:
            raise StreamCorruptError(
                f"{bucket.name}/{head_of(key)} does not say which pieces are those of the stream ({error}); restore "
                "it, or start afresh with if_exists='overwrite'"
            ) from error

    @property
    def is_whole(self) -> bool:
        """Whether the file is the object at the key."""
        return [turn.writer for turn in self.turns] == [WHOLE]

    def with_turn(self, writer: str, offset: int) -> tuple[Turn, ...]:
        """Return the turns with another one, which goes on at `offset`."""
        return (*(turn for turn in self.turns if turn.offset < offset), Turn(writer, offset))

    def turn_at(self, offset: int) -> tuple[str, int | None]:
        """Return whose byte this is, and where the next turn begins."""
        writer, end = "", None
        for turn in self.turns:
            if turn.offset > offset:
                end = turn.offset
                break
            writer = turn.writer
        return writer, end


def dump_turns(turns: tuple[Turn, ...]) -> bytes:
    """Return the text of a head."""
    return json.dumps({"format": FORMAT, "writers": turns}).encode()


class Piece(NamedTuple):
    """Bytes of a file, and the object that begins with them.

    Attributes:
        begin: the first byte, in the file.
        end: the byte after the last one, in the file.
        key: the object.
    """

    begin: int
    end: int
    key: str


@dataclass
class Chain:
    """The pieces of a file that count, as far as they were found. One thread at a time may use it."""

    bucket: Bucket
    key: str
    head: Head
    pieces: list[Piece] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The bytes of the file."""
        return self.pieces[-1].end if self.pieces else 0

    def grow(self) -> None:
        """Look for pieces that were put since. Those that were found stay: no piece is ever changed."""
        if not self.pieces and self.head.turns and self.head.turns[0].writer == WHOLE:
            self._begin_with_object()
        last = self.pieces[-1].key if self.pieces and self.pieces[-1].key != self.key else None
        prefix = f"{folder_of(self.key)}/"
        for key, found in self.bucket.list(folder_of(self.key), last):
            offset, _, writer = key.removeprefix(prefix).partition("-")
            if offset.isdecimal() and int(offset) == self.end and found.size:
                wanted, end = self.head.turn_at(self.end)
                if writer == wanted:
                    self.pieces.append(Piece(self.end, min(self.end + found.size, end or self.end + found.size), key))

    def _begin_with_object(self) -> None:
        found = self.bucket.find(self.key)
        if found is not None and found.size:
            end = self.head.turns[1].offset if len(self.head.turns) > 1 else found.size
            self.pieces.append(Piece(0, min(found.size, end), self.key))
