"""The exports of a run: files of other formats that it makes of its last stream, once that is sealed.

The last stream stays the truth: a run is completed when it is sealed, and its exports are there. A run that was killed
in between makes them when it is resumed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_datagen.config import DataConfig
from llm_datagen.errors import ConfigError, StreamError, StreamExistsError
from llm_datagen.runs.export_entries import KEY
from llm_datagen.runs.output_node import output_of
from llm_datagen.streams import Stream, StreamFactory
from llm_datagen.streams.outputs import (
    ExportOptions,
    Target,
    UnfitRows,
    Work,
    check_fit,
    check_parts,
    export_rows,
    place_of,
)
from llm_datagen.streams.outputs.arrow_types import schema_given
from llm_datagen.streams.outputs.options import CSV_OPTIONS
from llm_datagen.streams.outputs.side_by_side import may_be_part, names, real, why_not_both
from llm_datagen.streams.outputs.template import Template

TO = "to"
"""Where the target stands in an export that is given with options."""

_MADE = ("rows", "failed", "parts")
"""What a run state says of an export once it is there."""

_FIELD = re.compile(r"\{[^{}/]*\}")
"""What parts rows: a shard, or a column. A stream has none in its name."""

_KINDS = ("parquet:", "hf-folder:", "chatml:")


def is_export(uri: Any) -> bool:
    """Return whether an output is made at the end, and is no stream that rows are appended to."""
    text = os.fspath(uri) if isinstance(uri, str | os.PathLike) else ""
    return text.startswith(_KINDS) or text.lower().endswith(".parquet") or _is_parted(text)


def _is_parted(text: str) -> bool:
    """Return whether rows go into a path by their values; a folder that is there has its braces in its name."""
    folder, _, name = text.rpartition("/")
    if _FIELD.search(name):
        return True
    return _FIELD.search(folder) is not None and not Path(folder.rpartition("://")[2]).is_dir()


def export_of(given: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return an export as a run state has it: its target, absolute, and its options.

    Args:
        given: the target, or ``{"to": target, option: value}``.
        defaults: the options that it does not say, as far as they are about such a target.

    Raises:
        ConfigError: when the target or an option is none, or a type of the schema.
    """
    said = dict(given) if isinstance(given, Mapping) else {TO: given}
    if TO not in said:
        raise ConfigError(f'an export needs a target, such as {{"to": "out.parquet"}}, not {given!r}')
    target = Target.of(said.pop(TO)).absolute()
    of_others = set() if target.is_sharded else {"rows_per_shard", "bytes_per_shard"}
    of_others |= set() if target.kind in {"parquet", "hf-folder", "csv"} else {"schema"}
    of_others |= set() if target.kind == "csv" else CSV_OPTIONS
    options = {**{name: value for name, value in defaults.items() if name not in of_others}, **said}
    if isinstance(options.get("schema"), Mapping):
        options["schema"] = dict(options["schema"])
        schema_given(options["schema"])
    elif isinstance(options.get("schema"), str | os.PathLike):
        options["schema"] = str(Path(options["schema"]).absolute())
    elif options.get("schema") is not None:
        raise ConfigError("the schema of an export of a pipeline is {column: type name}, or the path of a table")
    check_fit(target, ExportOptions.of(options))
    return {"kind": target.kind, "path": target.path, "options": options}


def rows_of_node(entry: Mapping[str, Any]) -> Stream:
    """Return the stream that a node has written, to be read."""
    data = entry.get("data_config")
    stream = StreamFactory.create(entry["output_uri"])
    return stream if data is None else stream.with_data(DataConfig.of(data))


def check_exports(
    run_state: Mapping[str, Any], uses: Mapping[str, str], *, overwrite: bool, old: Mapping[str, Any] | None = None
) -> None:
    """Check that a new run may make its exports where they are to be. Nothing is touched.

    Args:
        run_state: that of the new run.
        uses: the files that it reads and writes, with what lies there.
        overwrite: whether what a run of the same id has made there may be removed.
        old: the run state of that run.

    Raises:
        ConfigError: when two of them are one file, or are to put the same `_SUCCESS`; or as `check_schema_files`.
        StreamExistsError: when something is there already.
        StreamError: when one is to be in a store without conditional puts.
    """
    check_schema_files(run_state)
    targets = targets_of(run_state)
    replaced = {target.path for target in targets_of(old or {})} if overwrite else set()
    for number, target in enumerate(targets):
        Template.of(target.path).check_apart()
        for path, what in uses.items():
            if real(path) in names(target) or may_be_part(target, path):
                raise ConfigError(
                    f"{target.path} would be an export, and {path} is {what} in the same run: a name that a file of "
                    "this export has, or may have; give one of them another path"
                )
        for other in targets[:number]:
            if (why := why_not_both(other, target)) is not None:
                raise ConfigError(
                    f"{other.path} and {target.path} are two exports, and {why}; give each a folder, or a name, of its "
                    "own"
                )
        work = _work(target)
        work.check_place()
        made = work.manifest() or work.plan()
        if made is not None and overwrite and made.get("owner") == run_state["pipeline_id"]:
            continue
        if made is not None:
            raise StreamExistsError(
                f"{target.path} was made by {_maker(made)} already; choose another path, remove it, or start that run "
                "afresh"
            )
        work.refuse_taken(whose="no export made it", replaced=replaced)


