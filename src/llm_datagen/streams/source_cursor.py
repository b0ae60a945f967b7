"""What reads a source: a cursor of a stream, of a table, of several streams."""

from __future__ import annotations

from typing import Protocol

from llm_datagen.streams.block import Block
from llm_datagen.streams.storage.base import Place


class Described(Protocol):
    """What messages say of a source."""

    uri: str

    @property
    def path(self) -> str:
        """Where the data lies, for people."""

    @property
    def done_path(self) -> str:
        """Where the seal lies, or would lie, for people."""


class SourceCursor(Protocol):
    """Reads a source, a block at a time. One thread at a time may use it. See `Cursor`."""

    @property
    def stream(self) -> Described:
        """What is read."""

    @property
    def offset(self) -> int:
        """The bytes that were read."""

    @property
    def start(self) -> int:
        """The rows that were read."""

    @property
    def limit(self) -> int:
        """The bytes that are known to be readable."""

    @property
    def knows_end(self) -> bool:
        """Whether `limit` is where the source ends."""

    @property
    def has_more(self) -> bool:
        """Whether there is more that may be read, without a look at what was written since."""

    def estimate(self) -> int | None:
        """Return about how many rows there are; None while nobody knows where the source ends."""

    def extend(self, limit: int, place: Place | None = None) -> None:
        """Take a writer's word that the first `limit` bytes of the stream at `place` are committed."""

    def read(self, rows: int) -> Block | None:
        """Return the next records, `rows` at most; None when there are none now."""

    def ended(self) -> bool:
        """Return whether everything was read, of a source that will not grow."""

    def close(self) -> None:
        """Close the files."""
