"""Exports: files of other formats, made from a stream that has ended. The stream stays the truth.

Parts are made one after the other, on a fixed grid of source rows, each whole in its place or not there. An export that
was killed goes on with the parts that are there, and its parts are the same, byte for byte, as of one that was not.
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llm_datagen.errors import ConfigError, StreamChangedError, StreamExistsError
from llm_datagen.streams.arrow_library import arrow
from llm_datagen.streams.block import Block
from llm_datagen.streams.outputs.arrow import WrongGuessError
from llm_datagen.streams.outputs.arrow_types import schema_given
from llm_datagen.streams.outputs.columns import GUESS, TABLES, check_partitions, columns_of, guessed
from llm_datagen.streams.outputs.folder_files import write_folder_files
from llm_datagen.streams.outputs.lines import Lines
from llm_datagen.streams.outputs.options import CSV_OPTIONS, DEFAULT_SHARD_BYTES, ExportOptions
from llm_datagen.streams.outputs.paths import joined, name_of
from llm_datagen.streams.outputs.places import place_of
from llm_datagen.streams.outputs.source_rows import SourceRows
from llm_datagen.streams.outputs.target import Target
from llm_datagen.streams.outputs.unfit_rows import UnfitRows
from llm_datagen.streams.outputs.window import Window
from llm_datagen.streams.outputs.work import REMOVING, Work
from llm_datagen.streams.storage.compression import compression_of
from llm_datagen.streams.stream import Stream

_RULES = 2
"""By which rules parts get their names, and values their types: 2 since those of 1 changed values, and mixed parts."""

_BY_RULES = "rules"
"""The key of these in a plan. An export that was begun by others is begun anew, so that all of it is of one kind."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export has made.

    Attributes:
        target: where it is.
        rows: how many rows were written.
        failed: how many rows do not fit: each is in `errors_path`, with the column and the reason.
        parts: the files, with rows, bytes and CRC-32.
        columns: the columns of Parquet, Arrow and CSV, with their types; None for others.
        was_there: whether it was finished before.
        notes: what is to be told of files beside it.
    """

    target: Target
    rows: int
    failed: int
    parts: list[dict[str, Any]]
    columns: dict[str, Any] | None
    was_there: bool
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, target: Target, manifest: Mapping[str, Any], *, was_there: bool) -> Exported:
        """Return what the manifest of a target says."""
        return cls(
            target, manifest["rows"], manifest["failed"], manifest["parts"], manifest["columns"], was_there=was_there
        )

    @property
    def errors_path(self) -> str | None:
        """Where the rows are that do not fit; None when all do."""
        return self.target.errors_path if self.failed else None

    @property
    def warnings(self) -> list[str]:
        """What is to be told: of rows that do not fit, and of a card that was not made."""
        return [*([str(UnfitRows.of(self.target, self.failed))] if self.failed else []), *self.notes]

    @property
    def paths(self) -> list[str]:
        """The paths of the files."""
        return [joined(self.target.root, part["path"]) for part in self.parts]


def export_rows(
    stream: Stream,
    target: Target,
    options: ExportOptions,
    *,
    owner: str = "",
    overwrite: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Exported:
    """Make files of another format from a stream that has ended; when cut short, call it again.

    Args:
        stream: the stream.
        target: where to, and in which format.
        options: how.
        owner: the run that the stream is of, for messages.
        overwrite: whether what another export has made at the target is removed first.
        stopped: asked at some thousand rows and at each part; when it returns True, the export is left for later.

    Returns:
        What was made; at once, when it was made before.

    Raises:
        ConfigError: when options do not go together with the target, or a library is missing; or no row has a column
            that the target parts the rows by.
        StreamMissingError, StreamError: when the stream is not there, or not finished.
        StreamExistsError: when the target is there already, and was made from something else.
        StreamBusyError: when another process exports there.
        StopRun: when it was stopped.
        LeaseLostError: when the target is in a store, and another process has taken it over.
        DiskError: when the disk, or the store, refuses.
    """
    target = target.absolute()
    check_fit(target, options)
    source = SourceRows(stream, stopped)
    work = Work(target, place_of(target))
    given = None if options.schema is None else schema_given(options.schema)
    request = {
        "target": {"kind": target.kind, "path": target.path},
        "source": source.identity(),
        "options": options.as_plain(),
        "schema": {"of a file": given} if isinstance(options.schema, str | os.PathLike) else given,
    }
    if (begun := work.manifest() or work.plan()) is None or not _is_same(begun, request):
        check_partitions(source, target, options)  # before anything is made, or removed
    with work.locked():
        if overwrite and (made := work.manifest() or work.plan()) is not None and not _is_same(made, request):
            work.remove_outputs()
        done = work.manifest()
        if done is not None and _is_same(done, request):
            work.succeed()
            return Exported.of(target, done, was_there=True)
        plan = work.plan()
        if plan is not None and plan.get(_BY_RULES) != _RULES and done is None and _is_same(plan, request):
            work.remove_outputs()
            plan = None
        if plan is None or done is not None:
            work.refuse_taken(whose=_whose(done, owner))
            columns = guessed(source, target, options) or columns_of(source, target, options, given)
            plan = {**request, _BY_RULES: _RULES, "owner": owner, **columns}
            work.begin(plan)
        elif not _is_same(plan, request):
            raise StreamExistsError(
                f"{target.path}: another export was begun there{_of(plan)}, with other options or from another stream; "
                "finish that one, choose another target, or say overwrite"
            )
        try:
            manifest = _Export(source, target, options, work, plan).run()
        except WrongGuessError:
            plan = {**request, _BY_RULES: _RULES, "owner": owner, **columns_of(source, target, options, given)}
            work.begin(plan)
            manifest = _Export(source, target, options, work, plan).run()
        if source.identity() != request["source"]:
            raise StreamChangedError(f"{stream.path} was changed while it was exported; export it again")
        work.finish(manifest)
    return Exported.of(target, manifest, was_there=False)


class _Export:
    def __init__(
        self,
        source: SourceRows,
        target: Target,
        options: ExportOptions,
        work: Work,
        plan: dict[str, Any],
    ) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._work = work
        self._plan = plan
        self._most_rows = options.rows_per_shard
        self._most_bytes = options.bytes_per_shard
        if target.is_sharded and self._most_rows is None and self._most_bytes is None:
            self._most_bytes = DEFAULT_SHARD_BYTES

    def run(self) -> dict[str, Any]:
        """Make the parts that are missing, and return the manifest."""
        windows = list(self._work.windows())
        if not windows or not windows[-1]["is_last"]:
            windows += self._make(windows[-1] if windows else None, len(windows))
        parts = [part for window in windows for part in window["parts"]]
        failed = sum(window["failed"] for window in windows)
        if failed:
            self._gather_errors(len(windows))
        write_folder_files(self._target, parts, self._plan, self._work)
        plan = {name: value for name, value in self._plan.items() if name != GUESS}
        return {**plan, "rows": sum(part["rows"] for part in parts), "failed": failed, "parts": parts}

    def _make(self, last: dict[str, Any] | None, number: int) -> Iterator[dict[str, Any]]:
        start, offset = (last["end"], last["end_offset"]) if last else (0, 0)
        while True:
            self._source.check_stopped()
            window = Window(self._source, self._target, self._options, self._work, self._plan, number)
            begin, first = offset, start
            is_last = True
            try:
                with contextlib.closing(window.read(start, offset)) as pieces:
                    for rows in pieces:
                        here = self._of_window(rows, start - first, begin)
                        if here.end > start:
                            window.add(here)
                            start, offset = here.end, here.offset_end
                        if here.end < rows.end:
                            is_last = False
                            break
                found = window.finish()
            except BaseException:
                window.abandon()
                raise
            done = {**found, "end": start, "end_offset": offset, "is_last": is_last}
            self._work.note_window(number, done)
            yield done
            if is_last:
                return
            number += 1

    def _of_window(self, rows: Block | Lines, taken: int, begin: int) -> Block | Lines:
        """Return what of some rows goes into a window that has `taken` rows, from byte `begin` on."""
        most_rows, most_bytes = self._most_rows, self._most_bytes
        if not self._target.is_sharded:
            return rows
        if isinstance(rows, Lines):
            rows = rows if most_rows is None else rows.first(most_rows - taken)
            return rows if most_bytes is None else rows.until(begin + most_bytes)
        room = len(rows.records) if most_rows is None else min(len(rows.records), most_rows - taken)
        if most_bytes is not None:  # the row with which it has so many bytes is its last one
            is_full = taken and rows.offset - begin >= most_bytes
            room = 0 if is_full else min(room, bisect_left(rows.all_ends(), begin + most_bytes) + 1)
        return rows.split_at(room)[0]

    def _gather_errors(self, windows: int) -> None:
        from llm_datagen.streams.outputs.part_file import PartFile

        file = PartFile(self._work.place, self._target.errors_path, self._work.temporary(0))
        try:
            for number in range(windows):
                with contextlib.suppress(FileNotFoundError):
                    errors = self._work.place.open_read(self._work.errors_path(number))
                    at = 0
                    try:
                        while piece := errors.read_at(at, 1 << 20):
                            file.write(piece)
                            at += len(piece)
                    finally:
                        errors.close()
            file.finish()
        except BaseException:
            file.abandon()
            raise


def check_fit(target: Target, options: ExportOptions) -> None:
    """Check that options go together with a target, and that the libraries for it are there.

    Raises:
        ConfigError: when they do not, or one is missing.
    """
    sizes = options.rows_per_shard or options.bytes_per_shard
    if sizes is not None and not target.is_sharded:
        stem, dot, endings = name_of(target.path).partition(".")
        raise ConfigError(
            f"{target.path} has no {{shard}} in it, so all rows go into one file; for several, write "
            f"{stem}-{{shard:05}}{dot}{endings}"
        )
    if options.schema is not None and target.kind not in {*TABLES, "csv"}:
        raise ConfigError(f"schema= is for Parquet, Arrow and CSV; {target.kind} has no columns with types")
    if target.kind != "csv" and (of_csv := CSV_OPTIONS & options.changed()):
        raise ConfigError(f"{min(of_csv)}= is for CSV, and {target.path} is {target.kind}; leave it out")
    if target.kind in TABLES:
        arrow()
    place_of(target)
    if target.compression is not None:
        compression_of(target.compression)


def _is_same(made: dict[str, Any], request: dict[str, Any]) -> bool:
    defaults = ExportOptions().as_plain()  # of an older version that lacked some
    known = {**made, "options": {**defaults, **made.get("options", {})}}
    return REMOVING not in made and all(known.get(name) == value for name, value in request.items())


def _of(made: dict[str, Any]) -> str:
    return f" by the run {made['owner']!r}" if made.get("owner") else ""


def _whose(made: dict[str, Any] | None, owner: str) -> str:
    if made is None:
        return "no export made it"
    if made.get("owner") != owner:
        return f"was made{_of(made) or ' from another stream'}"
    return "was made with other options, of another node, or before the rows were made again"
