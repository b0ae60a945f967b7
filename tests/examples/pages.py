"""Pages of Markdown, as far as the tests need them: code blocks and tables.

A code block's info string may say what the tests do with it, behind its language:

* ``run``: a whole program, or a console session, that is run;
* ``file=NAME``: written to a file for what follows on the page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"

_FENCE = re.compile(r"^```(\w*)[ ]*([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\|(.*)\|$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A code block.

    Attributes:
        language: what it is written in.
        info: what else its first line says.
        text: the code.
        line: where it begins on its page, from 1.
    """

    language: str
    info: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """Return the code blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2].strip(), found[3], text.count("\n", 0, found.start()) + 1)
        for found in _FENCE.finditer(text)
    ]


def table(page: Path, section: str, first_heading: str) -> dict[str, list[str]]:
    """Return a table as a dict from the first cell of a row to the others; backquotes of a first cell are taken off.

    Args:
        page: the page, or a folder of pages.
        section: the heading of the page or of the section, without the ``#``.
        first_heading: the heading of the table's first column.

    Raises:
        LookupError: when there is no such table.
    """
    texts = [_section(one, section) for one in (sorted(page.glob("*.md")) if page.is_dir() else [page])]
    for part in re.split(r"\n\s*\n", "\n\n".join(texts)):
        rows = [_cells(row) for row in _ROW.findall(part)]
        if rows and rows[0][0].replace("`", "") == first_heading:
            return {row[0]: row[1:] for row in rows[2:]}
    raise LookupError(f"{page.name}, {section}: no table whose first column is {first_heading!r}")


def names_in(cell: str) -> list[str]:
    """Return what is in backquotes in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def _section(page: Path, section: str) -> str:
    """Return a section of a page, or all of a page with that heading; empty when there is none."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    if text.startswith(f"# {section}\n"):
        return text
    return text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)]
