"""The JSON of a run's part of the platform log."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_datagen.runs.logs.reader import LogEvent
from llm_datagen.runs.logs.tail import last_lines, lines_after
from llm_datagen.runs.logs.writer import DEFAULT_LOG
from llm_datagen.runs.versions import logged_as
from llm_datagen.shards.run_view import RunView

MOST_LINES = 1000


def log_json(
    run: RunView,
    home: str,
    *,
    after: str = "",
    node: str = "",
    event: str = "",
    without: str = "",
    level: str = "",
    limit: int = 200,
) -> dict[str, Any]:
    """Return some lines of the log of a run: the last ones, or those behind a place.

    Args:
        run: the run.
        home: the directory that relative paths of the run are relative to.
        after: the place, as it was returned; empty for the last lines.
        node: only lines of this node.
        event: only lines of this event, with or without brackets.
        without: no lines of this event.
        level: only lines of this level.
        limit: how many lines, at most.

    Raises:
        DiskError: when the log cannot be read.
    """
    path = _path(run, home)
    if path is None:
        return {"lines": [], "after": after, "events": []}
    wanted = _wanted(run, node, event, without, level)
    limit = max(1, min(limit, MOST_LINES))
    page = lines_after(path, after, wanted, limit) if after else last_lines(path, wanted, limit)
    return {"lines": [_line(found) for found in page.lines], "after": page.after, "events": sorted(page.events)}


def _path(run: RunView, home: str) -> Path | None:
    """Return where the log lies; None when the run keeps none, or nothing was logged yet."""
    named = run.state.get("log_file", DEFAULT_LOG)
    if not named:
        return None
    path = Path(os.path.join(home, named))  # noqa: PTH118 - what is absolute stays so
    return path if path.is_file() else None


def _bare(event: str) -> str:
    return event.strip("[]").casefold()


def _wanted(run: RunView, node: str, event: str, without: str, level: str) -> Callable[[LogEvent], bool]:
    ids = {logged_as(run.results_dir, run.pipeline_id)}
    if run.whole is not None:  # shards log to the same file, under their own ids
        ids.update(shard.run for shard in run.whole.shards if shard.run is not None)
    bare, unwanted = _bare(event), _bare(without)

    def is_wanted(found: LogEvent) -> bool:
        return (
            found.pipeline_id in ids
            and (not node or found.node_id == node)
            and (not bare or _bare(found.event) == bare)
            and (not unwanted or _bare(found.event) != unwanted)
            and (not level or found.level == level)
        )

    return is_wanted


def _line(event: LogEvent) -> dict[str, Any]:
    return {
        "timestamp": event.at.isoformat(),
        "event": event.event,
        "level": event.level,
        "node_id": event.node_id or None,
        "pipeline_id": event.pipeline_id,
        "fields": event.fields,
    }
