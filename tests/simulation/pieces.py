"""``python -m tests.simulation.pieces``: what a shard leaves and costs, as bytes, objects and requests.

On a store (moto's, in this process), a run of one node is measured: a shard is a normal run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedPipeline
from llm_datagen.shards.pipeline import ShardedPipeline

from ..kit.s3 import S3Bucket, S3Server
from .plans import even_plan, plan_bytes

ROWS = 20_000


class _Look:
    """Returns rows as they are, and looks at the commit log when half are done."""

    name, version, stateful = "look", "1", True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.bytes = 0
        self.lines = 1

    def process_item(self, item: Any, ctx: Any) -> Any:
        """Return the row."""
        if item["n"] == ROWS // 2:
            data = (self._folder / "out.jsonl.commits").read_bytes()
            self.bytes, self.lines = len(data), data.count(b"\n")
        return item


def _same(row: Any) -> Any:
    """Return the row."""
    return row


def plan_lines() -> Iterator[str]:
    """Yield what a plan of 10^9 rows takes per cut and per range."""
    few, cuts, ranges = (plan_bytes(even_plan(10**9, *sizes)) for sizes in ((1000, 16), (1000, 32), (2000, 16)))
    per_cut = (cuts - few) / 16_000
    yield f"plan: {per_cut:.0f} bytes per cut, {(ranges - cuts) / 1000:.0f} per range"


def folder_lines(folder: Path) -> Iterator[str]:
    """Yield what a commit takes, and what a shard leaves in its folder."""
    given = folder / "in.jsonl"
    given.write_text("".join(f'{{"n": {n}, "text": "{"x" * 100}"}}\n' for n in range(ROWS)))
    look = _Look(folder)
    settings: dict[str, Any] = {"results_dir": folder / "results", "log_file": None}
    many_commits = {"flush_batch_size": 100}
    UnifiedPipeline(
        [look], f"jsonl://{given}", f"jsonl://{folder}/out.jsonl", writer_config=many_commits, **settings
    ).create("one").run(progress=False)
    yield f"while it runs: {look.bytes / look.lines:.0f} bytes per commit"
    code = UnifiedPipeline([_same], f"jsonl://{given}", f"jsonl://{folder}/shards.jsonl", **settings)
    ShardedPipeline(code, shards=4).create("four").run(progress=False)
    for path in sorted((folder / "results" / "four" / "shards" / "00003").iterdir()):
        yield f"left of a shard: {path.name}, {path.stat().st_size:,} bytes"


def store_lines(folder: Path) -> Iterator[str]:
    """Yield the requests of a run whose input, output and run state lie in a store, and the objects that it leaves."""
    server = S3Server()
    os.environ.update(server.environment)
    try:
        bucket = S3Bucket(server)
        bucket.put("in.jsonl", b"".join(b'{"n": %d}\n' % n for n in range(50)))
        server.begin()
        pipeline = UnifiedPipeline(
            [lambda row: row],
            bucket.uri("in.jsonl"),
            bucket.uri("shard/out.jsonl"),
            results_dir=bucket.uri("shards"),
            log_file=folder / "store.log",
        )
        pipeline.create("00003").run()
        methods = Counter(request.method for request in server.requests)
        by_method = ", ".join(f"{count} {method}" for method, count in methods.most_common())
        yield f"store: {len(server.requests)} requests ({by_method})"
        for key in sorted(bucket.all_keys() - {"in.jsonl"}):
            yield f"store: left there: {key}, {len(bucket.get(key) or b''):,} bytes"
    finally:
        server.close()


def main() -> None:
    """Measure, and print."""
    folder = Path(tempfile.mkdtemp())
    try:
        for lines in (plan_lines(), folder_lines(folder), store_lines(folder)):
            for line in lines:
                print(line)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
