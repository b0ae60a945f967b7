"""The list of all runs, looked at again and again while a page shows it: what cannot have changed is not read again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from llm_datagen.errors import DatagenError, PipelineNotFoundError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.file_names import RUN_STATE
from llm_datagen.runs.status import LIVE, Status
from llm_datagen.runs.store import run_ids
from llm_datagen.shards.run_view import UNREADABLE, RunView, read_or_unreadable
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.run_view import summary_json

_Stamp = tuple[int, int, int]
"""What tells whether a run state is another one: its file, when it was written, and its size."""


class RunList:
    """Reads the runs of some folders. Any thread may use it.

    Args:
        folders: the folders.
    """

    def __init__(self, folders: ResultsFolders) -> None:
        self._folders = folders
        self._known: dict[tuple[str, str], tuple[_Stamp, dict[str, Any]]] = {}

    def look(self) -> dict[str, Any]:
        """Return the JSON of all runs, the one that was started last first; and which folders cannot be read."""
        runs: list[dict[str, Any]] = []
        warnings: list[str] = []
        known: dict[tuple[str, str], tuple[_Stamp, dict[str, Any]]] = {}
        for path in self._folders.paths:
            try:
                for pipeline_id in run_ids(path):
                    run = self._summary(path, pipeline_id, known)
                    if run is not None:
                        runs.append(run)
            except (DatagenError, OSError) as error:
                warnings.append(f"{path}: {error}")
        self._known = known
        runs.sort(key=lambda run: (run["started_at"] or "", run["id"]), reverse=True)
        return {"runs": runs, "warnings": warnings}

    def _summary(
        self, path: str, pipeline_id: str, known: dict[tuple[str, str], tuple[_Stamp, dict[str, Any]]]
    ) -> dict[str, Any] | None:
        """Return the JSON of a run, and note it in `known` if it stays so until its run state is written again."""
        folder = RunFolder(path, pipeline_id)
        stamp, before = _stamp(folder), self._known.get((path, pipeline_id))
        if stamp is not None and before is not None and before[0] == stamp:
            known[path, pipeline_id] = before
            return before[1]
        try:
            run = read_or_unreadable(folder)
        except PipelineNotFoundError:  # it was removed meanwhile, or was never one
            return None
        summary = summary_json(run, self._folders)
        if stamp is not None and _stays(run):
            known[path, pipeline_id] = stamp, summary
        return summary


def _stays(run: RunView) -> bool:
    """Return whether a run is as its own run state says, whatever locks and shards do."""
    if run.status == UNREADABLE or run.is_live or run.state["status"] in {*LIVE, Status.PENDING}:
        return False
    return run.whole is None or run.status == Status.COMPLETED


def _stamp(folder: RunFolder) -> _Stamp | None:
    """Return the stamp of a run state on this machine; None of others."""
    if folder.is_on_store:
        return None
    try:
        found = os.stat(Path(folder.path, RUN_STATE))  # noqa: PTH116
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
