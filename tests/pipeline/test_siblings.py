"""Batches that do not cross a parent: `batch_by="parent"`, with rows that fail, kills, and parallel nodes before it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import BaseOperator, ConfigError, FunctionOperator, INodeContext, UnifiedPipeline
from llm_datagen.executors.parent_batches import ParentBatches
from llm_datagen.runs.trace import trace
from llm_datagen.runs.verify import verify
from llm_datagen.streams.block import Block

from ..kit import programs
from ..kit.support import Bench, lines, numbered, pairwise, write_jsonl


def pair(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return two rows of one."""
    return [{**row, "k": k} for k in range(2)]


def fragile(row: dict[str, Any]) -> dict[str, Any]:
    """Fail at one row of the pairs of every third row."""
    if row["n"] % 3 == 1 and row["k"] == row["n"] % 2:
        raise ValueError("it fails")
    return row


class Pairs(BaseOperator):
    """Says of each row which rows were in its batch."""

    batch_by = "parent"

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        ids = [item["_i"] for item in items]
        return [{"n": item["n"], "with": ids} for item in items]


def wanted(count: int, *, fails: bool = True) -> list[dict[str, Any]]:
    """Return the rows, each with the siblings that were in its batch."""
    found = []
    for n in range(count):
        ks = [k for k in range(2) if not (fails and n % 3 == 1 and k == n % 2)]
        found += [{"n": n, "with": [f"{n}_{k}" for k in ks], "_i": f"{n}_{k}"} for k in ks]
    return found


