"""A pipeline from object to object, to be killed or stopped: ``store_job.py '{…}'`` does a job, and ends.

The job: `folder` (with `results` in it), `place` (such as ``s3://bucket``), `ending` of all objects, `nap` in seconds.
What it says is appended to `folder/said`.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, DatagenError, INodeContext, UnifiedNode, UnifiedNodePipeline


class Slow(BaseOperator):
    """Naps, and changes nothing."""

    version = "1"  # jobs nap as long as they are told to

    def __init__(self, job: dict[str, Any]) -> None:
        self.nap = job["nap"]
        self.chance = random.Random(job.get("seed", 0))

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row."""
        time.sleep(self.nap * 2 * self.chance.random())
        return item


class Double(BaseOperator):
    """Makes `n % 3` children of a row."""

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the children."""
        return [{"n": item["n"], "k": k} for k in range(int(item["n"]) % 3)]


def expected(rows: int) -> list[tuple[int, int]]:
    """Return what becomes of so many rows."""
    return [(n, k) for n in range(rows) for k in range(n % 3)]


def pipeline_of(job: dict[str, Any]) -> UnifiedNodePipeline:
    """Return the job's pipeline: two nodes, the second of which follows the first."""
    place, ending = job["place"], job["ending"]
    nodes = [UnifiedNode(name, 2, 4, writer_config={"flush_interval": 0.02}) for name in ("slow", "double")]
    nodes[0].bind_io(f"{place}/in.{ending}", f"{place}/middle.{ending}").set_operator(Slow(job))
    nodes[1].bind_io(f"{place}/middle.{ending}", f"{place}/out.{ending}").set_operator(Double())
    folder = job["folder"]
    return UnifiedNodePipeline(nodes, results_dir=f"{folder}/results", log_file=f"{folder}/platform.log")


def main(job: dict[str, Any]) -> None:
    """Do a job."""
    with Path(job["folder"], "said").open("a") as said:
        try:
            pipeline_of(job).create("job", if_exists="resume").run()
            said.write("ended\n")
        except DatagenError as error:
            said.write(f"{type(error).__name__}: {error}\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
