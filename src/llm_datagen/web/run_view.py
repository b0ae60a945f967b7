"""The JSON of a run, for the list of runs and for the page of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.config.addresses import masked
from llm_datagen.errors import ConfigError
from llm_datagen.operators.secret_names import is_secret_name
from llm_datagen.runs.display.node_view import NodeView
from llm_datagen.runs.exports import exports_of
from llm_datagen.runs.status import INTERRUPTED, LIVE, Status
from llm_datagen.runs.store import run_ids
from llm_datagen.runs.usage import cost_of
from llm_datagen.runs.versions import split_id, version_id, version_of
from llm_datagen.shards.run_view import RunView
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.node_view import bottleneck_in, node_json, warnings_of
from llm_datagen.web.stream_view import edges_of, stream_json, streams_of

_BUSY = {*LIVE, INTERRUPTED}


def summary_json(run: RunView, folders: ResultsFolders) -> dict[str, Any]:
    """Return the JSON of a run in the list of runs.

    Args:
        run: the run, which may be unreadable.
        folders: the folders of runs that are shown.
    """
    state, views = run.state, run.nodes()
    first = views[0] if views else NodeView(node_id="")
    working = [view for view in views if view.status == Status.RUNNING]
    return {
        "run": folders.key(run.results_dir, run.pipeline_id),
        "id": run.pipeline_id,
        "folder": masked(run.results_dir),
        "status": str(run.status),
        "live": run.is_live,
        "paused": run.is_live and bool(state.get("paused")),
        "started_at": state.get("started_at") or state.get("created_at"),
        "ended_at": None if run.status in _BUSY else state.get("ended_at"),
        "updated_at": state.get("updated_at"),
        "rows_done": first.done,
        "rows_total": first.total,
        "total_is_exact": first.is_exact,
        "eta_s": _seconds_left(views) if run.is_live else None,
        "rows_per_second": (working or [first])[0].rate,
        "failed": sum(view.failed for view in views),
        "cost": cost_of(state.get("usage") or []),
        "nodes": len(views),
        "shards": None if run.whole is None else _shards(run),
        "reason": run.note or state.get("error") or state.get("reason") or "",
    }


def run_json(run: RunView, folders: ResultsFolders, home: str) -> dict[str, Any]:
    """Return the JSON of the page of a run: that of the list, and all about its nodes and streams.

    Args:
        run: the run, which may be unreadable.
        folders: the folders of runs that are shown.
        home: the directory that relative paths of the run are relative to.
    """
    state, entries = run.state, run.state.get("nodes") or []
    streams = streams_of(entries)
    inputs = {
        entry["node_id"]: [stream.key for stream in streams if entry["node_id"] in stream.readers] for entry in entries
    }
    return {
        **summary_json(run, folders),
        "config": without_secrets(state.get("config") or {}),
        "operators": [
            {
                "node_id": entry["node_id"],
                "operator": entry["operator"],
                **without_secrets(entry.get("operator_ref") or {}),
            }
            for entry in entries
        ],
        "bottleneck": bottleneck_in(entries),
        "warnings": [*warnings_of(entries), *filter(None, [run.rerun_note])],
        "budget": None,
        "usage": state.get("usage") or [],
        "versions": _versions(run),
        "exports": exports_of(state),
        "nodes": [
            node_json(
                entry,
                view,
                inputs=inputs[entry["node_id"]],
                outputs=[stream.key for stream in streams if stream.node_id == entry["node_id"]],
            )
            for entry, view in zip(entries, run.nodes(), strict=True)
        ],
        "streams": [stream_json(stream, home) for stream in streams],
        "edges": edges_of(streams),
        "failed_row": state.get("failed_row"),
        "created_at": state.get("created_at"),
        "pid": state.get("pid") if run.is_live else None,
        "host": state.get("host") if run.is_live else None,
    }


def without_secrets(value: Any) -> Any:
    """Return settings without values that are named like secrets. A run state has none: this is a second look."""
    if isinstance(value, Mapping):
        return {
            key: "***" if is_secret_name(str(key)) and isinstance(held, str) else without_secrets(held)
            for key, held in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(held) for held in value]
    return masked(value) if isinstance(value, str) and "://" in value else value


def _seconds_left(views: list[NodeView]) -> float | None:
    """Return the seconds until the last node ends; None when one of those that have not ended tells nothing."""
    left = [view.seconds_left for view in views if view.status in {Status.RUNNING, Status.PENDING}]
    known = [seconds for seconds in left if seconds is not None]
    return max(known) if known and len(known) == len(left) else None


def _shards(run: RunView) -> dict[str, Any]:
    assert run.whole is not None
    each = [shard.brief() for shard in run.whole.shards]
    running = sum(shard["status"] in LIVE for shard in each)
    return {
        "count": len(each) or run.whole.count,
        "completed": len(run.whole.numbers(Status.COMPLETED)),
        "running": running,
        "each": each,
    }


def _versions(run: RunView) -> list[str]:
    """Return the ids of all versions of a run that are there, the latest one last."""
    named = split_id(run.pipeline_id)
    of_run = named[0] if named is not None and "version_of" in run.state else run.pipeline_id
    try:
        known = {found[1] for name in run_ids(run.results_dir) if (found := split_id(name)) and found[0] == of_run}
    except (ConfigError, OSError):
        return []
    if not known:
        return []
    now = version_of(run.state)
    return [version_id(of_run, number) for number in sorted({*known, now})]
