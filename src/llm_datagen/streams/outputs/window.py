"""A window of an export: source rows on the grid, and the parts that are made of them, one for each partition."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from llm_datagen.errors import StreamError
from llm_datagen.streams.block import Block
from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.ids import ID_FIELD
from llm_datagen.streams.outputs.arrow import WrongGuessError
from llm_datagen.streams.outputs.column_types import MisfitError
from llm_datagen.streams.outputs.columns import GUESS, TABLES
from llm_datagen.streams.outputs.csv_writer import CsvWriter
from llm_datagen.streams.outputs.lines import Lines, are_lines
from llm_datagen.streams.outputs.options import ExportOptions
from llm_datagen.streams.outputs.part_file import PartFile
from llm_datagen.streams.outputs.paths import relative_to
from llm_datagen.streams.outputs.source_rows import Batcher, SourceRows
from llm_datagen.streams.outputs.straight import StraightBatches
from llm_datagen.streams.outputs.table_writers import ArrowPart, ParquetPart
from llm_datagen.streams.outputs.target import Target
from llm_datagen.streams.outputs.text_writers import JsonLinesWriter, as_messages
from llm_datagen.streams.outputs.work import Work
from llm_datagen.streams.storage.compression import compression_of

_BATCH_BYTES = 8 << 20
_MOST_PARTITIONS = 500

Writer = ParquetPart | ArrowPart | CsvWriter | JsonLinesWriter


class Window:
    """Makes the parts of one window.

    Args:
        source: the rows.
        target: where the parts go.
        options: how.
        work: where the work is kept.
        plan: with the columns.
        number: the number of the window, which is that of its shards.
    """

    def __init__(
        self, source: SourceRows, target: Target, options: ExportOptions, work: Work, plan: dict[str, Any], number: int
    ) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._work = work
        self._plan = plan
        self._number = number
        self._compression = None if target.compression is None else compression_of(target.compression)
        self._parts: dict[str, tuple[PartFile, Writer]] = {}
        self._columns = target.columns
        self._known: dict[str, str] = {}  # the paths of partitions, by what the file system takes them for
        self._ignores_case = bool(target.columns) and work.place.ignores_case(work.folder)
        self._ids = options.ids
        self._has_text_ids = target.kind in TABLES
        self._batcher = Batcher(most_bytes=_BATCH_BYTES)
        self._errors: PartFile | None = None
        self._failed = 0
        self._copies = _is_copied(source, target, options)
        self._straight = _straight(source, target, options, plan["columns"])
        if not self._columns:
            self._part(target.part_path(number, {}))

    def read(self, start: int, offset: int) -> Generator[Block | Lines, None, None]:
        """Yield the rows of the source from one on, in the form in which the window takes them."""
        return self._source.read(start, offset) if self._straight is None else self._source.read_lines(start, offset)

    def add(self, rows: Block | Lines) -> None:
        """Take the next rows."""
        if isinstance(rows, Lines):
            self._write_lines(rows)
            return
        for batch in self._batcher.add(rows):
            self._write(batch)

    def finish(self) -> dict[str, Any]:
        """Put the parts in place, and return what the work keeps of them."""
        for batch in self._batcher.rest():
            self._write(batch)
        if self._columns:
            self._work.note_paths(self._number, [self._relative(path) for path in sorted(self._parts)])
        parts = []
        for path, (part, writer) in sorted(self._parts.items()):
            writer.close()
            part.finish()
            parts.append({"path": self._relative(path), "rows": part.rows, "bytes": part.size, "crc32": part.crc})
        if self._errors is not None:
            self._errors.finish()
        return {"failed": self._failed, "parts": parts}

    def abandon(self) -> None:
        """Remove what is half written."""
        for part, writer in self._parts.values():
            if not part.closed:
                part.abandon()
                if isinstance(writer, ParquetPart | ArrowPart):
                    writer.abandon()
        if self._errors is not None and not self._errors.closed:
            self._errors.abandon()

    def _relative(self, path: str) -> str:
        return relative_to(path, self._target.root)

    def _write(self, batch: Block) -> None:
        if self._copies:
            ((part, _),) = self._parts.values()
            part.write(b"\n".join(batch.records) + b"\n")
            part.rows += len(batch.records)
            return
        only = None if self._columns else next(iter(self._parts))
        groups: dict[str, tuple[list[tuple[int, Any]], list[dict[str, Any]]]] = {}
        for number, (row_id, item) in enumerate(self._source.items(batch), batch.start):
            try:
                shaped = self._with_id(row_id, item)
                path = only or self._path(shaped)
                if self._target.kind == "chatml":
                    shaped = as_messages(shaped, self._options)
            except MisfitError as misfit:
                if GUESS in self._plan:
                    raise WrongGuessError from None
                self._fail(number, row_id, misfit)
                continue
            names, rows = groups.get(path) or groups.setdefault(path, ([], []))
            names.append((number, row_id))
            rows.append(shaped)
        for path, (names, rows) in groups.items():
            part, writer = self._part(path)

            def failed(at: int, misfit: MisfitError, names: Any = names) -> None:
                number, row_id = names[at]
                self._fail(number, row_id, misfit)

            part.rows += writer.write(rows, failed)

    def _write_lines(self, lines: Lines) -> None:
        assert self._straight is not None
        made = self._straight.of(lines)
        if made is None:
            self._write(lines.block(self._source.stream))
            return
        ((part, table),) = self._parts.values()
        assert isinstance(table, ParquetPart | ArrowPart)
        table.add(made)
        part.rows += made.num_rows

    def _with_id(self, row_id: Any, item: dict[str, Any]) -> dict[str, Any]:
        column = self._ids
        if column is not None:
            if column in item:
                raise MisfitError(column, "string", "the row has a column of the name that ids get")
            if self._has_text_ids:
                item[column] = str(row_id)  # columns have their order already
            else:
                item = {column: row_id, **item}
        return item

    def _path(self, row: dict[str, Any]) -> str:
        columns = self._columns
        try:
            path = self._target.part_path(self._number, row)
            key = path.casefold() if self._ignores_case else path
            if self._known.get(key) != path:
                self._check_new(key, path)
        except ValueError as error:
            raise MisfitError(", ".join(columns), "partition", str(error)) from None
        return path

    def _check_new(self, key: str, path: str) -> None:
        self._target.check_part(path)
        other = self._known.setdefault(key, path)
        if other != path:
            raise ValueError(
                f"this file system takes {self._relative(path)} for {self._relative(other)}, where other rows lie"
            )

    def _part(self, path: str) -> tuple[PartFile, Writer]:
        if path not in self._parts:
            if len(self._parts) == _MOST_PARTITIONS:
                raise StreamError(
                    f"{self._target.path}: more than {_MOST_PARTITIONS} partitions in one shard; part the rows by a "
                    "column with fewer values, or make shards smaller"
                )
            part = PartFile(self._work.place, path, self._work.temporary(len(self._parts)), self._compression)
            try:
                self._parts[path] = part, self._writer(part)
            except BaseException:
                part.abandon()
                raise
        return self._parts[path]

    def _writer(self, part: PartFile) -> Writer:
        columns = self._plan["columns"]
        match self._target.kind:
            case "parquet":
                return ParquetPart(part, columns, self._plan["dictionaries"], self._plan.get(GUESS))
            case "hf-folder":
                return ArrowPart(part, columns)
            case "csv":
                return CsvWriter(part, list(columns), self._options)
        return JsonLinesWriter(part)

    def _fail(self, number: int, row_id: Any, misfit: MisfitError) -> None:
        if self._errors is None:
            path = self._work.errors_path(self._number)
            self._errors = PartFile(self._work.place, path, f"{path}.tmp")
        reason = misfit.reason
        if misfit.remedy is not None:
            is_found = self._options.schema is None and self._options.schema_rows is None
            reason += f"; choose {misfit.remedy if is_found else 'a schema that takes it'}"
        line = {"_i": row_id, "row": number, "column": misfit.column, "type": misfit.type, "reason": reason}
        self._errors.write(dumps({name: _shown(value) for name, value in line.items()}) + b"\n")
        self._failed += 1


def _shown(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _is_copied(source: SourceRows, target: Target, options: ExportOptions) -> bool:
    """Return whether rows go out as they lie in the stream."""
    return are_lines(source.stream) and target.kind == "jsonl" and not target.columns and options.ids == ID_FIELD


def _straight(source: SourceRows, target: Target, options: ExportOptions, columns: Any) -> StraightBatches | None:
    """Return what makes batches of the lines of a stream; None when each row is looked at."""
    if target.kind not in TABLES or target.columns or not are_lines(source.stream):
        return None
    return StraightBatches(columns, options.ids) if StraightBatches.fits(columns, options.ids) else None
