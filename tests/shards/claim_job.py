"""A worker of shard 3, to be killed and stopped: ``claim_job.py '{…}'`` takes the shard, and runs it to its end.

The job: `folder` (marks, and what workers say, lie in it), `shards` (a path or an address), `input`, `name` of the
worker, `lease` in seconds, `nap` of a call at most, `seed`; `held`: the row at which it waits for the file `go`;
`signal`: what it sends itself when it has made the copy of a shard that it takes over; `of`: a run in shards whose
shard it is, in the folder of runs `results`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, DatagenError, INodeContext, UnifiedNode, UnifiedNodePipeline
from llm_datagen.runs import RunFolder, on_store
from llm_datagen.shards import claim, file_claim, shard_run
from llm_datagen.shards.spec import shards_folder
from llm_datagen.streams.storage import lease, owner

NUMBER = 3


class Slow(BaseOperator):
    """Naps, notes the row in its own folder, and changes nothing."""

    version = "1"  # jobs nap as long as they are told to

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.chance = random.Random(job.get("seed", 0))

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row."""
        job = self.job
        if item["n"] == job.get("held"):
            Path(job["folder"], f"held.{job['name']}").touch()
            while not Path(job["folder"], "go").exists():
                time.sleep(0.005)
        time.sleep(job["nap"] * self.chance.random())
        if ctx.folder is not None:
            ctx.folder.mkdir(parents=True, exist_ok=True)
            with (ctx.folder / "seen").open("a") as seen:
                seen.write(f"{item['n']}\n")
        return item


class Double(BaseOperator):
    """Makes `n % 3` children of a row; a row in 20 fails."""

    version = "1"

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the children."""
        if item["n"] % 20 == 7:
            raise ValueError("seven")
        return [{"n": item["n"], "k": k} for k in range(int(item["n"]) % 3)]


def expected(rows: int) -> list[tuple[int, int]]:
    """Return what becomes of so many rows."""
    return [(n, k) for n in range(rows) if n % 20 != 7 for k in range(n % 3)]


def pipeline_of(job: dict[str, Any], run_id: str) -> UnifiedNodePipeline:
    """Return the pipeline of the shard: two nodes, the second of which follows the first."""
    place = f"{job['shards']}/{run_id}"
    protocol = "" if "://" in place else "jsonl://"
    nodes = [
        UnifiedNode(
            name, 2, 4, follow_input=name == "double", writer_config={"flush_interval": 0.02}, on_error="dead_letter"
        )
        for name in ("slow", "double")
    ]
    nodes[0].bind_io(job["input"], f"{protocol}{place}/middle.jsonl").set_operator(Slow(job))
    nodes[1].bind_io(f"{protocol}{place}/middle.jsonl", f"{protocol}{place}/out.jsonl").set_operator(Double())
    return UnifiedNodePipeline(nodes, results_dir=job["shards"], log_file=None)


def patch(job: dict[str, Any]) -> None:
    """Be another machine, where there is a store; have the signal sent."""
    if "://" in job["shards"]:
        lease.LEASE_SECONDS, on_store.SAVE_SECONDS = job["lease"], 0.05
        owner.machine = lambda: job["name"]  # type: ignore[assignment]
    if "signal" in job:
        move_to = file_claim.HeldClaim.move_to

        def late(held: file_claim.HeldClaim, path: Path) -> None:
            Path(job["folder"], f"signal.{job['name']}").touch()
            os.kill(os.getpid(), signal.Signals[job["signal"]])
            move_to(held, path)

        file_claim.HeldClaim.move_to = late  # type: ignore[method-assign, assignment]


def run_shard_of(job: dict[str, Any]) -> str:
    """Run the shard of a run in shards, as a worker does; return how it has ended."""
    shard_run.take = partial(claim.take, lease_seconds=job["lease"])  # type: ignore[attr-defined]
    shards = shards_folder(RunFolder(job["results"], job["of"]))
    outcome = shard_run.run_shard(shards, NUMBER, [Slow(job)], lambda ref: None)
    return f"{outcome.status} {outcome.error}".strip()


def main(job: dict[str, Any]) -> None:
    """Do a job."""
    patch(job)
    with Path(job["folder"], f"said.{job['name']}").open("a", buffering=1) as said:
        try:
            if "of" in job:
                said.write(f"{run_shard_of(job)}\n")
                return
            with claim.take(job["shards"], NUMBER, lease_seconds=job["lease"]) as taken:
                said.write(f"took {taken.run_id}\n")
                pipeline_of(job, taken.run_id).create(taken.run_id, if_exists="resume").run()
            said.write("completed\n")
        except DatagenError as error:
            said.write(f"{type(error).__name__}: {error}\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
