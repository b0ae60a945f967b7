"""The end of a run in shards: its outputs and exports are made of what the shards have, and it is completed.

It may be killed at any point, and is then done again: what is there stays. Who runs the whole does it by itself; where
each shard was run by itself, ``llm-datagen gather ID`` does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llm_datagen.errors import ConfigError, RunStateError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.seen import SeenRun
from llm_datagen.runs.sharded import SHARDS, is_sharded
from llm_datagen.runs.status import Status
from llm_datagen.runs.versions import find_run
from llm_datagen.shards.gathered import Gathered, ShardState
from llm_datagen.shards.spec import shards_folder
from llm_datagen.shards.whole import Whole
from llm_datagen.streams.storage.owner import now_text


def gather(
    results_dir: str | os.PathLike[str], pipeline_id: str, *, stopped: Callable[[], bool] = lambda: False
) -> Sequence[str]:
    """Make the outputs and exports of a run whose shards are all completed, and complete it.

    Args:
        results_dir: the folder of the runs, or its URI.
        pipeline_id: the run.
        stopped: asked between rows of exports; when it returns True, what was begun is gone on with later.

    Returns:
        What is to be told: of rows that do not fit into an export.

    Raises:
        PipelineNotFoundError: when there is no such run.
        ConfigError: when it is not in shards.
        RunError: when some shards are not completed; says which, and what to do.
        PipelineBusyError: when it is being run or gathered.
        StreamExistsError: when somebody else's rows are where an output goes.
        StreamError: when an output or an export cannot be made.
        StopRun: when it was stopped.
        DiskError: when the disk, or the store, refuses.
    """
    folder = find_run(results_dir, pipeline_id)
    whole = Whole.find(folder)
    if whole is None:
        raise ConfigError(f"run {pipeline_id!r} is not in shards, so there is nothing to gather")
    whole.refuse_unfinished()
    folder.lock.acquire()
    try:
        run_state = folder.load()
        was_completed = run_state["status"] == Status.COMPLETED
        notes = gather_locked(folder, run_state, stopped)
        if was_completed and run_state == folder.load():
            return notes
        seen = Whole.of(folder, SeenRun(run_state, run_state["status"])).see().state
        run_state["nodes"] = seen["nodes"]
        for name in ("usage", "cost", "started_at"):
            run_state[name] = seen.get(name)
        run_state.update(status=str(Status.COMPLETED), reason="", error=None, failed_row=None, ended_at=now_text())
        folder.save(run_state)
        return notes
    finally:
        folder.lock.release()


def gather_locked(
    folder: RunFolder, run_state: dict[str, Any], stopped: Callable[[], bool] = lambda: False
) -> Sequence[str]:
    """Make the outputs and exports of a run that this process has locked, as `gather` does; nothing is saved.

    Args:
        folder: that of the run.
        run_state: its run state; the exports are noted in it.
        stopped: as for `gather`.
    """
    whole = Whole.of(folder, SeenRun(run_state, run_state["status"]))
    whole.refuse_unfinished()
    return whole.gathered(run_state).make(stopped)


def remove_gathered(folder: RunFolder) -> None:
    """Remove the outputs and exports of a run in shards that this process has locked; nothing of anybody else.

    Args:
        folder: that of the run; of one that is not in shards, nothing is removed.

    Raises:
        DiskError: when they cannot be removed.
    """
    run_state = folder.load()
    if not is_sharded(run_state):
        return
    try:
        gathered = Whole.of(folder, SeenRun(run_state, run_state["status"])).gathered(run_state)
    except RunStateError:  # of a shard, or plan or spec, which say how many there are: it is damaged, and goes, too
        numbers = _numbers_in(folder) or range(run_state[SHARDS]["count"])
        shards = [ShardState(number, "", {}) for number in numbers]
        gathered = Gathered(run_state, shards, run_state[SHARDS]["merge"])
    gathered.remove()


def _numbers_in(folder: RunFolder) -> set[int]:
    """Return the numbers of the shards of a run on this machine that have a folder."""
    shards = Path(shards_folder(folder).location)
    if folder.is_on_store or not shards.is_dir():
        return set()
    found = (re.fullmatch(r"(\d{5,})(\.\d+)?", path.name) for path in shards.iterdir())
    return {int(match[1]) for match in found if match}
