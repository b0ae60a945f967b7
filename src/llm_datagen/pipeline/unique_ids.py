"""Ids that the rows of a user's own stream carry: a node that was wired by hand keeps them, so none may be there twice.

Rows without an `_i` are named by their number, which may be the `_i` of another row. ``12`` and ``"12"`` are two ids,
but their children would both be ``12_0``; and a row ``"7_0"`` beside a row ``7`` has the id of a child of that one.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

from llm_datagen.errors import IdError
from llm_datagen.streams import Stream
from llm_datagen.streams.ids import Id
from llm_datagen.streams.inputs.computed import ComputedStream
from llm_datagen.streams.rows import item_of

_BLOCK_ROWS = 4096
_CHILD = re.compile(r"(.+)_(?:0|[1-9][0-9]*)", re.DOTALL)
_WAYS = (
    "give each row an id of its own, or none (rename the column): then rows are named by their number, as they are in "
    "the input of a UnifiedPipeline"
)


def check_ids(source: Stream, *, follow: bool) -> None:
    """Check that no two rows of a stream have the same id, nor could come to have it.

    What a node wrote is passed over, and so is what a writer numbered. With `follow`, so is a stream that is not
    sealed: its rows come while they are read. Else the stream is read once; when its ids are not rising numbers, it is
    read once more, with an index in a temporary file: memory does not follow the rows.

    Raises:
        IdError: when two have; naming both.
    """
    if isinstance(source, ComputedStream):
        if (number := source.first_named()) is not None:
            raise IdError(f"{source.line_place(number)}: the row has an id, the same in each round; {_WAYS}")
        return
    seal = source.read_seal()
    if seal is None:
        if (follow and not source.is_sealed()) or not source.is_there():
            return
    elif seal.source or seal.is_numbered():
        return
    last = -1
    for _, row_id, _ in _ids_of(source):
        if not isinstance(row_id, int) or row_id <= last:
            _check_each(source)
            return
        last = row_id


def _check_each(source: Stream) -> None:
    index = sqlite3.connect("")  # a file without a name, which is in memory while it is small
    try:
        index.execute("CREATE TABLE ids (text TEXT PRIMARY KEY, number INT) WITHOUT ROWID")
        index.execute("CREATE TABLE ancestors (text TEXT, number INT)")
        for number, row_id, offset in _ids_of(source):
            try:
                index.execute("INSERT INTO ids VALUES (?, ?)", (str(row_id), number))
            except sqlite3.IntegrityError:
                (first,) = index.execute("SELECT number FROM ids WHERE text = ?", (str(row_id),)).fetchone()
                raise IdError(
                    f"{source.line_place(offset)}: the row has the id {row_id!r}, as row {first} of the stream has "
                    f"(rows are counted from 0); {_WAYS}"
                ) from None
            index.executemany("INSERT INTO ancestors VALUES (?, ?)", [(text, number) for text in _ancestors(row_id)])
        found = index.execute(
            "SELECT child.text, child.number, ids.text, ids.number FROM ancestors "
            "JOIN ids ON ids.text = ancestors.text JOIN ids child ON child.number = ancestors.number LIMIT 1"
        ).fetchone()
    finally:
        index.close()
    if found is not None:
        child, number, parent, first = found
        raise IdError(
            f"{source.path}: row {number} has the id {child!r}, which a descendant of row {first} with the id "
            f"{parent!r} would have (rows are counted from 0); {_WAYS}"
        )


def _ancestors(row_id: Id) -> Iterator[str]:
    """Yield the ids of rows that would have a descendant of this name, by its form: ``7_0`` and ``7`` of ``7_0_3``."""
    text = str(row_id)
    while (found := _CHILD.fullmatch(text)) is not None:
        text = found[1]
        yield text


def _ids_of(source: Stream) -> Iterator[tuple[int, Id, int]]:
    """Yield number, id and place of each row. What is no row fails later, by itself."""
    cursor = source.cursor(follow=False)
    try:
        while (block := cursor.read(_BLOCK_ROWS)) is not None:
            for at, record in enumerate(block.records):
                try:
                    row_id, _ = item_of(block.decode(record), block.start + at)
                except ValueError:
                    continue
                yield block.start + at, row_id, block.offset_after(at)
    finally:
        cursor.close()
