"""Parts of inputs in object stores and on the hub; a plan that lies on a store."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from llm_datagen.errors import StreamChangedError
from llm_datagen.shards.plan import Cut, ShardRange
from llm_datagen.shards.plan_file import PlanFile

from ..kit.hub import FakeHub
from ..kit.s3 import S3Bucket
from ..kit.support import Bench, Stopping
from ..pipeline.test_hub_inputs import shards as fill_hub
from ..pipeline.test_object_sets import parquet, text
from .test_parts import planned, rows_of_parts, seen
from .test_plan_file import plan_of, split

pytestmark = pytest.mark.stores("s3", "gs")


def fill(s3: S3Bucket) -> None:
    s3.put("in/a.jsonl", text(range(40)))
    s3.put("in/b.jsonl.gz", gzip.compress(text(range(40, 80)), mtime=0))
    s3.put("in/c.parquet", parquet(range(80, 120)))


@pytest.mark.slow
@pytest.mark.parametrize("key", ["in/", "in/a.jsonl", "in/b.jsonl.gz", "in/c.parquet"])
def test_parts_of_objects_have_together_the_rows_of_the_whole(s3: S3Bucket, bench: Bench, key: str) -> None:
    fill(s3)
    uri = s3.uri(key)
    bench.pipeline([seen], input_uri=uri, source_column="from").create("whole").run()
    assert rows_of_parts(bench, planned(uri, 3), source_column="from") == bench.output.read_bytes()


@pytest.mark.slow
def test_a_part_of_many_objects_asks_for_its_own_only_and_notes_their_versions(s3: S3Bucket, bench: Bench) -> None:
    fill(s3)
    plan = planned(s3.uri("in/"), 3)
    of_last = plan.ranges[2]
    assert [name for name, *_ in plan.fingerprint_of(of_last)["files"]] == ["c.parquet"]
    settings: dict[str, Any] = {"input_uri": plan.part_uri(of_last)}
    bench.pipeline([Stopping(of_last.first.row + 3)], **settings).create("a").run()
    s3.put("in/a.jsonl", b"none of its business")
    s3.put("in/a0.jsonl", text(range(3)))
    s3.put("in/c.parquet", parquet(range(81, 121)))
    with pytest.raises(StreamChangedError, match=r"/in/ c\.parquet: not what it was: its rows were split into parts"):
        bench.pipeline([Stopping()], **settings).resume("a")


@pytest.mark.slow
def test_parts_of_a_single_object_refuse_another_one(s3: S3Bucket, bench: Bench) -> None:
    s3.put("in.jsonl", text(range(100)))
    plan = planned(s3.uri("in.jsonl"), 2)
    settings: dict[str, Any] = {"input_uri": plan.part_uri(plan.ranges[1])}
    bench.pipeline([Stopping(plan.ranges[1].first.row + 3)], **settings).create("a").run()
    s3.put("in.jsonl", text(range(1, 101)))
    with pytest.raises(StreamChangedError, match=r"in\.jsonl is another object .*: its rows were split into parts"):
        bench.pipeline([Stopping()], **settings).resume("a")


@pytest.mark.slow
def test_parts_of_a_data_set_on_the_hub(hub: FakeHub, bench: Bench) -> None:
    fill_hub(hub)
    uri = "hf://datasets/org/set?split=train"
    bench.pipeline([seen], input_uri=uri, source_column="from").create("whole").run()
    plan = planned(uri, 3)
    assert rows_of_parts(bench, plan, source_column="from") == bench.output.read_bytes()
    assert [len(plan.fingerprint_of(each)["files"]) for each in plan.ranges] == [3, 1, 1]


def test_a_plan_on_a_store_is_made_once_and_no_split_is_lost(s3: S3Bucket) -> None:
    folder = s3.uri("runs/a/shards")
    with ThreadPoolExecutor(4) as pool:
        plans = list(pool.map(lambda name: PlanFile(folder).create(plan_of(str(name))), range(8)))
        assert len({plan.input_uri for plan in plans}) == 1
        list(pool.map(partial(split, folder), range(19, 10, -1)))
    plan = PlanFile(folder).load()
    assert plan.ranges[0] == ShardRange(0, Cut(0, 0), Cut(11, 110))
    assert sorted(each.number for each in plan.ranges) == list(range(len(plan.ranges)))
    assert sum(each.rows for each in plan.ranges) == 40
