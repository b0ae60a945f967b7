"""An export of a run that has ended: any number of formats, at any time after it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.runs.card import card_of
from llm_datagen.runs.card_file import CardFile
from llm_datagen.runs.card_parts import CardPart, parts_of
from llm_datagen.runs.hub import HubTarget, push
from llm_datagen.runs.node_kinds import Entry
from llm_datagen.runs.status import ENDED, SETTLED, Status
from llm_datagen.runs.store import RunFolder
from llm_datagen.streams import Stream
from llm_datagen.streams.outputs import Exported, ExportOptions, Target, export_rows
from llm_datagen.streams.outputs.paths import name_of
from llm_datagen.streams.outputs.template import Template


def export_rows_of(
    folder: RunFolder,
    run_state: Mapping[str, Any],
    entry: Entry,
    rows_of: Callable[[Entry], Stream],
    to: str | os.PathLike[str],
    *,
    card: bool = False,
    license: str | None = None,
    overwrite: bool = False,
    public: bool = False,
    **options: Any,
) -> Exported:
    """Make files of another format of the rows of a run; see `export`.

    Args:
        folder: that of the run.
        run_state: its run state.
        entry: the node whose rows they are.
        rows_of: opens the rows that a node has written, with their ids.
        to: where to, and in which format.
        card: whether a README.md about all exports of the run in that folder is put beside the files; on the hub, there
            is always one.
        license: the licence, for the card; None: the one that the card has.
        overwrite: whether what another export has made there is removed first.
        public: whether a data set that is made on the hub can be seen by all.
        options: those of `ExportOptions`.

    Raises:
        ConfigError: on a wrong option, or a target whose paths do not tell values apart.
        StreamExistsError: when the target is there already, and was made from something else; or, with `card`, a
            README.md is there that is no card of this run, or was edited.
        StreamBusyError: when another process exports there.
        DiskError: when the disk, or the store, refuses.
        HubError: when the hub does.
    """
    hub = HubTarget.of(to)
    if hub is not None and "rows_per_shard" not in options and "bytes_per_shard" not in options:
        options["bytes_per_shard"] = hub.shard_bytes
    target = Target.of(to).absolute() if hub is None else hub.files_in(folder)
    Template.of(target.path).check_apart()
    before = CardFile.beside(target, folder.pipeline_id) if card and hub is None else None
    if before is not None:
        before.check(overwrite=overwrite)
    made = export_rows(
        rows_of(entry),
        target,
        ExportOptions.of(options),
        owner=folder.pipeline_id,
        overwrite=overwrite or hub is not None,
    )
    if hub is not None:
        part = CardPart(entry, made, made.columns or {})
        push(hub, made, card_of(run_state, [part], license=license, title=hub.name), public=public)
    elif before is not None:
        parts = parts_of(made, entry, run_state, rows_of)
        title = Path(name_of(target.base)).stem if len(parts) == 1 else name_of(target.root) or target.root
        file = CardFile.beside(target, folder.pipeline_id)  # again, as the export may have lasted for hours
        if not file.may_follow(before):
            note = (
                f"{file.path} was written by somebody else during the export, so it is left as it is, and no card is "
                "made; move it away, and export again"
            )
            return replace(made, notes=(note,))
        file.put(target, card_of(run_state, parts, license=license or file.license, title=title))
    return made


def check_has_all_rows(run_state: Mapping[str, Any]) -> None:
    """Check that no rows will come: the run is completed, or all it lacked at its end was an export of its own.

    Raises:
        ConfigError: when some may.
    """
    if run_state["status"] == Status.COMPLETED:
        return
    if run_state["status"] in ENDED and all(entry.get("status") in SETTLED for entry in run_state["nodes"]):
        return
    raise ConfigError(
        f"run {run_state['pipeline_id']!r} is {run_state['status']}, and only completed runs are exported; resume it "
        "first"
    )
