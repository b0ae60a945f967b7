"""A run as it is seen from outside: its run state may still name a process that is dead."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from llm_datagen.runs.status import INTERRUPTED, LIVE, Status
from llm_datagen.runs.store import RunFolder
from llm_datagen.runs.typed_commands import command_line


@dataclass(frozen=True, slots=True)
class SeenRun:
    """A run, and whether a process runs it.

    Attributes:
        state: its run state.
        status: its true status: "interrupted" when its run state says that it is running, and its process is dead.
        is_live: whether a process runs it.
        note: what else to show.
    """

    state: dict[str, Any]
    status: str
    is_live: bool = False
    note: str = ""


def see(folder: RunFolder) -> SeenRun:
    """Return a run with its true status.

    Raises:
        PipelineNotFoundError: when there is none.
        RunStateError: when its run state cannot be read.
    """
    seen = _saved(folder)
    if seen.status in {*LIVE, Status.PENDING}:
        if folder.lock.is_held():
            return replace(seen, is_live=True)
        seen = _saved(folder)  # its last run state is saved before the lock is free
    if seen.status in LIVE:
        owner = folder.lock.owner()
        if (far := folder.lock.owner_elsewhere()) is not None:
            return replace(seen, is_live=True, note=f"by {far}, whose lock cannot be seen from here")
        who = f"process {owner.pid} on {owner.host}" if owner is not None and owner.is_elsewhere else "the process"
        resume = command_line("resume", folder.pipeline_id, folder.results_dir)
        return replace(seen, status=INTERRUPTED, note=f"{who} is gone; resume it: {resume}")
    return seen


def _saved(folder: RunFolder) -> SeenRun:
    run_state = folder.load()
    return SeenRun(run_state, run_state["status"])
