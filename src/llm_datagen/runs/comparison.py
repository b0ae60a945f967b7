"""Two streams side by side, by the ids of their rows: what is the same, what has changed, what only one of them has.

Rows that an operator gave at the end of its input (``end_0``), and those made of them, are numbered by their place,
which says nothing of another run. They are found by the rows that they stand for, where each names its own
(`_sources`). Of all others, equal rows are the same one, and those that differ are only in one of the two.

Streams may be long, and in any order. So ids, with a digest of each row, go into an index on the disk (SQLite, in a
temporary folder, about 100 bytes per row of each), and only rows that are shown are decoded again. Memory is bounded.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self, get_args

import orjson

from llm_datagen.streams import Stream
from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.ids import ID_FIELD, SOURCES_FIELD, Id, child_of_end, is_of_end
from llm_datagen.streams.scan import rows_of

Kind = Literal["same", "changed", "a", "b"]
"""What becomes of a row: both have it, and it is the same or not; or only one of the two has it."""

KINDS: tuple[Kind, ...] = get_args(Kind)

NOT_COMPARED = frozenset({ID_FIELD, "_meta"})
"""Columns that differ by the way rows were made: the id is what rows are found by; `_meta` has tokens and times."""

VALUE = "(value)"
"""What stands for a column, of a row that is no object."""

_BATCH = 10_000
_CACHE_KIB = 64 * 1024

_ROWS = """
    SELECT a.id, a.number AS in_a, b.number AS in_b,
           CASE WHEN b.id IS NULL THEN 'a' WHEN a.digest = b.digest THEN 'same' ELSE 'changed' END AS kind
      FROM a LEFT JOIN b ON a.id = b.id
    UNION ALL
    SELECT b.id, NULL, b.number, 'b' FROM b LEFT JOIN a ON a.id = b.id WHERE a.id IS NULL
"""


_ENDS = """
    INSERT INTO {name}
    SELECT CASE WHEN is_lone THEN 'stands for ' || hex(stands_for)
                ELSE 'is ' || hex(digest) || row_number() OVER (PARTITION BY is_lone, digest ORDER BY number) END,
           number, digest
      FROM (SELECT *, stands_for IS NOT NULL AND stands_for IN (
                       SELECT stands_for FROM ends WHERE stands_for IS NOT NULL GROUP BY stands_for
                       HAVING sum(name = 'a') < 2 AND sum(name = 'b') < 2) AS is_lone FROM ends)
     WHERE name = '{name}'
