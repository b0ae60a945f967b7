"""A driver of a run in shards that is to be killed: ``kill_job.py '{…}'`` runs it, or goes on with it, to its end.

The job: `folder`, where all files lie; `nap` of a call at most, in seconds; `seed`; `merge`.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, INodeContext, UnifiedPipeline
from llm_datagen.shards.pipeline import ShardedPipeline


class Noting(BaseOperator):
    """Notes each call in a file, naps, and makes `n % 3` children of a row; a row in 20 fails."""

    version = "1"  # jobs nap as long as they are told to

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.chance = random.Random(job["seed"])

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the children."""
        time.sleep(self.job["nap"] * self.chance.random())
        fd = os.open(Path(self.job["folder"], "calls"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{item['n']}\n".encode())
        os.close(fd)
        if item["n"] % 20 == 7:
            raise ValueError("seven")
        return [{"n": item["n"], "k": k} for k in range(item["n"] % 3)]


def same(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row."""
    return row


def main(job: dict[str, Any]) -> None:
    """Do the job."""
    folder = Path(job["folder"])
    pipeline = UnifiedPipeline(
        [Noting(job), same],
        f"jsonl://{folder}/in.jsonl",
        f"jsonl://{folder}/out.jsonl",
        streaming=True,
        ordered=True,
        on_error="dead_letter",
        results_dir=folder / "results",
        log_file=folder / "platform.log",
        writer_config={"flush_interval": 0.02, "fsync": "never"},
    )
    sharded = ShardedPipeline(pipeline, shards=4, workers=2, merge=job["merge"])
    report = sharded.create("a", if_exists="resume").run(progress=False)
    print(report, flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
