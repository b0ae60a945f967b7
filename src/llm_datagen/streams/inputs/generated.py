"""Rows that are made by chance from lists of values: ``generate://spec.json``.

The file says what rows are made of: ``{"rows": {"topic": ["birds", "trees"], "level": 1}, "n": 1000, "seed": 0}``.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from llm_datagen.errors import ConfigError, StreamChangedError, StreamError
from llm_datagen.errors.advice import did_you_mean
from llm_datagen.streams.chance import number_of
from llm_datagen.streams.coverage import Span
from llm_datagen.streams.fingerprint import check_kind
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.ids import DATA_FIELD, ID_FIELD
from llm_datagen.streams.inputs.computed import ComputedStream
from llm_datagen.streams.inputs.table_cursor import ENDLESS
from llm_datagen.streams.inputs.whole_file import check_fingerprint_of
from llm_datagen.streams.stream import Stream

_AT_ONCE = 512


@dataclass(frozen=True)
class Generate:
    """An input whose rows are made by chance. Row k is the same in every run: it follows from the seed and from k.

    Args:
        rows: columns with their values: of a list, each row has one element, drawn evenly, and columns are drawn
            independently; anything else is the same in each row. Or a list of rows, of which one is drawn each time.
        n: how many rows there are; None: they have no end, so something else ends the run (a target, a budget).
        seed: another one makes other rows.

    Raises:
        ConfigError: when that cannot be rows.
    """

    rows: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    n: int | None = None
    seed: int | str = 0

    def __post_init__(self) -> None:
        check_count("n", self.n)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int | str):
            raise ConfigError(f"seed must be a whole number or text, not {self.seed!r}")
        if isinstance(self.rows, Mapping):
            _check_row(self.rows)
            for column, values in self.rows.items():
                if isinstance(values, list | tuple) and not values:
                    raise ConfigError(f"column {column!r} has an empty list: there is nothing to draw from")
        elif isinstance(self.rows, Sequence) and not isinstance(self.rows, str | bytes) and self.rows:
            for row in self.rows:
                _check_row(row)
        else:
            raise ConfigError(
                f"rows must be {{column: list of values, …}} or a list of rows, not {type(self.rows).__name__}"
            )

    def row(self, number: int) -> dict[str, Any]:
        """Return the row of a number, without its id."""
        if not isinstance(self.rows, Mapping):
            return dict(self.rows[number_of("generate", self.seed, number) % len(self.rows)])
        return {
            column: values[number_of("generate", self.seed, column, number) % len(values)]
            if isinstance(values, list | tuple)
            else values
            for column, values in self.rows.items()
        }

    def parts(self) -> dict[str, int]:
        """Return checksums of what a row depends on, besides its number, by name: so not of `n`."""
        columns = (
            {f"column {name!r}": each for name, each in self.rows.items()} if isinstance(self.rows, Mapping) else {}
        )
        parts = {**(columns or {"rows": self.rows}), "seed": self.seed}
        return {name: zlib.crc32(dumps(part)) for name, part in parts.items()}

    def dump(self) -> bytes:
        """Return it as the JSON text of a file."""
        return dumps({"rows": self.rows, "n": self.n, "seed": self.seed})

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write it to a file, and return the URI to read it by, for nodes that are wired by hand."""
        Path(path).write_bytes(self.dump())
        return f"generate://{os.fspath(path)}"

    @classmethod
    def parse(cls, data: bytes, path: str) -> Self:
        """Return what a file says.

        Raises:
            StreamError: when it says nothing of the kind.
        """
        try:
            found = loads_exactly(data)
            if not isinstance(found, dict) or "rows" not in found:
                raise ConfigError('it must be {"rows": …, "n": …, "seed": …}')
            return cls(**only(found, ("rows", "n", "seed")))
        except (ValueError, TypeError, ConfigError) as error:
            raise StreamError(f"{path} does not say what rows to generate: {error}") from error


