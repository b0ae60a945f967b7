"""An export of a run that has ended: any number of formats, at any time after it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.runs.card import card_of
from llm_datagen.runs.exports import rows_stream
from llm_datagen.runs.hub import HubTarget, push
from llm_datagen.runs.status import ENDED, SETTLED, Status
from llm_datagen.runs.versions import find_run
from llm_datagen.streams.outputs import Exported, ExportOptions, Target, export_rows, place_of
from llm_datagen.streams.outputs.paths import joined, name_of


def export(
    pipeline_id: str,
    to: str | os.PathLike[str],
    *,
    results_dir: str | os.PathLike[str] = "tmp/results",
    card: bool = False,
    license: str | None = None,
    overwrite: bool = False,
    public: bool = False,
    **options: Any,
) -> Exported:
    """Make files of another format of the results of a run; when cut short, call it again.

    Args:
        pipeline_id: the run, which is completed, or has ended with all rows done and an export of its own not made.
        to: where to, and in which format: ``out.parquet``, ``out-{shard:05}.jsonl.zst``, ``parquet:PATH``,
            ``csv:PATH``, ``chatml:PATH``, ``hf-folder:DIR``, where paths may be addresses in an object store, such as
            ``s3://bucket/out.parquet``; or ``hf://org/name``, a data set of the Hugging Face hub.
        results_dir: the folder of the runs.
        card: whether a README.md about the rows is put beside the files, if there is none; on the hub, there is always.
        license: the licence, for the card.
        overwrite: whether what another export has made there is removed first.
        public: whether a data set that is made on the hub can be seen by all.
        options: those of `ExportOptions`: ``rows_per_shard``, ``keep_ids``, ``id_column``, ``schema``, ….

    Returns:
        What was made. Rows that do not fit are counted: `failed`.

    Raises:
        PipelineNotFoundError: when there is no such run.
        ConfigError: on a wrong option, or when the run is not completed.
        StreamExistsError: when the target is there already, and was made from something else.
        StreamBusyError: when another process exports there.
        DiskError: when the disk, or the store, refuses.
        HubError: when the hub does.
    """
    folder = find_run(results_dir, pipeline_id)
    run_state = folder.load()
    if not _has_all_rows(run_state):
        raise ConfigError(
            f"run {pipeline_id!r} is {run_state['status']}, and only completed runs are exported; resume it first"
        )
    _, stream = rows_stream(run_state)
    hub = HubTarget.of(to)
    if hub is not None and "rows_per_shard" not in options and "bytes_per_shard" not in options:
        options["bytes_per_shard"] = hub.shard_bytes
    target = Target.of(to) if hub is None else hub.files_in(folder)
    made = export_rows(
        stream, target, ExportOptions.of(options), owner=folder.pipeline_id, overwrite=overwrite or hub is not None
    )
    if hub is not None:
        push(hub, made, card_of(run_state, made, license=license, title=hub.name), public=public)
    elif card:
        place, path = place_of(made.target), joined(made.target.root, "README.md")
        if place.size(path) is None:
            text = card_of(run_state, made, license=license, title=Path(name_of(made.target.base)).stem)
            place.replace(path, text.encode())
    return made


def _has_all_rows(run_state: Mapping[str, Any]) -> bool:
    """Return whether no rows will come: the run is completed, or all it lacked at its end was an export of its own."""
    if run_state["status"] == Status.COMPLETED:
        return True
    return run_state["status"] in ENDED and all(entry.get("status") in SETTLED for entry in run_state["nodes"])