"""
"""Says by what each row of an end is found in the other stream: see the top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A row of two streams.

    Attributes:
        id: its id; where both have a row of an end, that in the first one.
        kind: what becomes of it.
        columns: the columns that differ; of a row that only one has, none.
        a: the row in the first stream, without its id; None when it is not there.
        b: the same in the second one.
    """

    id: Id
    kind: Kind
    columns: tuple[str, ...]
    a: Any = None
    b: Any = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"id": self.id, "kind": self.kind, "columns": list(self.columns), "a": self.a, "b": self.b}


class Comparison:
    """Compares two streams. Use it in a ``with`` block: the index goes with it.

    Args:
        a: the first stream; one that is not there has no rows.
        b: the second one.

    Attributes:
        rows: how many rows each has.
        repeated: how many rows of each have an id that a row before them has, so that they are not compared.
        of_ends: how many rows of each were given at the end of an input, so that no id tells which is which.

    Raises:
        StreamError: when one cannot be read.
    """

    def __init__(self, a: Stream, b: Stream) -> None:
        self._streams = {"a": a, "b": b}
        self._undo = contextlib.ExitStack()
        self.rows: dict[str, int] = {}
        self.repeated: dict[str, int] = {}
        self.of_ends = dict.fromkeys(self._streams, 0)
        try:
            folder = self._undo.enter_context(tempfile.TemporaryDirectory(prefix="llm-datagen-compare-"))
            self._index = self._undo.enter_context(contextlib.closing(_open_index(Path(folder))))
            for name in self._streams:
                self._read(name)
            for name in self._streams:
                self._index.execute(_ENDS.format(name=name))
        except BaseException:
            self._undo.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._undo.close()

    def _read(self, name: str) -> None:
        self._index.execute(f"CREATE TABLE {name} (id TEXT PRIMARY KEY, number INTEGER, digest BLOB) WITHOUT ROWID")
        named, added = 0, 0
        found = _rows(self._streams[name])
        while batch := list(islice(found, _BATCH)):
            known, ends = [], []
            for row_id, item, number in batch:
                digest = _digest(_compared(item))
                if is_of_end(row_id):
                    ends.append((name, number, _stands_for(row_id, item), digest))
                else:
                    known.append((_key(row_id), number, digest))
            self._index.executemany("INSERT INTO ends VALUES (?, ?, ?, ?)", ends)
            named, self.of_ends[name] = named + len(known), self.of_ends[name] + len(ends)
            if known:
                added += self._index.executemany(f"INSERT OR IGNORE INTO {name} VALUES (?, ?, ?)", known).rowcount
        self.rows[name], self.repeated[name] = named + self.of_ends[name], named - added

    def counts(self) -> dict[Kind, int]:
        """Return how many rows there are of each kind."""
        found = dict(self._index.execute(f"SELECT kind, count(*) FROM ({_ROWS}) GROUP BY kind"))
        return {kind: found.get(kind, 0) for kind in KINDS}

    def page(self, kinds: Sequence[Kind], *, limit: int, offset: int = 0) -> list[Pair]:
        """Return some rows, in the order of the first stream; those that only the second one has come last.

        Args:
            kinds: which rows.
            limit: how many, at most. So many are in memory.
            offset: how many rows of these kinds come before.
        """
        marks = ", ".join("?" * len(kinds))
        found = self._index.execute(
            f"SELECT in_a, in_b, kind FROM ({_ROWS}) WHERE kind IN ({marks}) "
            "ORDER BY in_a IS NULL, in_a, in_b LIMIT ? OFFSET ?",
            (*kinds, limit, offset),
        ).fetchall()
        a = self._items("a", {in_a for in_a, _, _ in found if in_a is not None})
        b = self._items("b", {in_b for _, in_b, _ in found if in_b is not None})
        return [_pair(a.get(in_a), b.get(in_b), kind) for in_a, in_b, kind in found]

    def _items(self, name: str, numbers: set[int]) -> dict[int, tuple[Id, Any]]:
        """Return the rows of some numbers; the stream is read up to the last of them."""
        if not numbers:
            return {}
        rows = rows_of(self._streams[name], strict=False, wanted=lambda number, _: number in numbers)
        with contextlib.closing(rows):
            return {number: (row_id, _plain(item)) for row_id, item, number in islice(rows, len(numbers))}


def _open_index(folder: Path) -> sqlite3.Connection:
    index = sqlite3.connect(folder / "index.sqlite", isolation_level=None)
    index.execute("PRAGMA journal_mode = OFF")  # what a crash leaves of it, nobody reads
    index.execute("PRAGMA synchronous = OFF")
    index.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    index.execute("PRAGMA temp_store = FILE")
    index.execute("BEGIN")
    index.execute("CREATE TABLE ends (name TEXT, number INTEGER, stands_for BLOB, digest BLOB)")
    return index


def _rows(stream: Stream) -> Iterator[tuple[Id, Any, int]]:
    return rows_of(stream, strict=False) if stream.is_there() else iter(())


def _key(row_id: Id) -> str:
    return dumps(row_id).decode()


def _digest(value: Any) -> bytes:
    """Return what tells a value from others; the order of an object's fields does not count."""
    option = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    return blake2b(dumps(value, default=str, option=option), digest_size=16).digest()


def _compared(item: Any) -> Any:
    """Return a row without what is not compared; so are sources that are rows of an end, which are but numbered."""
    if not isinstance(item, dict):
        return item
    left_out = NOT_COMPARED if _sources(item) else NOT_COMPARED | {SOURCES_FIELD}
    return {key: value for key, value in item.items() if key not in left_out}


def _sources(item: Any) -> list[Any]:
    """Return the ids of the rows that a row says it stands for; none when these are rows of an end."""
    named = item.get(SOURCES_FIELD) if isinstance(item, dict) else None
    return named if isinstance(named, list) and not any(map(is_of_end, named)) else []


def _stands_for(row_id: Id, item: Any) -> bytes | None:
    """Return what tells the rows that a row of an end stands for, and which of its children it is; None: nothing."""
    named, child = _sources(item), child_of_end(row_id)
    return _digest([named, child]) if named and child is not None else None


def _plain(item: Any) -> Any:
    return {key: value for key, value in item.items() if key != ID_FIELD} if isinstance(item, dict) else item


def columns_of(item: Any) -> dict[str, Any]:
    """Return the columns of a row that are compared; a row that is no object has one."""
    return _compared(item) if isinstance(item, dict) else {VALUE: item}


def _pair(a: tuple[Id, Any] | None, b: tuple[Id, Any] | None, kind: Kind) -> Pair:
    row_id = (a or b or ("", None))[0]
    left, right = (None if row is None else row[1] for row in (a, b))
    columns: list[str] = []
    if kind == "changed":
        of_a, of_b = columns_of(left), columns_of(right)
        columns = [
            name
            for name in dict.fromkeys([*of_a, *of_b])
            if name not in of_a or name not in of_b or _digest(of_a[name]) != _digest(of_b[name])
        ]
    return Pair(id=row_id, kind=kind, columns=tuple(columns), a=left, b=right)
