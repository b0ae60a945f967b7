"""A part of an input: ``part://data.jsonl?rows=1000-2000&at=52100-104200``, the rows from number 1000 to 1999.

Rows have the numbers, and the addresses, that they have in the whole input: so their ids are those of one run on all of
it. `at` says where the first row begins, and where the last one ends, so nothing before it is read. Such an URI comes
of a plan (`shards.plan`). `seek` may say what finds the first row in a compressed file, or in one of many; see
`Stream.seek_mark`.

The input must stay as it was: where a row lies, and its number, depend on all before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Self

from llm_datagen.config import DataConfig
from llm_datagen.errors import ConfigError, RowFormatError, StreamChangedError
from llm_datagen.streams.coverage import START, Begin, Coverage, Segment, Span
from llm_datagen.streams.formats.base import Codec
from llm_datagen.streams.inputs.derived import DerivedStream
from llm_datagen.streams.inputs.file_set import FileSet
from llm_datagen.streams.inputs.file_set_cursor import FILE_STRIDE
from llm_datagen.streams.inputs.part_cursor import PartCursor, clipped
from llm_datagen.streams.inputs.planned_input import changed_since, files_of_part, noted_of
from llm_datagen.streams.read_limit import ReadLimit
from llm_datagen.streams.seal import Seal
from llm_datagen.streams.source import Source
from llm_datagen.streams.source_column import Origin
from llm_datagen.streams.source_cursor import SourceCursor
from llm_datagen.streams.storage.base import ReadFile
from llm_datagen.streams.stream import Stream

PROTOCOL = "part://"
_URI = re.compile(
    r"part://(?P<base>.+)[?&]rows=(?P<row>\d+)-(?P<last>\d+)&at=(?P<at>\d+)-(?P<end>\d+)(?:&seek=(?P<seek>\d+(?:-\d+)*))?",
    re.DOTALL,
)
_FORM = "part://URI?rows=FIRST-LAST&at=ADDRESS-ADDRESS, with the numbers of rows from 0, and the last one left out"


@dataclass(frozen=True, slots=True)
class Part:
    """Which rows of an input are meant.

    Args:
        uri: the input: a file, a pattern or a folder, of any format.
        first: number and address of the first row.
        last: number and address of the row behind the last one.
        seek: what helps to find the first row; empty when nothing does. Of many files, first the number that the first
            row of the file has in which it lies; then the seek mark of that file.

    Raises:
        ConfigError: when these are no rows.
    """

    uri: str
    first: Begin
    last: Begin
    seek: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.first[0] > self.last[0] or self.first[1] > self.last[1]:
            raise ConfigError(f"{self.as_uri}: a part cannot end before it begins")

    @property
    def as_uri(self) -> str:
        """The URI to read it by."""
        sign = "&" if "?" in self.uri else "?"
        seek = f"&seek={'-'.join(map(str, self.seek))}" if self.seek else ""
        (row, at), (last, end) = self.first, self.last
        return f"{PROTOCOL}{self.uri}{sign}rows={row}-{last}&at={at}-{end}{seek}"

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Return what a URI says.

        Raises:
            ConfigError: when it does not name rows.
        """
        found = _URI.fullmatch(uri)
        if found is None:
            raise ConfigError(f"{uri}: a part of an input is written as {_FORM}")
        seek = tuple(map(int, (found["seek"] or "").split("-"))) if found["seek"] else ()
        first, last = (int(found["row"]), int(found["at"])), (int(found["last"]), int(found["end"]))
        return cls(found["base"], first, last, seek)


def input_of_part(uri: str) -> str:
    """Return the URI of the input that a part is one of; another URI as it is."""
    return Part.parse(uri).uri if uri.startswith(PROTOCOL) else uri


INPUT_END = "input_end"
"""The key of a node for where the part that it reads ends, as number and address of the row behind its last one, when
that is earlier than its URI says: the rest was given to another run."""


def end_at(source: Source, noted: Sequence[int] | None) -> None:
    """Have a part end where a run has noted it (`INPUT_END`); None: where its URI says."""
    if noted is not None and isinstance(source, PartStream):
        row, at = noted
        source.part = replace(source.part, last=(row, at))