def by_id(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows in the order of their ids."""
    return sorted(rows, key=lambda row: [int(part) for part in str(row["_i"]).split("_")])


@pytest.mark.sampled(2)
@pytest.mark.process
@pytest.mark.parametrize(
    ("streaming", "parallel_size", "executor"),
    pairwise([True, False], [1, 3], ["thread", "process"]),
)
def test_no_batch_mixes_two_parents(bench: Bench, streaming: bool, parallel_size: int, executor: str) -> None:
    bench.give(numbered(60))
    bench.pipeline(
        [pair, fragile, Pairs()], streaming=streaming, parallel_size=parallel_size, on_error="dead_letter"
    ).create("a", node_configs=[{"batch_size": 4}, {"ordered": True}, {"batch_size": 2, "executor": executor}]).run()
    assert by_id(lines(bench.output)) == wanted(60)
    assert [account.findings for account in verify(bench.run_state("a"))] == [[], [], []]


def test_batches_by_position_do_and_that_is_why(bench: Bench) -> None:
    bench.give(numbered(6))
    configs = [None, {"ordered": True}, {"batch_size": 2, "batch_by": "position"}]
    bench.pipeline([pair, fragile, Pairs()], on_error="skip").create(node_configs=configs).run()
    mixed = [row for row in lines(bench.output) if len({one.split("_")[0] for one in row["with"]}) > 1]
    assert mixed


class Best(Pairs):
    """Makes one row of a batch as a whole."""

    name = "best"

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        if any(item["n"] == 2 and item["k"] == 0 for item in items):
            raise ValueError("at one row")
        return [{"sum": sum(item["k"] for item in items)}, None, None]


def test_rows_of_whole_batches_are_traced_to_their_siblings(bench: Bench) -> None:
    bench.give(numbered(5))
    configs = [None, {"ordered": True}, {"batch_size": 2}]
    bench.pipeline([pair, fragile, Best()], on_error="dead_letter").create("a", node_configs=configs).run()
    names = ["0_0~0_1", "1_0~1_0", "2_1~2_1", "3_0~3_1", "4_1~4_1"]
    assert [row["_i"] for row in lines(bench.output)] == [f"{name}_0" for name in names]
    run_state = bench.run_state("a")
    found = [one.row_id for one in trace(run_state, "3_1") if one.relation == "descendant"]
    assert found == ["3_0~3_1_0"]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 10])
def test_of_many_children_each_has_its_batch(bench: Bench, batch_size: int) -> None:
    bench.give(numbered(3))

    def seven(row: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**row, "k": k} for k in range(7)]

    def some(row: dict[str, Any]) -> dict[str, Any] | None:
        return row if row["k"] != 3 else None

    configs = [None, {"ordered": True}, {"batch_size": batch_size}]
    bench.pipeline([seven, some, Pairs()], id_scheme="text").create(node_configs=configs).run()
    batches = {tuple(row["with"]) for row in lines(bench.output)}
    ks = [[k for k in range(at, min(at + batch_size, 7)) if k != 3] for at in range(0, 7, batch_size)]
    assert batches == {tuple(f"r{n}_{k}" for k in part) for n in range(3) for part in ks if part}


KILLED = """
import json, os, sys, signal
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.pipeline.test_siblings import killed_pipeline
killed_pipeline(Path(sys.argv[1]), int(sys.argv[3]))
"""


class Dying(Pairs):
    """Kills the process at a call, in the middle of a batch; and fails at one row, so that its batch is halved."""

    name = "pairs"
    version = "1"

    def __init__(self, folder: Path, at: int) -> None:
        self.folder, self.at = str(folder), at
        self.calls = 0

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().process_batch(items, ctx)


def killed_pipeline(folder: Path, at: int) -> None:
    """Run, or resume, a pipeline that is killed at a call."""
    UnifiedPipeline(
        [pair, fragile, Dying(folder, at)],
        f"jsonl://{folder}/in.jsonl",
        f"jsonl://{folder}/out.jsonl",
        streaming=True,
        parallel_size=2,
        on_error="dead_letter",
        base_path=folder / "between",
        results_dir=folder / "results",
        log_file=None,
        writer_config={"fsync": "never", "flush_batch_size": 3},
    ).create("a", node_configs=[None, {"ordered": True}, {"batch_size": 2}], if_exists="resume").run()


@pytest.mark.slow
def test_batches_are_the_same_whatever_was_killed(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", numbered(40))
    root = str(Path(__file__).parents[2])
    codes = []
    for at in (3, 9, 6, 0):
        child = programs.run(["-c", KILLED, tmp_path, root, at])
        codes.append(child.returncode)
    assert codes == [-signal.SIGKILL] * 3 + [0]
    assert by_id(lines(tmp_path / "out.jsonl")) == wanted(40)


def test_a_batch_that_was_begun_goes_on_as_it_was_cut() -> None:
    """The first child of a row was done: the rest of its batch stays a batch, and the next one is whole."""
    records = [json.dumps({"_i": row_id}).encode() for row_id in ["7_1", "7_2", "7_3", "7_4", "8", "9", "9_left", "x"]]
    block = Block(records, 5, 0, sum(map(len, records)) + len(records), None, json.loads)
    siblings, cuts = ParentBatches(3), [0]
    while cuts[-1] < len(records):
        cuts.append(siblings.end(block, cuts[-1]))
    assert cuts == [0, 2, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("configs", "settings", "words"),
    [
        ([None, None, {"batch_size": 2}], {}, "node_1 before it may change the order; give that one ordered=True"),
        ([{"batch_by": "parent"}], {}, "node_0: batch_by=.parent. is for operators with process_batch"),
        ([None, {"ordered": True}], {"id_scheme": "numeric"}, "not .numeric."),
        ([{"batch_by": "both"}], {}, "batch_by must be one of"),
    ],
)
def test_what_cannot_be_is_refused(bench: Bench, configs: list[Any], settings: dict[str, Any], words: str) -> None:
    bench.give(numbered(1))
    with pytest.raises(ConfigError, match=words):
        bench.pipeline([pair, fragile, Pairs()], **settings).create(node_configs=configs)


def test_the_rows_of_the_input_have_no_parents(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="children of none"):
        bench.pipeline([FunctionOperator(list, batch=True)]).create(node_configs=[{"batch_by": "parent"}])
