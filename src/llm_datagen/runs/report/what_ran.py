"""Parts of a report: the run and its surroundings, its streams, and its settings."""

from __future__ import annotations

import json

from llm_datagen.runs.report.fragments import block, definitions, details, table
from llm_datagen.runs.report.model import Report
from llm_datagen.runs.report.text import moment
from llm_datagen.runs.words import cut, number

_SETTINGS_CHARS = 20_000
_NO_LIBRARIES = {"llm-datagen", "python", "system"}


def what_ran_section(report: Report) -> str:
    """Return what ran, when, where, and with which versions."""
    run = report.run
    shards = run.shards or {}
    libraries = [f"{name} {version}" for name, version in run.software.items() if name not in _NO_LIBRARIES]
    own_version = f"version {run.version}" if run.version > 1 or run.version_of else ""
    return definitions({
        "run": run.id,
        "version": f"{own_version} of {run.version_of}" if run.version_of else own_version,
        "earlier versions": ", ".join(run.earlier_versions),
        "shards": f"{shards.get('count')}, merged by {shards.get('merge')}" if shards else "",
        "started with": run.started_with,
        "where": f"process {run.pid} on {run.host}" if run.host else "",
        "results": run.results_dir,
        "created": moment(run.created_at),
        "last started": moment(run.started_at),
        "ended": moment(run.ended_at) if run.ended_at else "",
        "llm-datagen": run.software.get("llm-datagen", "not noted by the version that made the run"),
        "Python": run.software.get("python"),
        "system": run.software.get("system"),
        "libraries": ", ".join(libraries),
    })  # fmt: skip


def streams_section(report: Report) -> str:
    """Return the streams of a run and the files that it makes of its results."""
    rows = [[(stream.key, stream.uri), stream.kind, _rows(stream.rows, "?")] for stream in report.streams]
    made = [
        [(entry["kind"], entry["path"]), "export", _rows(entry.get("rows"), "not made")] for entry in report.exports
    ]
    return "<h3>Streams and exports</h3>" + table(["stream", "kind", "rows"], [*rows, *made], numbers=[2])


def settings_section(report: Report) -> str:
    """Return the settings of the pipeline, and those that single nodes have of their own."""
    of_nodes = [
        details(f"{node.node_id}: {node.operator}", _shown(node.settings), note="its own settings")
        for node in report.nodes
        if node.settings
    ]
    return "<h3>Settings</h3>" + details("the pipeline", _shown(report.settings)) + "".join(of_nodes)


def _rows(count: int | None, unknown: str) -> str:
    return unknown if count is None else number(count)


def _shown(settings: object) -> str:
    return block(cut(json.dumps(settings, indent=2, ensure_ascii=False, default=str), _SETTINGS_CHARS))