class PartStream(DerivedStream):
    """Some rows, one after the other, of an input.

    Args:
        uri: its URI; see `Part`.
        create: makes what the rows are of, of its URI.
    """

    why_only_read = "it is a part of an input"

    def __init__(self, uri: str, create: Callable[[str], Any]) -> None:
        self.part = part = Part.parse(uri)
        base = create(part.uri)
        if not isinstance(base, Stream) or isinstance(base, DerivedStream):
            raise ConfigError(f"{uri}: {part.uri} has no parts; give a file, or files")
        if isinstance(base, FileSet):
            base = base.narrowed(*files_of_part(part.first[1], part.last[1]))
        super().__init__(uri, base)
        self.codec = base.codec
        self.begins_at = part.first
        self.has_tails, self.has_seek_marks = base.has_tails, base.has_seek_marks
        self.is_foreign = base.is_foreign
        self._known: Any = None
        self._cursor: PartCursor | None = None

    def with_data(self, data: DataConfig) -> Self:
        """Return the part as it is read by other settings than the defaults."""
        return self._with_base(self.base.with_data(data))

    def with_source(self, column: str | None) -> Self:
        """Return the part, read with a column that says where each row comes from."""
        changed = self._with_base(self.base.with_source(column))
        changed.source_column = column
        return changed

    @property
    def first(self) -> Begin:
        """Number and address of its first row."""
        return self.part.first

    @property
    def last(self) -> Begin:
        """Number and address of the row behind its last one; it may come nearer while the part is read."""
        return self.part.last

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.last[0] - self.first[0]

    def gaps(self, done: Coverage) -> list[Segment]:
        """Return what is not done of the part; the last of these segments ends with it."""
        first, last = self.first, self.last
        return list(clipped(done.gaps(), first, last)) or [Segment(*last, *last)]

    def holes(self, done: Coverage) -> int:
        """Return how many rows are not done, and lie before some that are."""
        return done.holes - self.part.first[0] if done.rows else 0

    def read_as_is(self, *, follow: bool) -> list[Stream]:
        """Return the part: it does not grow."""
        return [self]

    def readable(self, *, follow: bool = True) -> ReadLimit | None:
        """Return that all of it may be read; None when there is no input."""
        size = self.size()
        return None if size is None else ReadLimit(size, ended=True)

    def size(self) -> int | None:
        """Return how many rows it has, which stand for its bytes; None when there is no input."""
        return self.rows if self.base.is_there() else None

    def size_after(self, done: Coverage) -> int:
        """Return how many rows it has: it does not grow."""
        return self.rows

    def read_seal(self) -> Seal | None:
        """Return the seal of the input, as one of so many rows; None when nobody has counted them."""
        seal = self.base.read_seal()
        return None if seal is None or seal.rows is None else replace(seal, size=self.rows, rows=self.rows)

    def open_cursor(self, segments: Sequence[Segment] = (START,), *, follow: bool = True) -> SourceCursor:
        """Return a cursor over some segments, as far as they lie in the part."""
        self._find()
        self._cursor = PartCursor(self, segments)
        return self._cursor

    def shorten(self, last: Begin) -> bool:
        """Let the part end earlier while it is read; return False, with nothing changed, when it is too late for that.

        Its URI stays what it was; see `end_at`. Called by the thread that reads it, by the cursor that was opened last.
        Others may look at it meanwhile.

        Args:
            last: number and address of the row behind its last one.
        """
        if self._cursor is None or not self._cursor.may_end(last):
            return False
        self.part = replace(self.part, last=last)
        return True

    def open_data(self) -> ReadFile:
        """Open the data, to be read at the addresses that rows have."""
        return self.base.open_data()

    def codec_to_read(self) -> Codec:
        """Return the format as it is read."""
        return self.base.codec_to_read()

    def origin(self, offset: int) -> Origin:
        """Return the file in which the row at `offset` lies."""
        return self.base.origin(offset)

    def rows_before(self, offset: int) -> int:
        """Return how many rows of the input begin before `offset`."""
        return self.base.rows_before(offset)

    def seek_mark(self, offset: int) -> list[int] | None:
        """Return what helps to find the row at `offset` again."""
        return self.base.seek_mark(offset)

    def use_seek_mark(self, mark: list[int]) -> None:
        """Take what an earlier process knew."""
        self.base.use_seek_mark(mark)

    def pin(self, known: Any) -> None:
        """Take what a run, or its plan, has noted. Of many files, those are read, whatever others have come since."""
        if known is None:
            return
        self._known = known
        if isinstance(self.base, FileSet):
            self.base.take(known)

    def fingerprint(self, *, follow: bool) -> Any:
        """Return what tells later whether the input was changed: of many files, those that rows of the part lie in."""
        return noted_of(self.base) if self._known is None else self._known

    def check_fingerprint(self, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """Check that the input is what it was, also before rows were read.

        Raises:
            StreamChangedError: when it is not, naming the files.
        """
        if known is not None and (what := changed_since(self.base, known)) is not None:
            raise StreamChangedError(
                f"{self.path} {what}: its rows were split into parts before that, and their numbers, and where they "
                "lie, must stay as they were. Restore what was there, or start afresh with if_exists='overwrite'"
            )

    def check_resumable(self, done: Coverage) -> None:
        """Check that the rows that were read before are still there."""
        self.base.check_resumable(done)

    def line_place(self, offset: int) -> str:
        """Return the path and the line of the row that begins there, in the whole input."""
        return self.base.line_place(offset)

    def row_error(self, error: ValueError, offset: int) -> RowFormatError:
        """Return the error that says which line cannot be parsed, and why."""
        return RowFormatError(
            f"{self.line_place(offset)}: this is not a row: {error}. An input that is read in parts must stay as it "
            "is: pass over such rows with on_error='skip' or 'dead_letter', or mend it and start afresh with "
            "if_exists='overwrite'"
        )

    def _with_base(self, base: Stream) -> Self:
        changed = copy(self)
        changed.base, changed.codec = base, base.codec
        return changed

    def _find(self) -> None:
        """Tell the input what the URI says of where its first row lies."""
        mark = list(self.part.seek)
        if mark and isinstance(self.base, FileSet):
            number = self.part.first[1] // FILE_STRIDE
            self.base.know_first_row(number, mark[0])
            if mark[1:]:
                self.base.streams[number].use_seek_mark(mark[1:])
        elif mark:
            self.base.use_seek_mark(mark)