def check_schema_files(run_state: Mapping[str, Any]) -> None:
    """Check that the tables can be read whose columns say the types of exports.

    Raises:
        ConfigError: when one is not there, is no table, or has a type that JSON values cannot be.
    """
    for entry in run_state.get(KEY, ()):
        if isinstance(path := entry["options"].get("schema"), str):
            schema_given(path)


def remove_exports(run_state: Mapping[str, Any] | None) -> None:
    """Remove the exports that the run of a run state has made, and nothing that another one has."""
    for target in targets_of(run_state or {}):
        work = _work(target)
        made = work.manifest() or work.plan()
        if made is not None and made.get("owner") == (run_state or {})["pipeline_id"]:
            with work.locked():
                work.remove_outputs()


def are_made(run_state: Mapping[str, Any]) -> bool:
    """Return whether every export of a run is there, made of its last stream as it is now."""
    if not run_state.get(KEY):
        return True
    stream = rows_of_node(output_of(run_state))
    if not stream.is_sealed():
        return False
    seal = stream.read_seal()
    for target in targets_of(run_state):
        work = _work(target)
        made = work.manifest()
        if made is None or (seal is not None and made["source"].get("sealed_at") != seal.sealed_at):
            return False
        if target.success_path is not None and work.place.size(target.success_path) is None:
            return False
    return True


def forget_made(run_state: dict[str, Any]) -> None:
    """Note in a run state that its exports are to be made, or made again."""
    for entry in run_state.get(KEY, ()):
        for name in _MADE:
            entry.pop(name, None)


def make_exports(run_state: dict[str, Any], stopped: Callable[[], bool], rows: Stream | None = None) -> list[str]:
    """Make the exports of a run whose streams are sealed, and note them in its run state.

    Args:
        run_state: the run state.
        stopped: asked between rows; when it returns True, what was begun is gone on with later.
        rows: the rows with their ids; None: those that its last node has written.

    Returns:
        What is to be told: of rows that do not fit.

    Raises:
        StreamError: when one cannot be made.
        StopRun: when it was stopped.
    """
    notes = []
    forget_made(run_state)
    for entry, target in zip(run_state.get(KEY, ()), targets_of(run_state), strict=True):
        stream = rows or rows_of_node(output_of(run_state))
        work = _work(target)
        made = work.manifest() or work.plan()
        is_own = made is not None and made.get("owner") == run_state["pipeline_id"]
        done = export_rows(
            stream,
            target,
            ExportOptions.of(entry["options"]),
            owner=run_state["pipeline_id"],
            overwrite=is_own,
            stopped=stopped,
        )
        entry.update(zip(_MADE, (done.rows, done.failed, len(done.parts)), strict=True))
        notes += done.warnings
    return notes


def unfit_rows(run_state: Mapping[str, Any]) -> list[UnfitRows]:
    """Return which of the exports that a run has made lack rows, as these do not fit."""
    made = zip(run_state.get(KEY, ()), targets_of(run_state), strict=True)
    return [UnfitRows.of(target, entry["failed"]) for entry, target in made if entry.get("failed")]


def verify_exports(run_state: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the exports of a run that is completed: nothing, if each is whole."""
    findings = []
    for target in targets_of(run_state):
        work = _work(target)
        try:
            manifest = work.manifest()
        except StreamError as error:
            findings.append(str(error))
            continue
        if manifest is None:
            if run_state["status"] == "completed":
                findings.append(f"{target.manifest_path} is gone; resume the run, which exports again")
        else:
            findings += check_parts(target, manifest, work.place)
    return findings


def exports_in(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the exports that the settings of a line say: the output, if it is one, and those of `also`."""
    named: Sequence[Any] = settings.get("also") or ()
    ids = {"keep_ids": settings["keep_ids"], "id_column": settings["id_column"]}
    defaults = {**ids, **(settings.get("export_options") or {})}
    output = settings["output_uri"]
    return [export_of(given, defaults) for given in ([output] if is_export(output) else []) + list(named)]


def targets_of(run_state: Mapping[str, Any]) -> list[Target]:
    """Return where the exports of a run go."""
    return [Target(entry["kind"], entry["path"]) for entry in run_state.get(KEY, ())]


def _work(target: Target) -> Work:
    return Work(target, place_of(target))


def _maker(made: Mapping[str, Any]) -> str:
    return f"the run {made['owner']!r}" if made.get("owner") else "an export"
