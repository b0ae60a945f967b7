"""Ids that the rows of a user's own stream carry: a node that was wired by hand keeps them, so none may be there twice.

Rows without an `_i` are named by their number, which may be the `_i` of another row. ``12`` and ``"12"`` are two ids,
but their children would both be ``12_0``; and a row ``"7_0"`` beside a row ``7`` has the id of a child of that one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from llm_datagen.errors import IdError
from llm_datagen.runs.told_waits import ToldWait
from llm_datagen.runs.words import number
from llm_datagen.streams import Block, Stream
from llm_datagen.streams.id_search import may_have_ids
from llm_datagen.streams.ids import Id
from llm_datagen.streams.inputs.computed import ComputedStream
from llm_datagen.streams.rows import item_of
from llm_datagen.streams.source_cursor import SourceCursor

_BLOCK_ROWS = 4096
_WAYS = (
    "give each row an id of its own, or none (rename the column): then rows are named by their number, as they are in "
    "the input of a UnifiedPipeline"
)


def check_ids(source: Stream, *, follow: bool) -> None:
    """Check that no two rows of a stream have the same id, nor could come to have it.

    A stream whose ids are known to be unique, or are not all there yet, is passed over; see `has_unknown_ids`.

    Raises:
        IdError: when two have; naming both.
    """
    if isinstance(source, ComputedStream):
        if (row := source.first_named()) is not None:
            raise IdError(f"{source.line_place(row)}: the row has an id, the same in each round; {_WAYS}")
    elif has_unknown_ids(source, follow=follow):
        look_through(source)


def has_unknown_ids(source: Stream, *, follow: bool) -> bool:
    """Return whether a stream has to be read to know that its ids are unique.

    What a node wrote has not, nor has what a writer numbered, nor what is computed. With `follow`, nor has a stream
    that is not sealed: its rows come while they are read.
    """
    if isinstance(source, ComputedStream):
        return False
    seal = source.read_seal()
    if seal is None:
        return source.is_there() and not (follow and not source.is_sealed())
    return not (seal.source or seal.is_numbered())


def look_through(source: Stream) -> None:
    """Check the ids of a stream, which is read once; twice, when they are not rising numbers.

    Then there is an index in a temporary file: memory does not follow the rows.

    Raises:
        IdError: when two rows have one id, or could come to have it; naming both.
    """
    if not _are_rising(source):
        _check_each(source)


def _are_rising(source: Stream) -> bool:
    """Return whether all ids are rising numbers. Blocks in which no row can have an id are not decoded."""
    last = -1
    for block in _blocks(source.open_cursor(follow=False), source):
        if not may_have_ids(block.records, block.decode):
            if block.start <= last:
                return False
            last = block.end - 1
            continue
        for _, row_id in _ids_in(block):
            if not isinstance(row_id, int) or row_id <= last:
                return False
            last = row_id
    return True


def _check_each(source: Stream) -> None:
    index = sqlite3.connect("")  # a file without a name, which is in memory while it is small
    try:
        index.execute("CREATE TABLE ids (text TEXT, number INT)")
        index.execute("CREATE TABLE ancestors (text TEXT, number INT)")
        for block in _blocks(source.cursor(follow=False), source):
            ids = [(str(row_id), row) for row, row_id in _ids_in(block)]
            index.executemany("INSERT INTO ids VALUES (?, ?)", ids)
            ancestors = ((text, row) for row_id, row in ids for text in _ancestors(row_id))
            index.executemany("INSERT INTO ancestors VALUES (?, ?)", ancestors)
        try:
            index.execute("CREATE UNIQUE INDEX by_text ON ids (text)")  # sorted at once: faster than row by row
        except sqlite3.IntegrityError:
            raise _same(index, source) from None
        if (error := _descendant(index, source)) is not None:
            raise error
    finally:
        index.close()


def _same(index: sqlite3.Connection, source: Stream) -> IdError:
    """Return the error that names the first row whose id an earlier one has."""
    first, second = index.execute(
        "SELECT first, number FROM (SELECT number, lag(number) OVER (PARTITION BY text ORDER BY number) AS first "
        "FROM ids) WHERE first IS NOT NULL ORDER BY number LIMIT 1"
    ).fetchone()
    row_id, offset = _row_at(source, second)
    return IdError(
        f"{source.line_place(offset)}: the row has the id {row_id!r}, as row {first} of the stream has "
        f"(rows are counted from 0); {_WAYS}"
    )


def _descendant(index: sqlite3.Connection, source: Stream) -> IdError | None:
    """Return the error that names a row with the id of another row's descendant; None when there is none."""
    found = index.execute(
        "SELECT ancestors.number, ids.text, ids.number FROM ancestors JOIN ids ON ids.text = ancestors.text LIMIT 1"
    ).fetchone()
    if found is None:
        return None
    child, parent, first = found
    row_id, _ = _row_at(source, child)
    return IdError(
        f"{source.path}: row {child} has the id {row_id!r}, which a descendant of row {first} with the id {parent!r} "
        f"would have (rows are counted from 0); {_WAYS}"
    )


def _ancestors(row_id: str) -> Iterator[str]:
    """Yield the ids of rows that would have a descendant of this name, by its form: ``7_0`` and ``7`` of ``7_0_3``."""
    while True:
        row_id, sign, child = row_id.rpartition("_")
        is_number = child.isascii() and child.isdecimal() and (child == "0" or child[0] != "0")
        if not (sign and row_id and is_number):
            return
        yield row_id


def _row_at(source: Stream, row: int) -> tuple[Id, int]:
    """Return id and place of a row."""
    for block in _blocks(source.cursor(follow=False), source):
        if row < block.end:
            return dict(_ids_in(block))[row], block.offset_after(row - block.start)
    raise AssertionError(f"row {row} of {source.path} has gone")


def _blocks(cursor: SourceCursor, source: Stream) -> Iterator[Block]:
    wait = ToldWait()
    try:
        while (block := cursor.read(_BLOCK_ROWS)) is not None:
            wait.goes_on(f"{source.shown}: looking for ids that are there twice, {number(block.start)} rows so far")
            yield block
    finally:
        cursor.close()


def _ids_in(block: Block) -> Iterator[tuple[int, Id]]:
    """Yield number and id of each row. What is no row fails later, by itself."""
    for row, record in enumerate(block.records, block.start):
        try:
            row_id, _ = item_of(block.decode(record), row)
        except ValueError:
            continue
        yield row, row_id
