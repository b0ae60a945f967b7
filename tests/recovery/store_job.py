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

from llm_datagen import DatagenError, UnifiedNode, UnifiedNodePipeline


def double(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Make `n % 3` children of a row."""
    return [{"n": row["n"], "k": k} for k in range(int(row["n"]) % 3)]


def expected(rows: int) -> list[tuple[int, int]]:
    """Return what becomes of so many rows."""
    return [(n, k) for n in range(rows) for k in range(n % 3)]


def pipeline_of(job: dict[str, Any]) -> UnifiedNodePipeline:
    """Return the job's pipeline: two nodes, the second of which follows the first."""
    chance, place, ending = random.Random(job.get("seed", 0)), job["place"], job["ending"]

    def slowly(row: dict[str, Any]) -> dict[str, Any]:
        time.sleep(job["nap"] * 2 * chance.random())
        return row

    nodes = [UnifiedNode(name, 2, 4, writer_config={"flush_interval": 0.02}) for name in ("slow", "double")]
    nodes[0].bind_io(f"{place}/in.{ending}", f"{place}/middle.{ending}").set_operator(slowly)
    nodes[1].bind_io(f"{place}/middle.{ending}", f"{place}/out.{ending}").set_operator(double)
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
