"""The input of a block run: records of a block as items with ids (M14, M15)."""

from __future__ import annotations

from typing import Any

from llm_datagen.errors import FailureRecord
from llm_datagen.errors.escape import shortened
from llm_datagen.streams import Block, Source, Span
from llm_datagen.streams.dead_letters import UNPARSED, dead_letter, row_or_unparsed, unparsed_id
from llm_datagen.streams.formats.unreadable import explained
from llm_datagen.streams.ids import DATA_FIELD, ID_FIELD, Id, RootNames
from llm_datagen.streams.rows import named

_EXCERPT_CHARS = 200


def excerpt(record: bytes) -> str:
    """Return the beginning of a record as it stands in its file, on one line."""
    return shortened(bytes(record)[: 4 * _EXCERPT_CHARS + 4].decode(errors="backslashreplace").strip(), _EXCERPT_CHARS)


class RowInput:
    """Decodes the records of a block. Records are known by their numbers in it.

    Args:
        block: the records.
        source: the stream that they come from, for error messages.
        root: how rows of the pipeline's input are named; None when they have ids.
    """

    def __init__(self, block: Block, source: Source, root: RootNames | None) -> None:
        self._block = block
        self._source = source
        self._root = root
        self._known = (0, block.offset)  # a record, and where it begins

    def one(self, number: int) -> tuple[Id, Any]:
        """Return a row's id and item.

        Raises:
            RowFormatError: when it cannot be parsed.
        """
        try:
            value = self._block.decode(self._block.records[number])
        except ValueError as error:
            raise self.error(error, number) from error
        return self.named(number, value)

    def named(self, number: int, value: Any) -> tuple[Id, Any]:
        """Return the id and item of a row that was decoded.

        Raises:
            RowFormatError: when it is none.
        """
        try:
            return named(value, self._block.start + number, self._root)
        except ValueError as error:
            raise self.error(error, number) from error

    def error(self, error: ValueError, number: int) -> ValueError:
        """Return the error of a row that cannot be parsed, with its place."""
        why = explained(error, self._block.records[number])
        if hasattr(error, "doc"):  # a parser's copy of the whole record, which would be held as long as the error
            error.doc = ""
        return self._source.row_error(why, self.offset(number))

    def batch(self, begin: int, end: int) -> tuple[list[Id], list[Any]]:
        """Return ids and items, up to the first row that cannot be parsed.

        Raises:
            RowFormatError: when that is the first one.
        """
        return self._common(begin, end) or self._each(begin, end)

    def _common(self, begin: int, end: int) -> tuple[list[Id], list[Any]] | None:
        """Return what `batch` does, of rows that are common objects; None when one of them is not."""
        start = self._block.start
        items: list[Any] = []
        try:
            items.extend(map(self._block.decode, self._block.records[begin:end]))
        except ValueError as error:
            if not items:
                raise self.error(error, begin) from error
        ids: list[Id] = list(range(start + begin, start + begin + len(items)))
        for number, item in enumerate(items):
            if item.__class__ is not dict or (len(item) <= 2 and DATA_FIELD in item):
                return None
            if self._root:
                if ID_FIELD in item:
                    return None
                item[ID_FIELD] = ids[number] = self._root.name(start + begin + number)
            elif (found := item.get(ID_FIELD)).__class__ is int or found.__class__ is str:
                ids[number] = found
            else:
                return None
        return ids, items

    def _each(self, begin: int, end: int) -> tuple[list[Id], list[Any]]:
        ids: list[Id] = []
        items: list[Any] = []
        for number in range(begin, end):
            try:
                row_id, item = self.one(number)
            except ValueError:
                if not ids:
                    raise
                break
            ids.append(row_id)
            items.append(item)
        return ids, items

    def unparsed_id(self, number: int) -> Id:
        """Return the id of a row that cannot be parsed."""
        return unparsed_id(self._block.start + number, self._source, self._root)

    def excerpt(self, number: int) -> str:
        """Return the beginning of a record, as people are shown it."""
        return excerpt(self._block.records[number])

    def offset(self, number: int) -> int:
        """Return the byte at which a record begins. Fast when it is asked for one record after the other."""
        at, offset = self._known if self._known[0] <= number else (0, self._block.offset)
        if at == number:
            return offset
        if self._block.ends is not None or number >= len(self._block.records):
            return self._block.offset_after(number)
        offset += sum(map(len, self._block.records[at:number])) + number - at
        self._known = number, offset
        return offset

    def _place(self, number: int) -> Span:
        """Return where a record lies. `offset` is asked for nothing behind it: it is fast in order only."""
        block, begin = self._block, self.offset(number)
        is_next_known = block.ends is not None or number + 1 >= len(block.records)
        end = block.offset_after(number + 1) if is_next_known else begin + len(block.records[number]) + 1
        return Span(block.start + number, block.start + number + 1, begin, end)

    def dead_letters(self, numbers: range, *, node_id: str, error: FailureRecord, attempts: int) -> bytes:
        """Return the dead letters of records: what they were, and why they failed; no attempts: they are no rows."""
        return b"".join([self._dead_letter(n, node_id=node_id, error=error, attempts=attempts) for n in numbers])

    def _dead_letter(self, number: int, *, node_id: str, error: FailureRecord, attempts: int) -> bytes:
        block = self._block
        if attempts:
            row_id, item = row_or_unparsed(block, number, self._source, self._root)
        else:
            row_id, item = self.unparsed_id(number), UNPARSED
        return dead_letter(
            row_id,
            item,
            record=block.records[number],
            node_id=node_id,
            error=error,
            attempts=attempts,
            source=self._place(number),
        )