class GeneratedStream(ComputedStream):
    """Rows that are made by chance, by what a file says.

    Args:
        uri: its URI.
        create: makes the stream of the file, of its URI.
    """

    def __init__(self, uri: str, create: Callable[[str], Stream]) -> None:
        super().__init__(uri, create(uri.partition("://")[2]))
        self._spec: Generate | None = None
        self._bounds: Mapping[str, Any] = {}

    def spec(self) -> Generate:
        """Return what the file says.

        Raises:
            StreamError: when it says nothing of the kind, or is not there.
        """
        if self._spec is None:
            data = self.storage.read_all(self.path)
            if data is None:
                raise StreamError(f"{self.path} does not exist; it is to say what rows to generate")
            self._spec = replace(Generate.parse(data, self.path), **self._bounds)
        return self._spec

    @property
    def bounds(self) -> dict[str, int | None]:
        """How many rows there are."""
        return {"n": self.spec().n}

    def take_bounds(self, bounds: Mapping[str, int | None]) -> None:
        """Read as if the file said these bounds."""
        self._bounds, self._spec = dict(bounds), None

    def total(self) -> int:
        """Return how many rows there are."""
        n = self.spec().n
        return ENDLESS if n is None else n

    def open_table(self) -> _Rows:
        """Return the rows."""
        return _Rows(self.spec(), self.total())

    def check_source(self) -> None:
        """Check that the file says what rows are made of.

        Raises:
            StreamError: when it does not.
        """
        if self.is_there():
            self.spec()

    def fingerprint(self, *, follow: bool) -> Any:
        """Return checksums of what the file says, but for how many rows there are; None when it is not there."""
        return {"generate": self.spec().parts()} if self.is_there() else None

    def check_fingerprint(self, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """Check that the file says what it said of the rows that were made."""
        self.check_spec(known, done)

    def check_spec(self, known: Any, done: Iterable[Span]) -> None:
        """Check that the file says what it said, and has all rows that were made; see `ComputedStream`."""
        done = list(done)
        if known is None or not any(done):
            return
        if isinstance(known, list):  # of an earlier version: of the bytes of the file
            check_fingerprint_of(self, known)
        else:
            check_kind(self.path, known, "generate")
            refuse_edited(self.shown, known["generate"], self.spec().parts())
        super().check_spec(known, done)


class _Rows:
    """The rows, as a `Table`."""

    has_long_numbers = True

    def __init__(self, spec: Generate, rows: int) -> None:
        self._spec = spec
        self.rows = rows

    def batches(self, start: int) -> Iterator[list[Any]]:
        while start < self.rows:
            end = min(start + _AT_ONCE, self.rows)
            yield [dumps(self._spec.row(number)) for number in range(start, end)]
            start = end

    def close(self) -> None:
        """Do nothing."""


def refuse_edited(shown: str, known: Mapping[str, int], now: Mapping[str, int]) -> None:
    """Refuse other rows than a run was made with.

    Args:
        shown: the input, for people.
        known: what `Generate.parts` said.
        now: what it says now.

    Raises:
        StreamChangedError: when they are others, naming what was edited.
    """
    edited = [name for name in {**known, **now} if known.get(name) != now.get(name)]
    if edited:
        raise StreamChangedError(
            f"{shown} was edited since the run was made ({', '.join(edited)}), and its rows would be others. Only n "
            "may change: undo the edit, or start afresh with if_exists='overwrite'"
        )


def only(given: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """Return what is given, by names that are known.

    Raises:
        ConfigError: when a name is not.
    """
    for name in given:
        if name not in known:
            raise ConfigError(f"{name!r} is not known; {did_you_mean(str(name), known)}")
    return dict(given)


def check_count(name: str, value: Any) -> None:
    """Check a number of rows, or None.

    Raises:
        ConfigError: when it is neither.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < ENDLESS):
        raise ConfigError(f"{name} must be a whole number from 1 on, or None for no end, not {value!r}")


def _check_row(row: Any) -> None:
    if not isinstance(row, Mapping) or not row:
        raise ConfigError(f"a row must be {{column: value, …}}, not {row!r}")
    for column in row:
        if not isinstance(column, str) or column in (ID_FIELD, DATA_FIELD):
            raise ConfigError(f"a column cannot be called {column!r}")
    try:
        json.dumps(row, allow_nan=False)
        dumps(row)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"a row holds what JSON cannot: {error}") from None
