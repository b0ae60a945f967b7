"""The JSON of a run, for the list of runs and for the page of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.runs.export_entries import exports_of
from llm_datagen.runs.exports import unfit_rows
from llm_datagen.runs.limit import shards_begun
from llm_datagen.runs.masking import masked, masked_uri
from llm_datagen.runs.status import INTERRUPTED, LIVE, Status
from llm_datagen.runs.versions import kept_versions, split_id, version_id, version_of
from llm_datagen.shards.run_view import RunView
from llm_datagen.web.budgets import budget_json
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.node_view import node_json, warnings_of
from llm_datagen.web.stream_view import edges_of, stream_json, streams_of

_BUSY = {*LIVE, INTERRUPTED}


def summary_json(run: RunView, folders: ResultsFolders) -> dict[str, Any]:
    """Return the JSON of a run in the list of runs.

    Args:
        run: the run, which may be unreadable.
        folders: the folders of runs that are shown.
    """
    state, progress = run.state, run.progress
    return {
        "run": folders.key(run.results_dir, run.pipeline_id),
        "id": run.pipeline_id,
        "folder": masked_uri(run.results_dir),
        "status": str(run.status),
        "live": run.is_live,
        "paused": run.is_live and bool(state.get("paused")),
        "started_at": state.get("started_at") or state.get("created_at"),
        "ended_at": None if run.status in _BUSY else state.get("ended_at"),
        "updated_at": state.get("updated_at"),
        "rows_done": progress.rows_done,
        "rows_total": progress.rows_total,
        "total_is_exact": progress.total_is_exact,
        "share": progress.share,
        "eta_s": progress.seconds_left,
        "rows_per_second": progress.rows_per_second,
        "failed": progress.failed,
        "cost": progress.cost,
        "nodes": len(progress.nodes),
        "shards": None if run.whole is None else _shards(run),
        "reason": run.note or state.get("error") or state.get("reason") or "",
    }


def run_json(run: RunView, folders: ResultsFolders, home: str, given: Mapping[str, float | int]) -> dict[str, Any]:
    """Return the JSON of the page of a run: that of the list, and all about its nodes and streams.

    Args:
        run: the run, which may be unreadable.
        folders: the folders of runs that are shown.
        home: the directory that relative paths of the run are relative to.
        given: what the last resume was given to spend; see `Origin.caps`.
    """
    state, progress, entries = run.state, run.progress, run.state.get("nodes") or []
    streams = streams_of(entries)
    inputs = {
        entry["node_id"]: [stream.key for stream in streams if entry["node_id"] in stream.readers] for entry in entries
    }
    return {
        **summary_json(run, folders),
        "shards": None if run.whole is None else {**_shards(run), "each": [each.brief() for each in run.whole.shards]},
        "config": masked(state.get("config") or {}),
        "operators": [
            {
                "node_id": entry["node_id"],
                "operator": entry["operator"],
                **masked(entry.get("operator_ref") or {}),
            }
            for entry in entries
        ],
        "bottleneck": progress.limit,
        "warnings": [
            *warnings_of(entries, progress.nodes),
            *map(str, unfit_rows(state)),
            *filter(None, [run.rerun_note, run.counts_note]),
        ],
        "budget": budget_json(run, given),
        "jobs": [{**job.as_dict(), "endpoint": masked_uri(job.endpoint)} for job in run.jobs],
        "jobs_in_words": run.jobs_in_words,
        "usage": state.get("usage") or [],
        "versions": _versions(run),
        "exports": exports_of(state),
        "nodes": [
            node_json(
                entry,
                view,
                shards=shards_begun(state),
                inputs=inputs[entry["node_id"]],
                outputs=[stream.key for stream in streams if stream.node_id == entry["node_id"]],
            )
            for entry, view in zip(entries, progress.nodes, strict=True)
        ],
        "streams": [stream_json(stream, home, is_sharded=run.whole is not None) for stream in streams],
        "edges": edges_of(streams),
        "failed_row": state.get("failed_row"),
        "created_at": state.get("created_at"),
        "pid": state.get("pid") if run.is_live else None,
        "host": state.get("host") if run.is_live else None,
    }


def _shards(run: RunView) -> dict[str, int]:
    assert run.whole is not None
    return {
        "count": len(run.whole.shards) or run.whole.count,
        "completed": len(run.whole.numbers(Status.COMPLETED)),
        "running": len(run.whole.numbers(*LIVE)),
    }


def _versions(run: RunView) -> list[str]:
    """Return the ids of all versions of a run that are there, the latest one last."""
    named = split_id(run.pipeline_id)
    of_run = named[0] if named is not None and "version_of" in run.state else run.pipeline_id
    try:
        known = kept_versions(run.results_dir, of_run)
    except (ConfigError, OSError):
        return []
    return [version_id(of_run, number) for number in sorted({*known, version_of(run.state)})] if known else []
