"""A file, or files, whose rows are read again and again: ``cycle://seeds.jsonl?times=3``.

Row k is row ``k % rows`` of the file, in round ``k // rows``. The rows are counted once, when the run begins.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

from llm_datagen.config import DataConfig
from llm_datagen.errors import ConfigError, StreamChangedError, StreamError, StreamMissingError
from llm_datagen.streams.block import OwnRecord, decode_own
from llm_datagen.streams.coverage import Span
from llm_datagen.streams.fingerprint import check_kind
from llm_datagen.streams.formats.base import Decoder
from llm_datagen.streams.ids import ID_FIELD
from llm_datagen.streams.inputs.computed import ComputedStream
from llm_datagen.streams.inputs.generated import check_count
from llm_datagen.streams.inputs.table_cursor import ENDLESS
from llm_datagen.streams.scan import blocks_of
from llm_datagen.streams.source_column import Origin, name_of
from llm_datagen.streams.source_cursor import SourceCursor
from llm_datagen.streams.stream import Stream

_URI = re.compile(r"cycle://(?P<base>.+?)(?P<bounds>(?:[?&](?:times|n)=[^?&]*)*)", re.DOTALL)


@dataclass(frozen=True)
class Cycle:
    """An input that is another one, read again and again.

    Args:
        uri: the input: a file, a pattern or a folder, of any format.
        times: how often it is read; None: without end, so something else ends the run (a target, a budget).
        n: how many rows there are in all, at most.

    Raises:
        ConfigError: when a bound is none.
    """

    uri: str
    times: int | None = None
    n: int | None = None

    def __post_init__(self) -> None:
        check_count("times", self.times)
        check_count("n", self.n)
        if not isinstance(self.uri, str) or not self.uri:
            raise ConfigError(f"Cycle needs the URI of an input, not {self.uri!r}")
        if _parts_of(f"cycle://{self.uri}")[1]:
            raise ConfigError(
                f"{self.uri} would be read as a file with bounds (times=, n=); give the file another name"
            )

    @property
    def as_uri(self) -> str:
        """The URI to read it by."""
        bounds = [f"{name}={value}" for name, value in (("times", self.times), ("n", self.n)) if value is not None]
        return f"cycle://{self.uri}" + (f"?{'&'.join(bounds)}" if bounds else "")

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Return what a URI says.

        Raises:
            ConfigError: when a bound is no number, or given twice.
        """
        base, given = _parts_of(uri)
        bounds: dict[str, int] = {}
        for name, value in given:
            if not value.isdecimal():
                raise ConfigError(f"{uri}: {name} must be a whole number, not {value!r}")
            if name in bounds:
                raise ConfigError(f"{uri}: {name} is given twice")
            bounds[name] = int(value)
        return cls(base, **bounds)


