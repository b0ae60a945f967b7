"""Several streams, read as one: what a node with several inputs begins with.

Each of them is a *lane*. The rows of lane k have the numbers from ``k * 2**48`` on, and so have their bytes. So the
coverage of a stream that is made of several says of each of them, by itself, which rows are done: commit log, seal,
recovery, dead letters and replay are those of a stream with one source.

A merged stream has no file. It has a URI, which says all: ``merge://named?left=jsonl://a.jsonl&right=csv://b.csv``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import get_args
from urllib.parse import parse_qsl, quote

from llm_datagen.config import DataConfig, check_choice
from llm_datagen.errors import RowFormatError
from llm_datagen.streams.block import Block
from llm_datagen.streams.coverage import LANE, START, Coverage, Segment
from llm_datagen.streams.cursor import Cursor
from llm_datagen.streams.ids import Id
from llm_datagen.streams.merge_inputs import MergeInput, Naming
from llm_datagen.streams.seal import Seal
from llm_datagen.streams.storage.base import Place
from llm_datagen.streams.storage.memory import MemoryStorage
from llm_datagen.streams.stream import Stream

PROTOCOL = "merge://"
_STATIC = ".static"
_IDLE_READS = 16
"""A lane of which nothing more is known is looked at in every so many reads, while others have rows."""


def inputs_of(uri: str) -> dict[str, str]:
    """Return the URIs of the streams that are read when the one of this URI is, by their names; its own has none.

    Their protocols need not be known here.
    """
    if not uri.startswith(PROTOCOL):
        return {"": uri}
    return {name.removesuffix(_STATIC): lane for name, lane in parse_qsl(uri.partition("?")[2])}


class MergedStream(Stream):
    """Several streams, read as one. It cannot be written.

    Args:
        uri: its URI; see `uri_of`.
        create: makes a stream of a URI.

    Attributes:
        naming: how rows are named.
        lanes: the streams.
    """

    def __init__(self, uri: str, create: Callable[[str], Stream]) -> None:
        super().__init__(uri)
        naming, _, query = uri.removeprefix(PROTOCOL).partition("?")
        self.naming: Naming = check_choice(uri, naming, Naming)
        named = parse_qsl(query, strict_parsing=True)
        self.lanes = tuple(
            MergeInput(name.removesuffix(_STATIC), number, create(lane), name.endswith(_STATIC), self.naming)
            for number, (name, lane) in enumerate(named)
        )
        streams = [lane.stream for lane in self.lanes]
        in_memory = [stream for stream in streams if isinstance(stream.storage, MemoryStorage)]
        self.storage, self.codec = (
            (*in_memory, *streams)[0].storage,
            streams[0].codec,
        )  # what goes with its process decides

    @staticmethod
    def uri_of(naming: Naming, lanes: Mapping[str, str], static: Sequence[str] = ()) -> str:
        """Return the URI of several streams, by their names; those in `static` are read as they are."""
        assert naming in get_args(Naming)
        parts = (f"{name}{_STATIC * (name in static)}={quote(uri, safe='/:')}" for name, uri in lanes.items())
        return f"{PROTOCOL}{naming}?{'&'.join(parts)}"

    def with_data(self, data: DataConfig) -> MergedStream:
        """Return the streams as they are read by other settings than the defaults."""
        merged = copy(self)
        merged.lanes = tuple(replace(lane, stream=lane.stream.with_data(data)) for lane in self.lanes)
        return merged

    @property
    def path(self) -> str:
        """Where the lanes lie, for people."""
        return " and ".join(lane.stream.path for lane in self.lanes)

    def anchor(self) -> None:
        """Make the paths of the lanes absolute."""
        for lane in self.lanes:
            lane.stream.anchor()

    @property
    def done_path(self) -> str:
        """Where the seals lie that are not there, for people."""
        return " or ".join(lane.stream.done_path for lane in self.lanes if not lane.stream.is_sealed())

    @property
    def place(self) -> Place:
        """What it is."""
        return "merge", self.uri

    @property
    def places(self) -> list[Place]:
        """What the lanes are."""
        return [lane.stream.place for lane in self.lanes]

    def parts(self, coverage: Coverage) -> list[tuple[Stream, Coverage]]:
        """Return the lanes, and what is covered of each."""
        return [(lane.stream, lane.rows_of(coverage)) for lane in self.lanes]

    def read_as_is(self, *, follow: bool) -> list[Stream]:
        """Return the lanes that are not followed."""
        return [lane.stream for lane in self.lanes if not follow or lane.is_static]

    def has_ended(self, *, follow: bool) -> bool:
        """Return whether no lane goes on. One that is gone does not."""
        followed = [lane.stream for lane in self.lanes if follow and not lane.is_static]
        return all(stream.is_sealed() or stream.size() is None for stream in followed)

    def exists(self) -> bool:
        """Return whether there is anything of every lane."""
        return all(lane.stream.exists() for lane in self.lanes)

    def size(self) -> int | None:
        """Return the bytes of all lanes; None when there is none of them."""
        sizes = [size for lane in self.lanes if (size := lane.stream.size()) is not None]
        return sum(sizes) if sizes else None

    def is_sealed(self) -> bool:
        """Return whether all lanes are."""
        return all(lane.stream.is_sealed() for lane in self.lanes)

    def manifest(self) -> Seal | None:
        """Return the sums of the lanes' seals; None when one is missing, or its rows were never counted."""
        seals = [lane.stream.manifest() for lane in self.lanes]
        known = [seal for seal in seals if seal is not None and seal.rows is not None and seal.complete]
        if len(known) < len(seals):
            return None
        size, rows = sum(seal.size for seal in known), sum(seal.rows or 0 for seal in known)
        return Seal(size=size, rows=rows, complete=True)

    def cursor(self, segments: Sequence[Segment] = (START,), *, follow: bool = True) -> Cursor:
        """Return a cursor over some segments of all lanes.

        With `follow` False, a lane that is followed and not there yet has no rows.
        """
        return MergedCursor(self, segments, follow=follow)

    def unparsed_id(self, number: int) -> Id:
        """Return the id that a record would have that is no row."""
        return self.lanes[number // LANE].named(number % LANE)

    def line_place(self, offset: int) -> str:
        """Return the path of a lane, and the line of the row that begins there."""
        return self.lanes[offset // LANE].stream.line_place(offset % LANE)

    def row_error(self, error: ValueError, offset: int) -> RowFormatError:
        """Return the error that says which line of which lane cannot be parsed, and why."""
        return self.lanes[offset // LANE].stream.row_error(error, offset % LANE)


class MergedCursor(Cursor):
    """Reads lanes in turn, a block of one, a block of the next; one that has nothing holds up no other.

    Args:
        stream: the lanes.
        segments: what to read of them.
        follow: False takes what may be read now as all there is.
    """

    def __init__(self, stream: MergedStream, segments: Sequence[Segment], *, follow: bool) -> None:
        super().__init__(stream, segments, follow=follow)
        self._turns: list[tuple[MergeInput, Cursor]] = []
        for lane in stream.lanes:
            is_to_come = not follow and not lane.is_static and not lane.stream.exists()
            left = [] if is_to_come else lane.segments_of(segments)
            self._turns.append((lane, lane.stream.cursor(left, follow=follow and not lane.is_static)))
        self._reads = 0

    def _cursors(self) -> Iterator[Cursor]:
        return (cursor for _, cursor in self._turns)

    @property
    def offset(self) -> int:
        """The bytes up to which the lanes were read, added up."""
        return sum(cursor.offset for cursor in self._cursors())

    @property
    def start(self) -> int:
        """The rows up to which the lanes were read, added up."""
        return sum(cursor.start for cursor in self._cursors())

    @property
    def limit(self) -> int:
        """The bytes that are known to be readable."""
        return sum(cursor.limit for cursor in self._cursors())

    @property
    def knows_end(self) -> bool:
        """Whether `limit` is where all lanes end."""
        return all(cursor.knows_end for cursor in self._cursors())

    def extend(self, limit: int, place: Place | None = None) -> None:
        """Take a writer's word that the first `limit` bytes of the lane that is `place` are committed."""
        for lane, cursor in self._turns:
            if lane.stream.place == place:
                cursor.extend(limit)

    def read(self, rows: int) -> Block | None:
        """Return the next rows of a lane that has some, `rows` at most; None when there are none now."""
        self._reads += 1
        is_due = self._reads % _IDLE_READS == 0  # to look at a lane may take reads of its files
        first = [turn for turn in self._turns if is_due or turn[1].has_more or not turn[1].limit]
        for turn in [*first, *(turn for turn in self._turns if turn not in first)]:
            block = turn[1].read(rows)
            if block is not None:
                self._turns.remove(turn)
                self._turns.append(turn)
                return turn[0].shifted(block)
        return None

    def ended(self) -> bool:
        """Return whether everything was read, of lanes that will not grow."""
        return all(cursor.ended() for cursor in self._cursors())

    def close(self) -> None:
        """Close the files."""
        for cursor in self._cursors():
            cursor.close()
