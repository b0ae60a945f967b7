"""How far a run was, and what it had cost, over time: ``timeline.jsonl`` in its folder, for charts.

A line per point: ``{"t": time, "cost": dollars or null, "nodes": {node_id: [rows_in, rows_out, failed]}}``. Lines are
appended, and nothing waits for the medium: the run state and the streams are the truth, and a chart is not worth a run.
What a kill or a full disk leaves of a line is ignored. A resume goes on in the same file.

The longer a run lasts, the further apart are its points, so the file grows with the logarithm of its age: about 4,000
points in ten days. A run on a store has none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from llm_datagen.runs.file_names import TIMELINE
from llm_datagen.runs.store import RunFolder

SHORTEST_SECONDS = 1.0
"""How far two points are apart, at least; but for the first and the last one of an execution."""

PARTS_OF_AGE = 500
"""Into how many of these distances the age of a run can be divided, at most."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a node was, since its beginning.

    Attributes:
        rows_in: source rows that were done.
        rows_out: rows in its output.
        failed: rows that had failed.
    """

    rows_in: int
    rows_out: int
    failed: int


@dataclass(frozen=True, slots=True)
class Point:
    """A run, at one moment.

    Attributes:
        at: when.
        cost: US dollars so far; None while no price is known.
        nodes: each node's counts, by its id.
    """

    at: datetime
    cost: float | None
    nodes: Mapping[str, Counts]


class Timeline:
    """Notes points of a run while it goes on. Used by the thread that saves the run state.

    Args:
        folder: the run's; None for nodes that run without one.
    """

    def __init__(self, folder: RunFolder | None) -> None:
        self._path = _path_in(folder) if folder is not None else None
        self._last: datetime | None = None

    def note(self, run_state: Mapping[str, Any], *, is_last: bool = False) -> None:
        """Append a point if it is time to.

        Args:
            run_state: the run state that was just saved.
            is_last: whether the execution ends: then it is always time to.
        """
        if self._path is None:
            return
        now = datetime.fromisoformat(run_state["updated_at"])
        created = datetime.fromisoformat(run_state.get("created_at") or run_state["updated_at"])
        if is_last or self._is_due(now, created):
            self._last = now
            _append(self._path, _line_of(run_state))

    def _is_due(self, now: datetime, created: datetime) -> bool:
        if self._last is None:
            return True
        wait = max(SHORTEST_SECONDS, (now - created).total_seconds() / PARTS_OF_AGE)
        return abs((now - self._last).total_seconds()) >= wait  # a clock may be set back


def points(folder: RunFolder) -> list[Point]:
    """Return the points of a run, in the order in which they were noted.

    Args:
        folder: the run's. A run that an older version left, one on a store, and a run in shards that nobody drives as a
            whole have none. When rows were done again, counts go back.

    Raises:
        OSError: when the file cannot be read.
    """
    path = _path_in(folder)
    try:
        data = path.read_bytes() if path is not None else b""
    except FileNotFoundError:
        return []
    return list(_parsed(data))


def _path_in(folder: RunFolder) -> Path | None:
    return None if folder.is_on_store else folder.path / TIMELINE


def _line_of(run_state: Mapping[str, Any]) -> bytes:
    nodes = {entry["node_id"]: [entry["rows_in"], entry["rows_out"], entry["failed"]] for entry in run_state["nodes"]}
    point = {"t": run_state["updated_at"], "cost": run_state["cost"], "nodes": nodes}
    return orjson.dumps(point, option=orjson.OPT_APPEND_NEWLINE)


def _append(path: Path, line: bytes) -> None:
    """Append a line, behind a line end if the last one is torn. A system that refuses costs a point."""
    try:
        with path.open("ab+", buffering=0) as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
    except OSError:
        return


def _parsed(data: bytes) -> Iterator[Point]:
    for line in data.splitlines():
        try:
            fields = orjson.loads(line)
            yield Point(
                datetime.fromisoformat(fields["t"]),
                fields["cost"],
                {node_id: Counts(*counts) for node_id, counts in fields["nodes"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError):  # torn
            continue
