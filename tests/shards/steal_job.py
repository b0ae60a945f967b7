"""A driver of a run in two shards, the first of which gives rows away: ``steal_job.py '{…}'`` runs it, or goes on.

The job: `folder`, where all files lie; `kill`, who is killed ("worker", "driver", "both" or ""), and `at`, when: before
or after the "note" of the shard, the "plan" is split, or the new shard is begun ("start"). Once: ``killed`` says so.
`nap`: seconds that each call in the first shard takes; None: a row of it waits until there is a third one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, INodeContext, UnifiedPipeline
from llm_datagen.actors.run_state import RunState
from llm_datagen.shards import splitter
from llm_datagen.shards.local import LocalExecutor
from llm_datagen.shards.pipeline import ShardedPipeline
from llm_datagen.shards.plan_file import PlanFile

WAITS_AT = 3
"""The row that waits until rows behind it were given away."""

SLOW_BEFORE = 200

PATIENCE_SECONDS = 60.0


class Noting(BaseOperator):
    """Notes each call in a file, and makes `n % 3` children of a row; the second one in 20 rows fails."""

    version = "1"

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job

    def setup(self) -> None:
        """Set the trap, in the worker."""
        trap(self.job, RunState, "input_ends", "note")

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the children."""
        folder = Path(self.job["folder"])
        time.sleep((self.job["nap"] or 0.0) if item["n"] < SLOW_BEFORE else 0.0)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.job["nap"] is None and item["n"] == WAITS_AT and not (folder / "results/a/shards/00002").exists():
            if time.monotonic() > deadline:
                raise AssertionError("no rows were given away")
            time.sleep(0.01)
        fd = os.open(folder / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{item['n']}\n".encode())
        os.close(fd)
        if item["n"] % 20 == 1:
            raise ValueError("one")
        return [{"n": item["n"], "k": k} for k in range(item["n"] % 3)]


def same(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row."""
    return row


def trap(job: dict[str, Any], of: Any, name: str, step: str) -> None:
    """Have a method kill this process, its parent, or both, before or after it has done its work."""
    if step not in job["at"]:
        return
    method: Callable[..., Any] = getattr(of, name)

    def trapped(*args: Any) -> Any:
        if job["at"] == f"before {step}":
            kill(job)
        result = method(*args)
        if job["at"] == f"after {step}":
            kill(job)
        return result

    setattr(of, name, trapped)


def kill(job: dict[str, Any]) -> None:
    """Kill who is to be killed, once."""
    try:
        os.close(os.open(Path(job["folder"], "killed"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    if job["kill"] == "both":
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


class Starting(LocalExecutor):
    """Has the trap before a new shard is begun."""

    def start(self, job: Any) -> Any:
        """Begin to run a shard."""
        if job.number == 2 and "start" in self.job["at"]:
            kill(self.job)
        return super().start(job)

    job: dict[str, Any]


def main(job: dict[str, Any]) -> None:
    """Do the job."""
    splitter.LEAST_SECONDS, splitter.AGAIN_SECONDS = 0.0, 0.05
    trap(job, PlanFile, "split", "plan")
    executor = Starting(2)
    executor.job = job
    folder = Path(job["folder"])
    pipeline = UnifiedPipeline(
        [Noting(job), same],
        f"jsonl://{folder}/in.jsonl",
        f"jsonl://{folder}/out.jsonl",
        streaming=True,
        ordered=True,
        batch_size=1,
        on_error="dead_letter",
        results_dir=folder / "results",
        log_file=folder / "platform.log",
        writer_config={"flush_interval": 0.02, "fsync": "never"},
    )
    sharded = ShardedPipeline(pipeline, shards=2, executor=executor, merge="concat")
    print(sharded.create("a", if_exists="resume").run(progress=False), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
