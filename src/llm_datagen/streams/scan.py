"""What the files of a run say of single rows: who a row comes from, by its id, and whether a source row is done.

What `verify` and `trace` share. Files are read, never changed, one block at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from llm_datagen.streams.block import Block
from llm_datagen.streams.formats.unreadable import explained
from llm_datagen.streams.ids import Id
from llm_datagen.streams.rows import item_of
from llm_datagen.streams.source import Source
from llm_datagen.streams.source_cursor import SourceCursor

_BLOCK_ROWS = 4096


def blocks_of(cursor: SourceCursor, until: int | None = None) -> Iterator[Block]:
    """Yield the blocks that may be read now; with `until`, no row of that number, or behind it."""
    while until is None or cursor.start < until:
        block = cursor.read(_BLOCK_ROWS if until is None else min(_BLOCK_ROWS, until - cursor.start))
        if block is None:
            return
        yield block


def rows_of(
    stream: Source,
    *,
    decode: bool = True,
    strict: bool = True,
    wanted: Callable[[int, bytes], object] | None = None,
    may_have: Callable[[Block], bool] | None = None,
    until: int | None = None,
) -> Generator[tuple[Id, Any, int]]:
    """Yield id, item and number of each row that may be read now. No more than a block of them is in memory.

    Args:
        stream: the stream.
        decode: False yields numbers only.
        strict: False takes what is no row as text.
        wanted: given a row's number and its record, says whether to decode it; others are passed over.
        may_have: given a block, says whether any of its records may be wanted; others are passed over as a whole.
        until: the number of the row to stop before, of a stream that has no end.

    Raises:
        StreamError: when the stream is not there, or is not what its seal or commit log says; with `strict`, on what
            is no row.
    """
    cursor = stream.cursor(follow=False)
    try:
        for block in blocks_of(cursor, until):
            if may_have is not None and not may_have(block):
                continue
            for number, record in enumerate(block.records, start=block.start):
                if not decode:
                    yield number, None, number
                    continue
                if wanted is not None and not wanted(number, record):
                    continue
                try:
                    row_id, item = item_of(block.decode(record), number)
                except ValueError as error:
                    if strict:
                        raise stream.row_error(
                            explained(error, record), block.offset_after(number - block.start)
                        ) from error
                    row_id, item = stream.unparsed_id(number), bytes(record).decode("utf-8", "backslashreplace")
                yield row_id, item, number
    finally:
        cursor.close()
