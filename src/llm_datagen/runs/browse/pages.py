"""Pages of the rows of a run: by the number of a row, or by what rows hold. Rows are read by seek, not loaded."""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from llm_datagen.errors import StreamError
from llm_datagen.runs.browse.needle import needle_of
from llm_datagen.runs.browse.row_index import RowIndex
from llm_datagen.runs.browse.run_streams import Piece, RunStream
from llm_datagen.streams.block import Block
from llm_datagen.streams.checksums import CHECK_FIELD
from llm_datagen.streams.coverage import Segment
from llm_datagen.streams.ids import Id
from llm_datagen.streams.rows import named

_BLOCK_ROWS = 1024
_PAGE_BYTES = 8 << 20
"""A page of rows that are longer than that has fewer of them, and at least one."""

_ROWS_AT_ONCE = 50_000
"""Rows that are counted while others wait."""

_INDEXES = 64
"""Streams whose indexes are kept: each has a megabyte at most."""


@dataclass(frozen=True, slots=True)
class BrowsedRow:
    """A row of a page.

    Attributes:
        number: its number in the stream, from 0.
        id: its id.
        item: what it holds; what is no row is text.
    """

    number: int
    id: Id
    item: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a stream.

    Attributes:
        rows: the rows.
        total: how many rows the stream has; None when nobody has counted them.
        is_total_exact: whether there is no other row now.
        next: the number of the row to go on from; None at the end of what there is now.
        searched_to: the number of the row behind the last one that was looked at, of a search; else None.
    """

    rows: list[BrowsedRow]
    total: int | None
    is_total_exact: bool
    next: int | None
    searched_to: int | None = None


class Browser:
    """Reads pages of streams, and remembers where rows lie.

    Any thread may use it. Each stream is read by one at a time.

    Memory is for a page, and for the indexes of the streams that were read last.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._indexes: OrderedDict[Any, tuple[Lock, RowIndex]] = OrderedDict()

    def page(self, stream: RunStream, start: int = 0, limit: int = 50) -> Page:
        """Return the rows of a stream from a number on.

        Rows of a run in shards are those of one shard after the other, numbered as they are there now.

        Args:
            stream: the stream.
            start: the number of the first row, from 0.
            limit: how many rows, at most.

        Raises:
            StreamError: when it cannot be browsed, saying why; or cannot be read.
        """
        return self._read(stream, start, limit, None, None)

    def search(self, stream: RunStream, text: str, start: int = 0, limit: int = 50, *, seconds: float = 1.0) -> Page:
        """Return rows that hold a text, from a number on; `next` says where to go on when it was not looked through.

        Letters of ASCII are found in either case. The rows are searched as they lie on disk, with the names of columns.

        Args:
            stream: the stream.
            text: what to find.
            start: the number of the first row to look at.
            limit: how many rows, at most.
            seconds: how long to search, at most; a block of rows is looked at in any case.

        Raises:
            StreamError: as `page`.
        """
        return self._read(stream, start, limit, text, time.monotonic() + seconds)

    def count_on(self, stream: RunStream, *, seconds: float) -> None:
        """Count rows that nobody has asked for yet, so that a jump to them finds where they lie.

        A page that is asked for meanwhile waits for some of them, not for all.

        Args:
            stream: the stream.
            seconds: how long to count, at most; some rows are counted in any case.

        Raises:
            StreamError: as `page`.
        """
        until = time.monotonic() + seconds
        for piece in stream.pieces:
            while self._counts_on(piece) and time.monotonic() < until:
                pass

    def _read(self, stream: RunStream, start: int, limit: int, text: str | None, until: float | None) -> Page:
        seen = stream.look()
        if seen.why_not:
            raise StreamError(seen.why_not)
        matches = needle_of(text) if text else None
        rows: list[BrowsedRow] = []
        at, size, follows = max(start, 0), 0, False
        with contextlib.closing(self._blocks(stream, at)) as blocks:
            for piece, block, number, first in blocks:
                for ordinal, record in enumerate(block.records[number:], start=block.start + number):
                    if len(rows) >= limit or size > _PAGE_BYTES:
                        follows = True
                        break
                    at = first + ordinal + 1
                    if matches is None or matches(bytes(record)):
                        rows.append(_row(piece, block, ordinal, at - 1))
                        size += len(bytes(record))
                if until is not None and time.monotonic() > until:
                    follows = True  # perhaps
                if follows:
                    break
        total = seen.rows if seen.rows is not None else self._counted(stream)
        if total is not None:
            total = max(total, at if rows or follows else 0)  # it may have grown since it was looked at
        return Page(rows, total, total is not None, at if follows else None, None if text is None else at)

    def _blocks(self, stream: RunStream, start: int) -> Generator[tuple[Piece, Block, int, int]]:
        """Yield blocks, each with the first row of it that is wanted, and the number of the first row of its piece."""
        for piece, local, first in self._pieces(stream, start):
            with self._index(piece) as index, contextlib.closing(_blocks_of(piece, index, local)) as blocks:
                for block in blocks:
                    yield piece, block, max(0, local - block.start), first

    def _pieces(self, stream: RunStream, start: int) -> Iterator[tuple[Piece, int, int]]:
        """Yield each piece that has rows from `start` on: with the row to begin at, and the number of its first one."""
        before = 0
        for piece in stream.pieces:
            is_last = piece is stream.pieces[-1]
            seen = piece.look() if not is_last else None
            rows = 0 if seen is None else (seen.rows or 0)
            if is_last or start < before + rows:
                yield piece, max(0, start - before), before
            before += rows

    def _counted(self, stream: RunStream) -> int | None:
        """Return how many rows there are of an input, as far as that is known."""
        if len(stream.pieces) != 1:
            return None
        piece = stream.pieces[0]
        if piece.until is not None:
            return piece.until
        with self._index(piece) as index:
            return index.total()

    def _counts_on(self, piece: Piece) -> bool:
        """Count some more rows of a piece; return whether there were any."""
        with self._index(piece) as index:
            counted = index.rows
            index.place(counted + _ROWS_AT_ONCE)
            return index.rows > counted

    @contextlib.contextmanager
    def _index(self, piece: Piece) -> Iterator[RowIndex]:
        """Lend the index of a piece."""
        with self._lock:
            if piece.key not in self._indexes:
                self._indexes[piece.key] = (Lock(), RowIndex(piece.stream))
                if len(self._indexes) > _INDEXES:
                    self._indexes.popitem(last=False)
            lock, index = self._indexes[piece.key]
            self._indexes.move_to_end(piece.key)
        with lock:
            index.limit = (piece.look().bytes or 0) if piece.is_beside else None
            yield index


