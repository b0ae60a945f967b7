"""Runs in shards on an object store: run states, streams and outputs lie there; leases stand in for locks."""

from __future__ import annotations

from typing import Any

import pytest

from llm_datagen import NodeFailedError, StreamFactory
from llm_datagen.runs import RunFolder
from llm_datagen.shards.claim import latest
from llm_datagen.shards.spec import shards_folder

from ..kit.s3 import S3Bucket
from ..kit.shards import InThreads, in_shards
from ..kit.support import Bench, numbered, stored

pytestmark = pytest.mark.stores("s3", "gs")


def double(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "double": 2 * row["n"]}


class Failing:
    version = "1"

    def __init__(self, at: int | None) -> None:
        self.at = at

    def process_item(self, item: Any, ctx: Any) -> Any:
        """Return the row, unless it is the one that fails."""
        if item["n"] == self.at:
            raise ValueError("boom")
        return item


@pytest.mark.slow
@pytest.mark.parametrize("merge", ["concat", "shards"])
def test_a_run_in_shards_on_a_store_fails_and_goes_on(bench: Bench, s3: S3Bucket, merge: Any) -> None:
    """R2: nothing is on this machine but the input; what a shard has committed stays, and all comes once."""
    bench.give(numbered(30))
    settings: dict[str, Any] = {
        "results_dir": s3.uri("runs"),
        "output_uri": s3.uri("out.jsonl"),
        "base_path": s3.uri("between"),
        "log_file": None,
    }

    def pipeline(at: int | None) -> Any:
        options: dict[str, Any] = {"shards": 3, "executor": InThreads(1), "merge": merge}
        return in_shards(bench.pipeline([double, Failing(at)], ordered=True, **settings), **options)

    with pytest.raises(NodeFailedError, match="ValueError: boom"):
        pipeline(17).create("a").run(progress=False)
    report = pipeline(None).resume("a").run(progress=False)
    assert (report.status, report.rows_in, report.rows_out) == ("completed", 30, 30)
    folder = RunFolder(s3.uri("runs"), "a")
    assert folder.load()["status"] == "completed"
    shards = shards_folder(folder).location
    expected = [{"n": n, "double": 2 * n, "_i": n} for n in range(30)]
    rows = [
        row
        for number in range(3)
        for row in stored(RunFolder(shards, latest(shards, number) or "").load()["nodes"][-1]["output_uri"])
    ]
    assert rows == expected
    names = ["out"] if merge == "concat" else [f"out-{number:05}-of-00003" for number in range(3)]
    found = [row for name in names for row in _rows(s3.uri(f"{name}.jsonl"))]
    assert found == expected
    assert not (bench.folder / "results").exists()


def _rows(uri: str) -> list[Any]:
    reader = StreamFactory.create(uri).get_reader(follow=False)
    return [{**row, "_i": i} for rows, ids in reader.read(1000) for row, i in zip(rows, ids, strict=True)]
