"""Looking at runs: what blocks, and is done on a thread."""

from __future__ import annotations

import os
from typing import Any

from llm_datagen.errors import ConfigError, DatagenError, DiskError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.origin import origin_of
from llm_datagen.shards.run_view import all_runs, read_or_unreadable
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.run_view import run_json, summary_json


def list_of_runs(folders: ResultsFolders) -> dict[str, Any]:
    """Return the JSON of all runs, the one that was started last first; and which folders cannot be read."""
    found: list[dict[str, Any]] = []
    warnings = []
    for path in folders.paths:
        try:
            found += [summary_json(run, folders) for run in all_runs(path)]
        except (DatagenError, OSError) as error:
            warnings.append(f"{path}: {error}")
    found.sort(key=lambda run: (run["started_at"] or "", run["id"]), reverse=True)
    return {"runs": found, "warnings": warnings}


def page_of_run(folders: ResultsFolders, key: str) -> dict[str, Any]:
    """Return the JSON of a run.

    Raises:
        PipelineNotFoundError: when there is none.
        DiskError: when its folder cannot be read.
    """
    folder = folders.find(key)
    return run_json(read_or_unreadable(folder), folders, home_of(folder))


def home_of(folder: RunFolder) -> str:
    """Return the directory that relative paths of a run are relative to: where it was started, if that is known."""
    try:
        origin = origin_of(folder)
    except (ConfigError, DiskError):
        origin = None
    return os.getcwd() if origin is None else origin.cwd  # noqa: PTH109