def _blocks_of(piece: Piece, index: RowIndex, start: int) -> Generator[Block]:
    """Yield blocks of rows from row `start` on, as far as may be read now."""
    if (piece.is_beside and not index.limit) or (piece.until is not None and start >= piece.until):
        return
    begin, offset = index.place(start)
    cursor = index.stream.open_cursor([Segment(begin, offset)], follow=False)
    try:
        while True:
            most = _BLOCK_ROWS if cursor.start >= start else start - cursor.start
            if piece.until is not None:
                most = min(most, piece.until - cursor.start)
            block = cursor.read(most) if most else None
            if block is None or (index.limit is not None and block.offset >= index.limit):
                return
            if block.end <= start:
                continue
            if index.limit is not None and block.offset_end > index.limit:
                block, _ = block.split_at(block.rows_before(index.limit))
            yield block
    finally:
        cursor.close()


def _row(piece: Piece, block: Block, ordinal: int, number: int) -> BrowsedRow:
    record = block.records[ordinal - block.start]
    try:
        row_id, item = named(block.decode(record), ordinal, piece.root)
    except ValueError:
        row_id = piece.root.name(ordinal) if piece.root else piece.stream.unparsed_id(ordinal)
        item = bytes(record).decode("utf-8", "backslashreplace")
    if piece.is_beside and isinstance(item, dict):
        item.pop(CHECK_FIELD, None)
    return BrowsedRow(number, row_id, item)
