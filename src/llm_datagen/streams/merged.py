"""Several streams, read as one: what a node with several inputs begins with.

Each of them is a *merge input*. The rows of input k have the numbers from ``k * 2**48`` on, and its bytes as well. So
the coverage of a stream that is made of several says of each of them, by itself, which rows are done: commit log, seal,
recovery, dead letters and replay are those of a stream with one source.

A merged stream has no file. It has a URI, which says all: ``merge://named?left=jsonl://a.jsonl&right=csv://b.csv``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, get_args
from urllib.parse import parse_qsl, quote

from llm_datagen.config import DataConfig, check_choice
from llm_datagen.errors import RowFormatError
from llm_datagen.streams.block import Block
from llm_datagen.streams.coverage import INPUT_STRIDE, START, Begin, Coverage, Segment, Span
from llm_datagen.streams.ids import Id
from llm_datagen.streams.merge_inputs import MergeInput, Naming
from llm_datagen.streams.seal import Seal
from llm_datagen.streams.source_cursor import SourceCursor
from llm_datagen.streams.storage.base import Place
from llm_datagen.streams.stream import Stream

PROTOCOL = "merge://"
_STATIC = ".static"
_IDLE_READS = 16
"""An input of which nothing more is known is looked at in every so many reads, while others have rows."""


def inputs_of(uri: str) -> dict[str, str]:
    """Return the URIs of the streams that are read when the one of this URI is, by their names; its own has none.

    Their protocols need not be known here.
    """
    if not uri.startswith(PROTOCOL):
        return {"": uri}
    return {name.removesuffix(_STATIC): uri for name, uri in parse_qsl(uri.partition("?")[2])}


class MergedStream:
    """Several streams, read as one. It cannot be written.

    Args:
        uri: its URI; see `uri_of`.
        create: makes a stream of a URI.

    Attributes:
        naming: how rows are named.
        inputs: the streams.
    """

    def __init__(self, uri: str, create: Callable[[str], Stream]) -> None:
        self.uri = uri
        naming, _, query = uri.removeprefix(PROTOCOL).partition("?")
        self.naming: Naming = check_choice(uri, naming, Naming)
        named = parse_qsl(query, strict_parsing=True)
        self.inputs = tuple(
            MergeInput(name.removesuffix(_STATIC), number, create(source), name.endswith(_STATIC), self.naming)
            for number, (name, source) in enumerate(named)
        )

    def __repr__(self) -> str:
        return f"MergedStream({self.uri!r})"

    @staticmethod
    def uri_of(naming: Naming, inputs: Mapping[str, str], static: Sequence[str] = ()) -> str:
        """Return the URI of several streams, by their names; those in `static` are read as they are."""
        assert naming in get_args(Naming)
        parts = (f"{name}{_STATIC * (name in static)}={quote(uri, safe='/:')}" for name, uri in inputs.items())
        return f"{PROTOCOL}{naming}?{'&'.join(parts)}"

    def with_data(self, data: DataConfig) -> MergedStream:
        """Return the streams as they are read by other settings than the defaults."""
        merged = copy(self)
        merged.inputs = tuple(
            replace(merge_input, stream=merge_input.stream.with_data(data)) for merge_input in self.inputs
        )
        return merged

    def with_source(self, column: str | None) -> MergedStream:
        """Return the streams, read with a column that says where each row comes from."""
        merged = copy(self)
        merged.inputs = tuple(
            replace(merge_input, stream=merge_input.stream.with_source(column)) for merge_input in self.inputs
        )
        return merged

    @property
    def path(self) -> str:
        """Where the inputs lie, for people."""
        return " and ".join(merge_input.stream.path for merge_input in self.inputs)

    @property
    def done_path(self) -> str:
        """Where the seals lie that are not there, for people."""
        return " or ".join(
            merge_input.stream.done_path for merge_input in self.inputs if not merge_input.stream.is_sealed()
        )

    @property
    def place(self) -> Place:
        """What it is."""
        return "merge", self.uri

    @property
    def places(self) -> list[Place]:
        """What the inputs are."""
        return [merge_input.stream.place for merge_input in self.inputs]

    def parts(self, coverage: Coverage) -> list[tuple[Stream, Coverage]]:
        """Return the inputs, and what is covered of each."""
        return [(merge_input.stream, merge_input.rows_of(coverage)) for merge_input in self.inputs]

    begins_at: Begin = START[:2]
    """The number and the address of its first row."""

    def gaps(self, done: Coverage) -> list[Segment]:
        """Return what is not done of the inputs, by their numbers."""
        return done.gaps()

    def holes(self, done: Coverage) -> int:
        """Return how many rows of the inputs are not done, and lie before some that are."""
        return sum(stream.holes(of_input) for stream, of_input in self.parts(done))

    def read_as_is(self, *, follow: bool) -> list[Stream]:
        """Return the inputs that are not followed."""
        return [merge_input.stream for merge_input in self.inputs if not follow or merge_input.is_static]

    def size_after(self, done: Coverage) -> int:
        """Return the bytes of all inputs: one may have grown while another one was shortened."""
        return sum(stream.size_after(of_input) for stream, of_input in self.parts(done))

    def has_grown(self, done: Coverage, size: int) -> bool:
        """Return whether an input has more than these rows, which were all when the inputs had so many bytes."""
        parts = self.parts(done)
        return self.size_after(done) > size or any(one.has_grown(rows, one.size_after(rows)) for one, rows in parts)

    def fingerprint(self, *, follow: bool) -> dict[str, Any]:
        """Return the fingerprints of the inputs that are read as they are, by their URIs."""
        return {stream.uri: stream.fingerprint(follow=False) for stream in self.read_as_is(follow=follow)}

    def check_fingerprint(self, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """Check that what was read of the inputs that are read as they are is still what it was.

        Raises:
            StreamChangedError: when it is not.
        """
        static = {stream.place for stream in self.read_as_is(follow=follow)}
        for stream, coverage in self.parts(Coverage(done)):
            if stream.place in static:
                stream.check_fingerprint((known or {}).get(stream.uri), coverage, follow=False)

    def what_changed(self, known: Any, done: Iterable[Span], *, follow: bool) -> list[str]:
        """Return what is not what it was of the inputs that are read as they are, for people."""
        static = {stream.place for stream in self.read_as_is(follow=follow)}
        return [
            text
            for stream, coverage in self.parts(Coverage(done))
            if stream.place in static
            for text in stream.what_changed((known or {}).get(stream.uri), coverage, follow=False)
        ]

    def pin(self, known: Any) -> None:
        """Read what a run has noted of the inputs."""
        for merge_input in self.inputs:
            merge_input.stream.pin((known or {}).get(merge_input.stream.uri))

    def read_seal(self) -> Seal | None:
        """Return the sums of the inputs' seals; None when one is missing, or its rows were never counted."""
        seals = [merge_input.stream.read_seal() for merge_input in self.inputs]
        known = [seal for seal in seals if seal is not None and seal.rows is not None and seal.complete]
        if len(known) < len(seals):
            return None
        size, rows = sum(seal.size for seal in known), sum(seal.rows or 0 for seal in known)
        return Seal(size=size, rows=rows, complete=True)

    def cursor(self, segments: Sequence[Segment] = (START,), *, follow: bool = True) -> MergedCursor:
        """Return a cursor over some segments of all inputs.

        With `follow` False, an input that is followed and not there yet has no rows.
        """
        return MergedCursor(self, segments, follow=follow)

    def unparsed_id(self, number: int) -> Id:
        """Return the id that a record would have that is no row."""
        return self.inputs[number // INPUT_STRIDE].named(number % INPUT_STRIDE)

    def line_place(self, offset: int) -> str:
        """Return the path of an input, and the line of the row that begins there."""
        return self.inputs[offset // INPUT_STRIDE].stream.line_place(offset % INPUT_STRIDE)

    def row_error(self, error: ValueError, offset: int) -> RowFormatError:
        """Return the error that says which line of which input cannot be parsed, and why."""
        return self.inputs[offset // INPUT_STRIDE].stream.row_error(error, offset % INPUT_STRIDE)


class MergedCursor:
    """Reads inputs in turn, a block of one, a block of the next; one that has nothing holds up no other.

    Args:
        stream: the inputs.
        segments: what to read of them.
        follow: False takes what may be read now as all there is.
    """

    def __init__(self, stream: MergedStream, segments: Sequence[Segment], *, follow: bool) -> None:
        self.stream = stream
        self._turns: list[tuple[MergeInput, SourceCursor]] = []
        for merge_input in stream.inputs:
            is_to_come = not follow and not merge_input.is_static and not merge_input.stream.exists()
            left = [] if is_to_come else merge_input.segments_of(segments)
            self._turns.append(
                (merge_input, merge_input.stream.cursor(left, follow=follow and not merge_input.is_static))
            )
        self._reads = 0

    def _cursors(self) -> Iterator[SourceCursor]:
        return (cursor for _, cursor in self._turns)

    @property
    def offset(self) -> int:
        """The bytes up to which the inputs were read, added up."""
        return sum(cursor.offset for cursor in self._cursors())

    @property
    def start(self) -> int:
        """The rows up to which the inputs were read, added up."""
        return sum(cursor.start for cursor in self._cursors())

    @property
    def limit(self) -> int:
        """The bytes that are known to be readable."""
        return sum(cursor.limit for cursor in self._cursors())

    @property
    def knows_end(self) -> bool:
        """Whether `limit` is where all inputs end."""
        return all(cursor.knows_end for cursor in self._cursors())

    @property
    def has_more(self) -> bool:
        """Whether an input has more that may be read, without a look at what was written since."""
        return any(cursor.has_more for cursor in self._cursors())

    def estimate(self) -> int | None:
        """Return about how many rows the inputs have; None while nobody knows where all of them end."""
        found = [cursor.estimate() for cursor in self._cursors()]
        known = [rows for rows in found if rows is not None]
        return sum(known) if len(known) == len(found) else None

    def extend(self, limit: int, place: Place | None = None) -> None:
        """Take a writer's word that the first `limit` bytes of the input that is `place` are committed."""
        for merge_input, cursor in self._turns:
            if merge_input.stream.place == place:
                cursor.extend(limit)

    def read(self, rows: int) -> Block | None:
        """Return the next rows of an input that has some, `rows` at most; None when there are none now."""
        self._reads += 1
        is_due = self._reads % _IDLE_READS == 0  # to look at an input may take reads of its files
        first = [turn for turn in self._turns if is_due or turn[1].has_more or not turn[1].limit]
        for turn in [*first, *(turn for turn in self._turns if turn not in first)]:
            block = turn[1].read(rows)
            if block is not None:
                self._turns.remove(turn)
                self._turns.append(turn)
                return turn[0].shifted(block)
        return None

    def ended(self) -> bool:
        """Return whether everything was read, of inputs that will not grow."""
        return all(cursor.ended() for cursor in self._cursors())

    def close(self) -> None:
        """Close the files."""
        for cursor in self._cursors():
            cursor.close()
