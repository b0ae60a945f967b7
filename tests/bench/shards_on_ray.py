"""``python -m tests.bench.shards_on_ray``: what a shard costs on a warm Ray, and what the first one of a run does.

A cluster of one head and one node is started. Then runs of 500 rows are made, with 1 shard and with 11, one at a time.
A run with one shard connects, and has an actor made, and a process; the ten further ones are given to that actor.
Seconds are of a clock.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_datagen.shards.pipeline import ShardedPipeline
from llm_datagen.shards.ray import RayExecutor

from ..kit.ray_cluster import RayCluster
from ..kit.support import Bench, numbered

ROWS = 500
MORE = 10


def seconds(bench: Bench, pipeline_id: str, shards: int, executor: Any) -> float:
    """Return what a run takes."""
    output = f"jsonl://{bench.folder}/{pipeline_id}.jsonl"
    pipeline = bench.pipeline([lambda row: row], output_uri=output, log_file=None)
    began = time.monotonic()
    ShardedPipeline(pipeline, shards=shards, executor=executor).create(pipeline_id).run(progress=False)
    return time.monotonic() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args(arguments)
    began = time.monotonic()
    cluster = RayCluster()
    try:
        cluster.add_node("a")
        print(f"a head and a node       {time.monotonic() - began:6.2f} s")
        os.environ.update(cluster.environment)
        first, more = [], []
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder))
            bench.give(numbered(ROWS))
            for turn in range(given.repeat):
                one, many = (
                    seconds(bench, f"{shards}-{turn}", shards, RayExecutor(cluster.client_address))
                    for shards in (1, 1 + MORE)
                )
                first.append(one)
                more.append((many - one) / MORE)
        print(f"a run with one shard    {statistics.median(first):6.2f} s   ({min(first):.2f} to {max(first):.2f})")
        print(f"each further shard      {statistics.median(more):6.2f} s   ({min(more):.2f} to {max(more):.2f})")
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
