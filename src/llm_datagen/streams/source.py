"""A source: what a node reads. A stream is one, and so are several streams that are read as one (see `merged`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from llm_datagen.errors import RowFormatError
from llm_datagen.streams.coverage import START, Begin, Coverage, Segment, Span
from llm_datagen.streams.ids import Id
from llm_datagen.streams.seal import Seal
from llm_datagen.streams.source_cursor import Described, SourceCursor
from llm_datagen.streams.storage.base import Place
from llm_datagen.streams.stream import Stream


class Source(Described, Protocol):
    """What a node reads."""

    @property
    def place(self) -> Place:
        """What the source is, however it is spelled."""

    @property
    def places(self) -> list[Place]:
        """The places of the streams that are read when the source is."""

    def parts(self, coverage: Coverage) -> list[tuple[Stream, Coverage]]:
        """Return the streams that are read, and what `coverage` of the source covers of each."""

    @property
    def begins_at(self) -> Begin:
        """The number and the address of its first row."""

    def gaps(self, done: Coverage) -> list[Segment]:
        """Return what is not done of the source, in order; the last of these segments goes on to its end."""

    def holes(self, done: Coverage) -> int:
        """Return how many rows are not done, and lie before some that are."""

    def read_as_is(self, *, follow: bool) -> list[Stream]:
        """Return those of the streams that are not followed until they are sealed."""

    def size_after(self, done: Coverage) -> int:
        """Return the bytes that the source has, or had where these rows were read."""

    def has_grown(self, done: Coverage, size: int) -> bool:
        """Return whether there is more than these rows, which were all that it had when it had so many bytes."""

    def fingerprint(self, *, follow: bool) -> Any:
        """Return what tells later whether what is read as it is was changed, as plain data; see `Fingerprint`."""

    def check_fingerprint(self, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """Check that what was read is still what it was: of what is read as it is.

        Args:
            known: what `fingerprint` has returned before; None checks nothing.
            done: the rows that are done with.
            follow: whether the source is followed.

        Raises:
            StreamChangedError: when it is not.
        """

    def what_changed(self, known: Any, done: Iterable[Span], *, follow: bool) -> list[str]:
        """Return what is not what it was of what these rows were read of, for people: nothing when all is."""

    def pin(self, known: Any) -> None:
        """Read what a run has noted (`fingerprint`), where that may no longer be what is there now; None: nothing."""

    def read_seal(self) -> Seal | None:
        """Return what the seal says; None when nobody has counted the rows."""

    def cursor(self, segments: Sequence[Segment] = (START,), *, follow: bool = True) -> SourceCursor:
        """Return a cursor over some segments; with `follow`, it goes on until the source is sealed."""

    def unparsed_id(self, number: int) -> Id:
        """Return the id of a record that is no row, by its number."""

    def line_place(self, offset: int) -> str:
        """Return the path and the line of the row that begins at byte `offset`, for messages."""

    def row_error(self, error: ValueError, offset: int) -> RowFormatError:
        """Return the error that says which line cannot be parsed, and why."""


def streams_of(source: Source) -> list[Stream]:
    """Return the streams that are read when a source is."""
    return [stream for stream, _ in source.parts(Coverage())]


def size_of(source: Source) -> int | None:
    """Return the bytes of all streams of a source; None when none of them is there."""
    sizes = [size for stream in streams_of(source) if (size := stream.size()) is not None]
    return sum(sizes) if sizes else None


def has_ended(source: Source, *, follow: bool) -> bool:
    """Return whether a source is at its end: each stream of it is sealed, or not followed, or gone."""
    as_is = {stream.place for stream in source.read_as_is(follow=follow)}
    followed = (stream for stream in streams_of(source) if stream.place not in as_is)
    return all(stream.is_sealed() or stream.size() is None for stream in followed)


def noted_parts(source: Source, known: Any) -> list[tuple[Stream, Any]]:
    """Return the streams that are read when a source is, with what `fingerprint` has noted of each; None: nothing."""
    if isinstance(source, Stream):
        return [(source, known)]
    return [(stream, (known or {}).get(stream.uri)) for stream in streams_of(source)]
