"""An export of a run that has ended, in shards or not: any number of formats, at any time after it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from llm_datagen.runs.export_run import check_has_all_rows, export_rows_of
from llm_datagen.runs.exports import rows_of_node
from llm_datagen.runs.output_node import output_of
from llm_datagen.runs.seen import SeenRun
from llm_datagen.runs.sharded import is_sharded
from llm_datagen.runs.versions import find_run
from llm_datagen.streams.outputs import Exported


def export(
    pipeline_id: str,
    to: str | os.PathLike[str],
    *,
    node: str | None = None,
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
        node: the node whose rows are meant, by its id, its number, or its operator's name; None: the one that writes
            the output of the run.
        results_dir: the folder of the runs.
        card: whether a README.md about all exports of the run in that folder is put beside the files; on the hub, there
            is always one. One of this run is made anew, unless somebody has edited it.
        license: the licence, for the card; None: the one that the card has.
        overwrite: whether what another export has made there is removed first.
        public: whether a data set that is made on the hub can be seen by all.
        options: those of `ExportOptions`: ``rows_per_shard``, ``keep_ids``, ``id_column``, ``schema``, ….

    Returns:
        What was made. Rows that do not fit are counted: `failed`.

    Raises:
        PipelineNotFoundError: when there is no such run.
        ConfigError: on a wrong option, or when the run is not completed; when it has several outputs, and no node was
            named; when there is no such node.
        RunError: when shards of it are not.
        StreamExistsError: when the target is there already, and was made from something else; or, with `card`, a
            README.md is there that is no card of this run, or was edited.
        StreamBusyError: when another process exports there.
        DiskError: when the disk, or the store, refuses.
        HubError: when the hub does.
    """
    folder = find_run(results_dir, pipeline_id)
    run_state = folder.load()
    how: Mapping[str, Any] = {"card": card, "license": license, "overwrite": overwrite, "public": public, **options}
    entry = output_of(run_state, node)
    if is_sharded(run_state):
        from llm_datagen.shards.whole import Whole

        whole = Whole.of(folder, SeenRun(run_state, run_state["status"]))
        whole.refuse_unfinished()
        return export_rows_of(folder, run_state, entry, whole.gathered(run_state).joined, to, **how)
    check_has_all_rows(run_state)
    return export_rows_of(folder, run_state, entry, rows_of_node, to, **how)
