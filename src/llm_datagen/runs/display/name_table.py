"""A table that begins with names, and fits: names stay readable, and columns that matter less are left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from llm_datagen.errors.escape import escape_line

FULL_NAME = 28
"""Columns that a name gets before the first column that may go stays."""

SHORT_NAME = 16
"""Columns that a name gets before any other column stays that may go."""

LEAST_NAME = 8
"""Columns that a name gets in any case; then words wrap, and numbers are cut off."""

LONGEST_NAME = 48
"""Columns that a name gets at a terminal, at most; a file takes any length."""

_GAP = 2


@dataclass(frozen=True, slots=True)
class Name:
    """What a line begins with.

    Attributes:
        text: any text, such as the id of a node.
        addition: what stands behind it as far as there is room, such as the name of its operator.
        style: the style of the text.
    """

    text: str
    addition: str = ""
    style: str = ""

    @property
    def width(self) -> int:
        """The columns that it takes in full."""
        return cell_len(self._line)

    @property
    def _line(self) -> str:
        return escape_line(f"{self.text} {self.addition}".rstrip() if self.addition else self.text)

    def fitted(self, width: int, dots: str = "…") -> Text:
        """Return it in so many columns, without the middle of what is too long; first the addition is shortened."""
        text = escape_line(self.text)
        room = width - cell_len(text) - 1
        shown = Text(no_wrap=True).append(middle_out(text, width, dots), style=self.style)
        if self.addition and room >= min(6, cell_len(escape_line(self.addition))):
            shown.append(f" {middle_out(escape_line(self.addition), room, dots)}", style="dim")
        return shown


@dataclass(frozen=True, slots=True)
class Column:
    """A column behind the names.

    Attributes:
        heading: what stands above it, on one line or several.
        cells: what is in it, a cell for each line.
        stays: which columns go first: those with the lowest number. None: it stays.
        is_left: whether it begins at the left, as words do, which may wrap.
    """

    heading: str
    cells: Sequence[Text | ProgressBar]
    stays: int | None = None
    is_left: bool = False

    @property
    def width(self) -> int:
        """The columns of the terminal that it takes."""
        found = [cell.cell_len if isinstance(cell, Text) else cell.width or 0 for cell in self.cells]
        return max([*map(cell_len, self.heading.split("\n")), *found])


class NameTable:
    """What rich draws: as wide as the terminal at most.

    Args:
        heading: what stands above the names.
        names: what the lines begin with.
        columns: the others, in their order.
        styles: the style of each line; none without it.
    """

    def __init__(
        self, heading: str, names: Sequence[Name], columns: Sequence[Column], *, styles: Sequence[str] | None = None
    ) -> None:
        self._heading = heading
        self._styles = [""] * len(names) if styles is None else styles
        self._names = names
        self._columns = columns

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table."""
        dots = "..." if options.ascii_only else "…"
        widest = max([cell_len(self._heading), *(name.width for name in self._names)])
        widest = min(widest, LONGEST_NAME) if console.is_terminal else widest
        columns, room = _chosen(self._columns, widest, options.max_width)
        names = [name.fitted(min(widest, room), dots) for name in self._names]
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
        table.add_column(self._heading, no_wrap=True)
        for column in columns:
            table.add_column(column.heading, justify="left" if column.is_left else "right", no_wrap=not column.is_left)
        for style, name, *cells in zip(self._styles, names, *(column.cells for column in columns), strict=True):
            table.add_row(name, *cells, style=style)
        yield table


def columns_of(
    headings: Sequence[str], rows: Sequence[Sequence[str | Text]], words: Sequence[str] = ()
) -> list[Column]:
    """Return the columns of lines that were made line by line; all of them stay.

    Args:
        headings: what stands above them.
        rows: of each line, what is in each of them.
        words: the headings of those that begin at the left.
    """
    cells = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    return [
        Column(heading, [row[number] for row in cells], is_left=heading in words)
        for number, heading in enumerate(headings)
    ]


def _chosen(columns: Sequence[Column], widest: int, width: int) -> tuple[list[Column], int]:
    """Return the columns that there is room for, and the room for the names."""
    kept = list(columns)
    may_go = sorted((column for column in columns if column.stays is not None), key=lambda column: column.stays or 0)
    for number, column in enumerate(may_go):
        if _room(kept, width) >= min(widest, SHORT_NAME if number else FULL_NAME):
            break
        kept = [other for other in kept if other is not column]
    return kept, max(_room(kept, width), LEAST_NAME)


def _room(columns: Sequence[Column], width: int) -> int:
    return width - sum(column.width + _GAP for column in columns)


def middle_out(text: str, width: int, dots: str = "…") -> str:
    """Return a line of text in `width` columns at most: where it is longer, its middle is dots.

    Args:
        text: printable text on one line. Wide characters take two columns.
        width: at least one.
        dots: what stands for the middle.
    """
    if cell_len(text) <= width:
        return text
    room = width - cell_len(dots)
    if room <= 0:
        return dots[:width]
    head = _begin(text, (room + 1) // 2)
    tail = _begin(text[::-1], room - cell_len(head))[::-1]
    return f"{head}{dots}{tail}"


def _begin(text: str, width: int) -> str:
    """Return as much of the beginning of a text as `width` columns hold."""
    return text[: sum(1 for _ in _while_at_most(text, width))]


def _while_at_most(text: str, width: int) -> Iterator[int]:
    for taken in accumulate(map(cell_len, text)):
        if taken > width:
            return
        yield taken
