"""What the files of a run say of single rows: who a row comes from, by its id, and whether a source row is done.

What the ledger (`audit`) and the lineage (`lineage`) share. Files are read, never changed, a block at a time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any

from llm_datagen.ids import NUMERIC_WIDTH, Id
from llm_datagen.streams import Stream
from llm_datagen.streams.rows import item_of
from llm_datagen.streams.spans import Coverage
from llm_datagen.streams.unreadable import explained

_BLOCK_ROWS = 4096


class Done:
    """The numbers of the source rows that a stream covers.

    Args:
        coverage: the coverage.
    """

    def __init__(self, coverage: Coverage) -> None:
        self._spans = [(span.start, span.end) for span in coverage]

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._spans, (number, float("inf"))) - 1
        return at >= 0 and number < self._spans[at][1]


def parent_of(row_id: Id) -> Id | None:
    """Return the id of the row that `row_id` is a child of, if it is one, by its form (scheme "path"); see `ids`.

    Of a row that was made of a whole batch, that is the batch: ``first~last``.
    """
    if not isinstance(row_id, str) or "_" not in row_id:
        return None
    return _id_of(row_id.rpartition("_")[0])


def batch_ends(name: Id | None) -> list[tuple[Id, Id]]:
    """Return the first and the last row that a batch of this name may have; the rows may be of batches themselves."""
    if not isinstance(name, str) or "~" not in name:
        return []
    parts = name.split("~")
    return [(_id_of("~".join(parts[:at])), _id_of("~".join(parts[at:]))) for at in range(1, len(parts))]


def _id_of(text: str) -> Id:
    return int(text) if text.isdigit() else text


def numeric_source(row_id: int, made: list[int] | None) -> int:
    """Return the source row of a row under the scheme "numeric", given the range of ids that its node has made."""
    return row_id // NUMERIC_WIDTH if made is not None and made[0] <= row_id <= made[1] else row_id


def rows_of(
    stream: Stream,
    *,
    decode: bool = True,
    strict: bool = True,
    wanted: Callable[[int, bytes], object] | None = None,
) -> Iterator[tuple[Id, Any, int]]:
    """Yield id, item and number of each row that may be read now. No more than a block of them is in memory.

    Args:
        stream: the stream.
        decode: False yields numbers only.
        strict: False takes what is no row as text.
        wanted: given a row's number and its record, says whether to decode it; others are passed over.

    Raises:
        StreamError: when the stream is not there, or is not what its seal or commit log says; with `strict`, on what
            is no row.
    """
    cursor = stream.cursor(follow=False)
    try:
        while (block := cursor.read(_BLOCK_ROWS)) is not None:
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
                    row_id, item = stream.unparsed_id(number), record.decode("utf-8", "backslashreplace")
                yield row_id, item, number
    finally:
        cursor.close()
