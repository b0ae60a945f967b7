"""The file of a run's state, ``runtime.json``: topology, settings, status, progress. What a resume starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from llm_datagen.errors import RunStateError
from llm_datagen.runs.state_types import wrong_value
from llm_datagen.streams.checksums import CHECK_FIELD, is_unaltered, with_check
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.storage.owner import now_text

FORMAT = 2
"""The version of runtime.json. In version 1, the file has no checksum of itself."""

KEEPING_FORMAT = 3
"""The version while an earlier version of the run is being made, which older versions of llm-datagen cannot finish."""

KEEP = "keep"
"""The key of the mark ``reset`` in a run state for an earlier version that is being made."""

OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
"""How the files of a run are written: people read them, too."""

_KEYS = ("pipeline_id", "status", "config", "nodes", "updated_at")
_NODE_KEYS = (
    "node_id", "operator", "input_uri", "output_uri", "is_root", "follow_input", "idle_timeout", "id_scheme",
    "parallel_size", "batch_size", "writer_config", "ordered", "executor", "delivery", "grace", "stall_after",
    "on_error", "max_errors", "retries", "retry_wait", "status", "rows_in", "rows_out",
)  # fmt: skip
"""What every version has written, at least."""


def parse(data: bytes, path: str) -> dict[str, Any]:
    """Return the run state that a file holds.

    Args:
        data: the file's bytes.
        path: the file, for errors.

    Raises:
        RunStateError: when it is of another format, was edited, or is no run state.
    """
    try:
        run_state = loads_exactly(data)
        if run_state["format"] not in {1, FORMAT, KEEPING_FORMAT}:
            raise RunStateError(
                f"{path} has format {run_state['format']}, and this version reads {FORMAT}; use the version of "
                "llm-datagen that made it"
            )
        if (run_state["format"] > 1 or CHECK_FIELD in run_state) and not is_unaltered(data):
            raise RunStateError(
                f"{path} was edited: its checksum differs; restore the file. Settings of a run are changed by "
                "create(), resume() and reconfigure, not in this file"
            )
        run_state.pop(CHECK_FIELD, None)
        _check_keys(run_state)
        if wrong := wrong_value(run_state):
            raise RunStateError(
                f"{path} is not a run state: {wrong}; restore the file, or, if a newer llm-datagen wrote it, use that"
            )
    except (ValueError, KeyError, TypeError) as error:
        why = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else repr(error)
        raise RunStateError(f"{path} is not a run state: {why}; restore the file") from error
    return dict(run_state)


def serialize(run_state: dict[str, Any]) -> bytes:
    """Return the file of a run state. Its `updated_at` is set to now."""
    is_keeping = KEEP in run_state.get("reset", {})
    run_state.update(format=KEEPING_FORMAT if is_keeping else FORMAT, updated_at=now_text())
    return with_check(dumps(run_state, option=OPTIONS))


def _check_keys(run_state: dict[str, Any]) -> None:
    """Raise a KeyError with the first key that is missing; a ValueError when there are no nodes."""
    for key in _KEYS:
        _ = run_state[key]
    if run_state["nodes"] == []:
        raise ValueError("it has no nodes")
    for node in run_state["nodes"]:
        for key in _NODE_KEYS:
            _ = node[key]


def change_settings(entry: dict[str, Any], changed: Mapping[str, Any]) -> None:
    """Change settings of a node in a run state, which notes the values before: code that still gives them is right."""
    before = {name: entry.get(name) for name, value in changed.items() if entry.get(name) != value}
    if before:
        entry["changed_from"] = before | entry.get("changed_from", {})
        entry.update(changed)
