"""CSV records: text to cells, and back."""

from __future__ import annotations

import csv
from collections.abc import Iterable

from llm_datagen.streams.formats.unreadable import text_of


class CsvSyntax:
    """How cells are told apart.

    Args:
        separator: what stands between them.
        quote: what stands around one.
        encoding: the encoding of the text.
    """

    __slots__ = ("behind_quote", "encoding", "opening", "quote", "quote_byte", "separator")

    def __init__(self, separator: str = ",", quote: str = '"', encoding: str = "utf-8") -> None:
        self.separator = separator
        self.quote = quote
        self.encoding = encoding
        self.quote_byte = quote.encode()
        self.opening = (separator + quote).encode()
        self.behind_quote = (b"", separator.encode(), b"\r")


PLAIN = CsvSyntax()
"""Commas, double quotes, UTF-8."""


class _Echo:
    """A file for csv.writer whose write() hands the record back."""

    @staticmethod
    def write(record: str) -> str:
        return record


def cells_of(record: bytes, syntax: CsvSyntax = PLAIN) -> list[str]:
    """Return the cells of a record.

    Raises:
        ValueError: when the record cannot be read, saying why.
    """
    text = text_of(record, syntax.encoding)
    try:
        return next(csv.reader((text,), strict=True, delimiter=syntax.separator, quotechar=syntax.quote), [])
    except csv.Error as error:
        if "field limit" in str(error):  # the module's limit of 128 KiB a cell is not one of the format
            return _long_cells(text, syntax)
        what = "a quote that opens a cell is not closed: " if "unexpected end" in str(error) else ""
        raise ValueError(f"{what}{error}") from None


def _long_cells(text: str, syntax: CsvSyntax) -> list[str]:
    """Return the cells of a record as `csv.reader` does, without its limit, which is the host's to set."""
    text = text.removesuffix("\n").removesuffix("\r")
    cells: list[str] = []
    at = 0
    while True:
        if text.startswith(syntax.quote, at):
            cell, at = _quoted_cell(text, at + 1, syntax)
        else:
            end = text.find(syntax.separator, at)
            cell, at = (text[at:], len(text)) if end < 0 else (text[at:end], end)
            if "\r" in cell or "\n" in cell:
                raise ValueError("new-line character in a cell without quotes")
        cells.append(cell)
        if at == len(text):
            return cells
        at += 1


def _quoted_cell(text: str, at: int, syntax: CsvSyntax) -> tuple[str, int]:
    """Return the quoted cell whose text begins at `at`, and where it ends."""
    parts: list[str] = []
    quote = syntax.quote
    while True:
        end = text.find(quote, at)
        if end < 0:
            raise ValueError("unexpected end of data: a quote is not closed")
        parts.append(text[at:end])
        at = end + 1
        if not text.startswith(quote, at):
            break
        parts.append(quote)
        at += 1
    if at < len(text) and text[at] != syntax.separator:
        raise ValueError(f"{syntax.separator!r} expected after {quote!r}")
    return "".join(parts), at


def is_open_after(line: bytes, *, is_open: bool, syntax: CsvSyntax = PLAIN) -> bool | None:
    """Return whether a quoted cell goes on behind a line; None when text follows a quote that closes one.

    A quote opens a cell only at the cell's beginning.
    """
    at, quote = 0, syntax.quote_byte
    if not is_open:
        if line.startswith(quote):
            at = 1
        elif (begin := line.find(syntax.opening)) >= 0:
            at = begin + 2
        else:
            return False
    while True:
        end = line.find(quote, at)
        if end < 0:
            return True
        if line.startswith(quote, end + 1):
            at = end + 2
            continue
        if line[end + 1 : end + 2] not in syntax.behind_quote:
            return None
        begin = line.find(syntax.opening, end + 1)
        if begin < 0:
            return False
        at = begin + 2


def record_of(cells: Iterable[str], syntax: CsvSyntax = PLAIN) -> bytes:
    """Return cells as a record, without its newline."""
    # The writer quotes what is part of its line terminator, and a bare \r in a cell has to be quoted too.
    writer = csv.writer(_Echo, lineterminator="\r\n", delimiter=syntax.separator, quotechar=syntax.quote)
    line: str = writer.writerow(cells)
    return line[:-2].encode(syntax.encoding)