class CycledStream(ComputedStream):
    """An input that is read again and again.

    Args:
        uri: its URI; see `Cycle`.
        create: makes what is read, of its URI.
    """

    def __init__(self, uri: str, create: Callable[[str], Any]) -> None:
        self._spec = Cycle.parse(uri)
        base = create(self._spec.uri)
        if not isinstance(base, Stream) or isinstance(base, ComputedStream):
            raise ConfigError(f"{uri}: {self._spec.uri} cannot be read again and again; give a file, or files")
        super().__init__(uri, base)
        self._counted: tuple[int, int] | None = None

    def with_data(self, data: DataConfig) -> Self:
        """Return the input as it is read by other settings than the defaults."""
        changed = copy(self)
        changed.base = self.base.with_data(data)
        changed._counted = None  # by other settings, a file may have other rows
        return changed

    @property
    def row_decoder(self) -> Decoder | None:
        """Each record knows how it is decoded: those of several files may differ."""
        return decode_own

    @property
    def bounds(self) -> dict[str, int | None]:
        """How often the file is read, and how many rows there are at most."""
        return {"times": self._spec.times, "n": self._spec.n}

    def take_bounds(self, bounds: Mapping[str, int | None]) -> None:
        """Read as if the URI said these bounds."""
        self._spec = Cycle(self._spec.uri, **bounds)

    @property
    def is_endless(self) -> bool:
        """Whether it has no last row. The file is not looked at."""
        return self._spec.times is None and self._spec.n is None

    def total(self) -> int:
        """Return how many rows there are, of all rounds."""
        rows = ENDLESS if self._spec.times is None else self.rounds_of() * self._spec.times
        return rows if self._spec.n is None else min(rows, self._spec.n)

    def rounds_of(self) -> int:
        """Return how many rows a round has.

        Raises:
            StreamError: when it has none, or the file is not there.
        """
        return self._count()[0]

    def open_table(self) -> _Rounds:
        """Return the rows."""
        return _Rounds(self.base, self.rounds_of(), self.total())

    def pin(self, known: Any) -> None:
        """Take the number of rows that a run has counted."""
        if known is not None:
            self._counted = (known["rows"], known["crc"])

    def origin(self, offset: int) -> Origin:
        """Return the file, with the round that the row at `offset` is of."""
        rows = self.rounds_of()
        return Origin(name_of(self.shown), offset - offset % rows, offset // rows)

    def fingerprint(self, *, follow: bool) -> Any:
        """Return the number of rows, and their checksum. The file is read once."""
        self._counted = None
        rows, crc = self._count()
        return {"rows": rows, "crc": crc}

    def check_fingerprint(self, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """Check that the rows are what they were, if some were read. The file is read once.

        Raises:
            StreamChangedError: when they are not.
        """
        done = list(done)
        if known is None or not any(done):
            return
        check_kind(self.path, known, "rows", "crc")
        if self.fingerprint(follow=follow) != known:
            self._check_rows(known["rows"])
            raise self._changed("was edited")
        super().check_spec(known, done)

    def check_spec(self, known: Any, done: Iterable[Span]) -> None:
        """Check that the file has as many rows as it had, and that the bounds leave all that are done."""
        done = list(done)
        if known is not None and any(done):
            check_kind(self.path, known, "rows", "crc")
            self._counted = None
            self._check_rows(known["rows"])
        super().check_spec(known, done)

    def _check_rows(self, known: int) -> None:
        if self.rounds_of() != known:
            raise self._changed(f"has {self.rounds_of()} rows, and had {known}")

    def _changed(self, what: str) -> StreamChangedError:
        return StreamChangedError(
            f"{self.path} {what}: it is read in rounds, so it must stay as it was when the run began; restore it, or "
            "start afresh with if_exists='overwrite'"
        )

    def first_named(self) -> int | None:
        """Return the number of the first row that has an `_i`."""
        cursor = self.base.open_cursor(follow=False)
        try:
            for block in blocks_of(cursor):
                for number, record in enumerate(block.records, block.start):
                    if _has_id(block.decode, record):
                        return number
        finally:
            cursor.close()
        return None

    def line_place(self, offset: int) -> str:
        """Return the path, the number of the row and its round, both from 0, for messages."""
        round_number, row = divmod(offset, self.rounds_of())
        return f"{self.shown}, row {row} in round {round_number}"

    def _count(self) -> tuple[int, int]:
        if self._counted is None:
            if not self.is_there():
                raise StreamMissingError(f"{self.path} does not exist; check the path of the input")
            rows = crc = 0
            cursor = self.base.open_cursor(follow=False)
            try:
                for block in blocks_of(cursor):
                    rows += len(block.records)
                    for record in block.records:
                        crc = zlib.crc32(b"\n", zlib.crc32(bytes(record), crc))
            finally:
                cursor.close()
            if not rows:
                raise StreamError(f"{self.path} has no rows, so there is nothing to read again and again")
            self._counted = (rows, crc)
        return self._counted


class _Rounds:
    """The rows of all rounds, as a `Table`. A batch is of one round."""

    has_long_numbers = False

    def __init__(self, base: Stream, of_round: int, rows: int) -> None:
        self._base = base
        self._of_round = of_round
        self._cursor: SourceCursor | None = None
        self.rows = rows

    def batches(self, start: int) -> Iterator[list[Any]]:
        passed = start % self._of_round
        while True:
            self.close()
            cursor = self._cursor = self._base.open_cursor(follow=False)
            for block in blocks_of(cursor):
                if block.end > self._of_round:
                    break
                if block.end > passed:
                    records = block.records[max(0, passed - block.start) :]
                    yield [OwnRecord.of(record, block.decode) for record in records]
            if cursor.start != self._of_round:
                raise StreamChangedError(
                    f"{self._base.path} had {self._of_round} rows when the run began, and has others now: it is "
                    "read in rounds, so it must stay as it was"
                )
            passed = 0

    def close(self) -> None:
        """Close the file."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None


def _has_id(decode: Decoder, record: bytes) -> bool:
    try:
        row = decode(record)
    except ValueError:  # it fails when it is its turn
        return False
    return isinstance(row, dict) and ID_FIELD in row


def _parts_of(uri: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the URI of what is read, and the bounds with their values."""
    found = _URI.fullmatch(uri)
    assert found is not None
    bounds = (part.partition("=") for part in re.split("[?&]", found["bounds"])[1:])
    return found["base"], [(name, value) for name, _, value in bounds]
