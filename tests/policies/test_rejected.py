"""Rows that an operator rejects are counted beside the filtered ones, and kept with the reason if the node says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import BaseOperator, INodeContext, NodeFailedError, Rejected, ops
from llm_datagen.errors import StreamChangedError
from llm_datagen.runs.browse.pages import Browser
from llm_datagen.runs.browse.run_streams import find_stream, streams_of_run
from llm_datagen.runs.logs import events
from llm_datagen.runs.trace import trace
from llm_datagen.runs.verify import verify

from ..kit.jobs import Jobs
from ..kit.s3 import S3Bucket
from ..kit.shards import in_shards, shard_states
from ..kit.support import Bench, lines, numbered
from .job import REASON
from .kills import Work


class Items(BaseOperator):
    """Returns a Rejected for every third row, raises one by its context for the row behind it."""

    name = "items"

    def process_item(self, item: dict[str, Any], ctx: INodeContext) -> Any:
        return fate(item, ctx)


class AsyncItems(BaseOperator):
    name = "items"

    async def process_item(self, item: dict[str, Any], ctx: INodeContext) -> Any:
        return fate(item, ctx)


class Batches(BaseOperator):
    name = "items"

    def process_batch(self, items: Sequence[dict[str, Any]], ctx: INodeContext) -> list[Any]:
        return [[Rejected("no third"), Rejected("too late"), item][item["n"] % 3] for item in items]


def fate(item: dict[str, Any], ctx: INodeContext) -> Any:
    if item["n"] % 3 == 1:
        ctx.reject("too late")
    return Rejected("no third") if item["n"] % 3 == 0 else item


def rejected_of(path: Path) -> list[dict[str, Any]]:
    """Return the rejected rows beside an output, in the order of their ids."""
    rows = lines(Path(f"{path}.rejected.jsonl"))
    return sorted(({name: row[name] for name in ("_i", "item", "reason")} for row in rows), key=lambda row: row["_i"])


def expected(rows: int) -> list[dict[str, Any]]:
    reasons = ["no third", "too late"]
    return [{"_i": n, "item": {"n": n, "_i": n}, "reason": reasons[n % 3]} for n in range(rows) if n % 3 < len(reasons)]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("operator", "settings"),
    [
        (Items(), {}),
        (Items(), {"executor": "process"}),
        (AsyncItems(), {"ordered": True}),
        (Batches(), {"batch_size": 4}),
        (Batches(), {"batch_size": 1}),
        (Items(), {"writer_config": {"fsync": "flush"}, "id_scheme": "numeric"}),
    ],
)
def test_rejected_rows_are_counted_and_kept(bench: Bench, operator: Any, settings: dict[str, Any]) -> None:
    bench.give(numbered(50))
    report = bench.pipeline([operator], keep_rejected=True, parallel_size=3, **settings).create("one").run()
    (node,) = report.nodes
    assert (node.rows_in, node.rows_out, node.filtered, node.rejected, node.kept) == (50, 16, 34, 34, 16)
    assert report.rejected == 34
    assert rejected_of(bench.output) == expected(50)
    state = bench.run_state("one")
    assert state["nodes"][0]["rejected"] == 34
    (account,) = verify(state)
    assert (account.findings, account.filtered, account.rejected) == ([], 34, 34)
    ended = next(line for line in bench.log_lines() if line["event"] == events.NODE_ENDED)
    assert (ended["filtered"], ended["rejected"]) == (34, 34)
    (itself,) = [each for each in trace(state, 4) if each.where == "node_0"]
    assert (itself.state, itself.item) == ("rejected", {"input": {"n": 4, "_i": 4}, "reason": "too late"})
    page = Browser().page(find_stream(streams_of_run(state), "node_0:rejected"), 0, 100)
    assert sorted(row.id for row in page.rows) == [row["_i"] for row in expected(50)]
    assert page.total == 34


def test_they_are_counted_and_not_kept_unless_the_node_says_so(bench: Bench) -> None:
    bench.give(numbered(50))
    (node,) = bench.pipeline([Items()]).create("one").run().nodes
    assert (node.filtered, node.rejected) == (34, 34)
    assert not Path(f"{bench.output}.rejected.jsonl").exists()
    (account,) = verify(bench.run_state("one"))
    assert (account.findings, account.rejected) == ([], 34)
    assert [each.state for each in trace(bench.run_state("one"), 4)] == ["row", "filtered"]


def test_operators_of_the_package_say_why(bench: Bench) -> None:
    bench.give([{"n": number, "k": number % 2} for number in range(6)])
    bench.pipeline([ops.Keep("n > 1"), ops.Dedupe(by="k")], keep_rejected=True).create("one").run()
    between = bench.between("one")
    assert [(row["_i"], row["reason"]) for row in rejected_of(between)] == [(0, "not n > 1"), (1, "not n > 1")]
    assert [(row["_i"], row["reason"]) for row in rejected_of(bench.output)] == [(4, "a duplicate"), (5, "a duplicate")]


class Raising(BaseOperator):
    name = "raising"

    def process_batch(self, items: Sequence[dict[str, Any]], ctx: INodeContext) -> list[Any]:
        ctx.reject("which one?")


def among(row: dict[str, Any]) -> list[Any]:
    return [row, Rejected("not here")]


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        (Raising(), "process_batch raised Rejected: return it in the place of each row that is rejected"),
        (among, "a Rejected stands for a whole row: return it in place of the row, not among its results"),
    ],
)
def test_what_cannot_be_meant_is_refused(bench: Bench, operator: Any, said: str) -> None:
    bench.give(numbered(1))
    with pytest.raises(NodeFailedError, match=said):
        bench.pipeline([operator], batch_size=2).create("one").run()


def test_an_overwrite_takes_them_away_and_a_change_is_noticed(bench: Bench) -> None:
    bench.give(numbered(50))
    bench.pipeline([Items()], keep_rejected=True).create("one").run()
    path = Path(f"{bench.output}.rejected.jsonl")
    kept = path.read_bytes()
    path.write_bytes(kept.replace(b"too late", b"too soon", 1))
    (account,) = verify(bench.run_state("one"))
    assert account.findings == [
        f"{path}, line 2: not a rejected row (ValueError('the checksum differs: it was changed')); restore the file"
    ]
    path.write_bytes(kept[:-1])
    with pytest.raises(StreamChangedError, match=r"rejected.jsonl has .* when the output was sealed"):
        bench.pipeline([Items()], keep_rejected=True).resume("one")
    bench.give(numbered(10))
    bench.pipeline([Items()], keep_rejected=True).create("one", if_exists="overwrite").run()
    assert rejected_of(bench.output) == expected(10)


@pytest.mark.parametrize("merge", ["concat", pytest.param("shards", marks=pytest.mark.slow)])
def test_shards_have_those_of_one_run(bench: Bench, merge: Any) -> None:
    bench.give(numbered(100))
    pipeline = in_shards(bench.pipeline([Items()], ordered=True, keep_rejected=True), merge=merge)
    (node,) = pipeline.create("one").run().nodes
    assert (node.filtered, node.rejected) == (67, 67)
    if merge == "concat":
        assert rejected_of(bench.output) == expected(100)
    else:
        outputs = [
            Path(state["nodes"][0]["output_uri"].removeprefix("jsonl://")) for state in shard_states(bench, "one")
        ]
        assert sorted((row for path in outputs for row in rejected_of(path)), key=json.dumps) == sorted(
            expected(100), key=json.dumps
        )


KINDS = [
    {"kind": "item", "settings": {"streaming": True}},
    {"kind": "batch", "settings": {"ordered": True, "batch_size": 4}},
    {"kind": "async", "settings": {"writer_config": {"queue_size": 20, "flush_batch_size": 3}}},
]


def check_rejected(work: Work) -> None:
    """Make sure that each row that was rejected is there once, and no other."""
    work.check()
    rejected = [n for n in range(work.rows) if n % 4 == 0 and n % 7 != 3]
    assert rejected_of(work.between) == [{"_i": n, "item": {"n": n, "_i": n}, "reason": REASON} for n in rejected]
    assert [account.rejected for account in work.accounts()] == [len(rejected), 0]


@pytest.mark.process
@pytest.mark.sampled(1)
@pytest.mark.parametrize("job", KINDS, ids=lambda job: f"{job['kind']} {job['settings']}")
def test_rejected_rows_are_there_once_after_kills_at_random_moments(
    tmp_path: Path, jobs: Jobs, job: dict[str, Any]
) -> None:
    settings = {"keep_rejected": True, **job["settings"]}
    work = Work(jobs, tmp_path, 150, rejects=True, nap=0.0005, **{**job, "settings": settings})
    while work.kills < 3 and work.kill_after(work.chance.randrange(1, 30)):
        work.accounts()
    work.finish()
    check_rejected(work)


@pytest.mark.process
@pytest.mark.sampled(1)
@pytest.mark.parametrize("keep", [0, 1, 50])
@pytest.mark.parametrize("hit", [1, 3])
def test_a_torn_line_is_cut_off_and_written_again(tmp_path: Path, jobs: Jobs, keep: int, hit: int) -> None:
    """S1: the line comes before its commit; without that, it was never written."""
    settings: dict[str, Any] = {"keep_rejected": True, "batch_size": 1, "parallel_size": 1}
    settings["writer_config"] = {"async_mode": False, "fsync": "never"}
    work = Work(jobs, tmp_path, 40, rejects=True, settings=settings, nap=0.01)
    fault = {"operation": "write", "path": "*.rejected.jsonl", "hit": hit, "action": "tear", "keep": keep}
    assert work.jobs.run({**work.job, "fault": fault}) == -9
    work.finish()
    check_rejected(work)


@pytest.mark.slow
def test_beside_an_output_in_an_object_store(bench: Bench, s3: S3Bucket) -> None:
    bench.give(numbered(50))
    pipeline = bench.pipeline([Items()], output_uri=s3.uri("out.jsonl"), keep_rejected=True)
    (node,) = pipeline.create("one").run().nodes
    assert node.rejected == 34
    found = [json.loads(line) for line in (s3.get("out.jsonl.rejected.jsonl") or b"").splitlines()]
    assert sorted(row["_i"] for row in found) == [row["_i"] for row in expected(50)]
    assert [account.findings for account in verify(bench.run_state("one"))] == [[]]
