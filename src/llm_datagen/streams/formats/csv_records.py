"""CSV records: text to cells, and back."""

from __future__ import annotations

import csv
from collections.abc import Iterable

from llm_datagen.streams.formats.unreadable import text_of

_BEHIND_QUOTE = (b"", b",", b"\r")


class _Echo:
    """A file for csv.writer whose write() hands the record back."""

    @staticmethod
    def write(record: str) -> str:
        return record


def cells_of(record: bytes) -> list[str]:
    """Return the cells of a record.

    Raises:
        ValueError: when the record cannot be read, saying why.
    """
    text = text_of(record)
    try:
        return next(csv.reader((text,), strict=True), [])
    except csv.Error as error:
        if "field limit" in str(error):  # the module's limit of 128 KiB a cell is not one of the format
            return _long_cells(text)
        what = "a quote that opens a cell is not closed: " if "unexpected end" in str(error) else ""
        raise ValueError(f"{what}{error}") from None


def _long_cells(text: str) -> list[str]:
    """Return the cells of a record as `csv.reader` does, without its limit, which is the host's to set."""
    text = text.removesuffix("\n").removesuffix("\r")
    cells: list[str] = []
    at = 0
    while True:
        if text.startswith('"', at):
            cell, at = _quoted_cell(text, at + 1)
        else:
            end = text.find(",", at)
            cell, at = (text[at:], len(text)) if end < 0 else (text[at:end], end)
            if "\r" in cell or "\n" in cell:
                raise ValueError("new-line character in a cell without quotes")
        cells.append(cell)
        if at == len(text):
            return cells
        at += 1


def _quoted_cell(text: str, at: int) -> tuple[str, int]:
    """Return the quoted cell whose text begins at `at`, and where it ends."""
    parts: list[str] = []
    while True:
        end = text.find('"', at)
        if end < 0:
            raise ValueError("unexpected end of data: a quote is not closed")
        parts.append(text[at:end])
        at = end + 1
        if not text.startswith('"', at):
            break
        parts.append('"')
        at += 1
    if at < len(text) and text[at] != ",":
        raise ValueError("',' expected after '\"'")
    return "".join(parts), at


def is_open_after(line: bytes, *, is_open: bool) -> bool | None:
    """Return whether a quoted cell goes on behind a line; None when text follows a quote that closes one.

    A quote opens a cell only at the cell's beginning.
    """
    at = 0
    if not is_open:
        if line.startswith(b'"'):
            at = 1
        elif (begin := line.find(b',"')) >= 0:
            at = begin + 2
        else:
            return False
    while True:
        end = line.find(b'"', at)
        if end < 0:
            return True
        if line.startswith(b'"', end + 1):
            at = end + 2
            continue
        if line[end + 1 : end + 2] not in _BEHIND_QUOTE:
            return None
        begin = line.find(b',"', end + 1)
        if begin < 0:
            return False
        at = begin + 2


def record_of(cells: Iterable[str]) -> bytes:
    """Return cells as a record, without its newline."""
    # The writer quotes what is part of its line terminator, and a bare \r in a cell has to be quoted too.
    line: str = csv.writer(_Echo, lineterminator="\r\n").writerow(cells)
    return line[:-2].encode("utf-8")
