"""A run in shards: four ranges of the input, done by two worker processes; then one shard by itself, as in an array.

Run it with ``python shards_on_this_machine.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from llm_datagen import RunReport, ShardedPipeline, UnifiedPipeline


def words(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "words": len(row["text"].split())}


def long_enough(row: dict[str, Any]) -> dict[str, Any] | None:
    return row if row["words"] > 3 else None


def tell(report: RunReport) -> None:
    print(f"{report.pipeline_id}: {report.status}, {report.rows_in} in, {report.rows_out} out")


def main() -> None:
    with Path("texts.jsonl").open("w", encoding="utf-8") as file:
        for number in range(2000):
            file.write(json.dumps({"text": "word " * (number % 7)}) + "\n")

    pipeline = UnifiedPipeline([words, long_enough], "texts.jsonl", "long.jsonl")
    # One file at the end. Without merge="concat": long-00000-of-00004.jsonl, and so on.
    sharded = ShardedPipeline(pipeline, shards=4, workers=2, merge="concat")
    tell(sharded.create("all").run())
    with Path("long.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    # Ids are those of one run on all of the input.
    print(f"{len(rows)} rows; the last one: {rows[-1]['_i']}")
    assert [row["_i"] for row in rows] == [number for number in range(2000) if number % 7 > 3]

    # Where a Slurm array or a Kubernetes Job starts a process for each shard, each of them does this with its number.
    one_by_one = ShardedPipeline(UnifiedPipeline([words, long_enough], "texts.jsonl", "other.jsonl"), shards=4)
    with one_by_one.shard(3, "array") as shard:
        tell(shard.run())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
