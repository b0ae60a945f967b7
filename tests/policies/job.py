"""A pipeline to be killed: ``job.py '{…}'`` does a job, and ends.

A job is a JSON object: `folder` (with `in.jsonl`), `do` ("run" or "replay"), settings of the pipeline, and how the
operators behave; after `hold` calls, they wait to be killed. They note every call, durably, in `folder/calls`; what the
job says is appended to `folder/said`.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, INodeContext, Rejected, UnifiedPipeline
from llm_datagen.testing import Fault, inject

BAD = ({n for n in range(2000) if n % 7 == 3}, {n for n in range(2000) if n % 5 == 1})
"""The rows, by their number, that fail in the first and in the second node, unless they are mended."""


REASON = "a multiple of four"


def fate(node: int, n: int) -> list[dict[str, int]] | dict[str, int] | None:
    """Return what becomes of a row that does not fail."""
    if node == 0:
        return {"n": n} if n % 4 else None
    return [{"n": n, "k": k} for k in range(n % 3 + 1)]


def expected(rows: int, *, mended: bool) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """Return what must come out of so many numbered rows, and the ids of the dead letters of both nodes."""
    bad = (set(), set()) if mended else BAD
    first = [n for n in range(rows) if n in bad[0]]
    second = [n for n in range(rows) if n not in bad[0] and n % 4 and n in bad[1]]
    kept = [n for n in range(rows) if n % 4 and n not in bad[0] and n not in bad[1]]
    return [{"n": n, "k": k, "_i": f"{n}_{k}"} for n in kept for k in range(n % 3 + 1)], [first, second]


class Work(BaseOperator):
    name = "work"
    version = "1"  # jobs are mended where they are told to be

    def __init__(self, job: dict[str, Any], node: int) -> None:
        self.node = node
        self.nap: float = job.get("nap", 0.0)
        self.bad: set[int] = set() if job.get("mended") else BAD[node]
        self.calls = os.open(Path(job["folder"], "calls"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.chance = random.Random(job.get("seed", 0))
        self.job = job

    def note(self, items: Sequence[Any]) -> float:
        os.write(self.calls, "".join(f"{self.node}:{item['_i']}\n" for item in items).encode())
        self.job["hold"] = self.job.get("hold", math.inf) - len(items)
        return self.nap * 2 * self.chance.random() if self.job["hold"] > 0 else 3600.0

    def made_of(self, item: Any) -> Any:
        if item["n"] in self.bad:
            raise ValueError(f"row {item['n']} is bad")
        made = fate(self.node, item["n"])
        if made is None and self.job.get("rejects"):
            if item["n"] % 8 and self.job.get("kind") != "batch":
                raise Rejected(REASON)
            return Rejected(REASON)
        return made


class Items(Work):
    name = "work"

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        time.sleep(self.note([item]))
        return self.made_of(item)


class AsyncItems(Work):
    name = "work"

    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        await asyncio.sleep(self.note([item]))
        return self.made_of(item)


class Batches(Work):
    name = "work"

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        time.sleep(self.note(items))
        return [self.made_of(item) for item in items]


def pipeline_of(job: dict[str, Any]) -> UnifiedPipeline:
    """Return the job's pipeline."""
    folder = job["folder"]
    make = {"item": Items, "async": AsyncItems, "batch": Batches}[job.get("kind", "item")]
    return UnifiedPipeline(
        [make(job, 0), make(job, 1)],
        f"jsonl://{folder}/in.jsonl",
        f"jsonl://{folder}/out.jsonl",
        base_path=f"{folder}/between",
        results_dir=f"{folder}/results",
        log_file=f"{folder}/platform.log",
        **{
            "streaming": True,
            "parallel_size": 2,
            "batch_size": 2,
            "on_error": "dead_letter",
            "writer_config": {"queue_size": 20, "flush_batch_size": 10, "fsync": "never"},
            **job.get("settings", {}),
        },
    )


def say(job: dict[str, Any], text: str) -> None:
    """Say something that outlives the process."""
    with Path(job["folder"], "said").open("a") as file:
        file.write(f"{text}\n")


def main(job: dict[str, Any]) -> None:
    """Do a job."""
    pipeline = pipeline_of(job)
    with inject(Fault(**job["fault"]) if "fault" in job else None):
        if job.get("do") == "replay":
            pipeline.replay("a")
        else:
            pipeline.create("a", if_exists="resume")
        say(job, f"ended {pipeline.run().status}")


if __name__ == "__main__":
    its_job = json.loads(sys.argv[1])
    try:
        main(its_job)
    except BaseException as error:
        say(its_job, f"raised {error!r}")
        raise
