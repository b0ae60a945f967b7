"""`Loop`: rounds of one row, with conditions, failures, kills, YAML and models."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    BaseOperator,
    ConfigError,
    INodeContext,
    NodeFailedError,
    Rejected,
    StopRun,
    UnifiedPipeline,
    ops,
)
from llm_datagen.cli.target import find_target
from llm_datagen.errors import OperatorChangedError, RowDataError
from llm_datagen.runs.verify import verify

from ..kit import programs
from ..kit.support import Bench, instrument, lines, until_cancelled, write_jsonl


def add_one(row: Any) -> Any:
    return {**row, "n": row["n"] + 1}


async def add_one_later(row: Any) -> Any:
    await asyncio.sleep(0)
    return {**row, "n": row["n"] + 1}


def add_ones(rows: Any) -> Any:
    return [{**row, "n": row["n"] + 1} for row in rows]


def note(row: Any) -> Any:
    return row


def is_ten(row: Any) -> bool:
    return bool(row["n"] % 10 == 0)


def run(bench: Bench, loop: ops.Loop, rows: list[dict[str, Any]], **settings: Any) -> list[Any]:
    """Return what a loop makes of rows, in their order."""
    bench.give(rows)
    bench.pipeline([loop], ordered=True, **settings).create("a").run()
    assert [finding for account in verify(bench.run_state("a")) for finding in account.findings] == []
    return lines(bench.output)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("body", [add_one, add_one_later, [add_one, add_one_later], [ops.Rename({"n": "n"}), add_one]])
@pytest.mark.parametrize("until", ["n >= 10", "tests.ops.test_loop:is_ten", is_ten])
def test_a_row_goes_round_until_the_condition_holds(bench: Bench, body: Any, until: Any) -> None:
    step = 2 if isinstance(body, list) and body[0] is add_one else 1
    found = run(bench, ops.Loop(body, until=until, max_rounds=20), [{"n": 8}, {"n": 2}, {"n": 0}])
    assert [(row["_i"], row["n"], row["_round"]) for row in found] == [
        (0, 10, 2 // step),
        (1, 10, 8 // step),
        (2, 10, 10 // step),
    ]


@pytest.mark.parametrize(
    ("unmet", "expected"), [("keep", [(0, 10, 1), (1, 7, 3)]), ("drop", [(0, 10, 1)]), ("fail", [(0, 10, 1)])]
)
def test_what_becomes_of_a_row_after_the_last_round(bench: Bench, unmet: Any, expected: Any) -> None:
    loop = ops.Loop(add_one, until="n >= 10", max_rounds=3, unmet=unmet)
    found = run(bench, loop, [{"n": 9}, {"n": 4}], on_error="dead_letter")
    assert [(row["_i"], row["n"], row["_round"]) for row in found] == expected
    texts = [row["error"]["text"] for row in lines(Path(f"{bench.output}.errors.jsonl"))] if unmet == "fail" else []
    assert texts == (["until does not hold after 3 rounds: n >= 10"] if unmet == "fail" else [])


@pytest.mark.parametrize("unmet", ["keep", "drop"])
def test_the_rows_of_all_rounds_are_children(bench: Bench, unmet: Any) -> None:
    loop = ops.Loop(add_one, until="n >= 10", max_rounds=3, keep_rounds=True, unmet=unmet)
    found = run(bench, loop, [{"n": 8}, {"n": 0}])
    assert [(row["_i"], row["n"], row["_round"]) for row in found] == [
        ("0_0", 9, 1),
        ("0_1", 10, 2),
        *([("1_0", 1, 1), ("1_1", 2, 2), ("1_2", 3, 3)] if unmet == "keep" else []),
    ]


@pytest.mark.parametrize("how", ["return", "raise", "yield", "later"])
def test_a_row_that_a_round_rejects_has_the_rounds_before_it(bench: Bench, how: str) -> None:
    def below_three(row: Any) -> Any:
        if row["n"] < 3:
            return row
        if how == "raise":
            raise Rejected("too much")
        return yielding() if how == "yield" else Rejected("too much")

    async def below_three_later(row: Any, ctx: INodeContext) -> Any:
        return row if row["n"] < 3 else ctx.reject("too much")

    body = [add_one, below_three_later if how == "later" else below_three]
    loop = ops.Loop(body, max_rounds=9, keep_rounds=True)
    assert [(row["_i"], row["n"]) for row in run(bench, loop, [{"n": 0}, {"n": 5}])] == [("0_0", 1), ("0_1", 2)]
    assert bench.run_state("a")["nodes"][0]["rejected"] == 1


def yielding() -> Iterator[Any]:
    raise Rejected("too much")
    yield


@pytest.mark.parametrize("body", [add_one, add_one_later, [add_one_later, note]])
def test_a_loop_in_a_loop_begins_anew_in_each_round(bench: Bench, body: Any) -> None:
    innermost = ops.Loop(body, max_rounds=2, column="innermost")
    inner = ops.Loop([innermost, note], until="n % 4 == 0", max_rounds=5, column="inner")
    found = run(bench, ops.Loop([note, inner], until="n >= 10", max_rounds=9), [{"n": 0}, {"n": 9}])
    columns = ("_i", "n", "_round", "inner", "innermost")
    assert [tuple(row[name] for name in columns) for row in found] == [(0, 12, 3, 2, 2), (1, 19, 1, 5, 2)]


def test_a_loop_in_a_loop_takes_no_column_of_the_row_for_its_own(bench: Bench) -> None:
    bench.give([{"n": 0, "inner": 1}])
    with pytest.raises(NodeFailedError, match="the row has a column 'inner' already"):
        bench.pipeline([ops.Loop(ops.Loop(add_one, max_rounds=2, column="inner"), max_rounds=2)]).create("a").run()


def test_without_a_condition_there_are_all_rounds_and_the_body_sees_their_number(bench: Bench) -> None:
    loop = ops.Loop([note_round], max_rounds=3, column="turn")
    assert run(bench, loop, [{}]) == [{"turn": 3, "seen": [1, 2, 3], "_i": 0}]


def note_round(row: Any) -> Any:
    return {"seen": [*row.get("seen", []), row["turn"]]}


def test_a_row_that_the_body_drops_is_filtered(bench: Bench) -> None:
    loop = ops.Loop([add_one, ops.Keep("n < 3")], until="n >= 10", max_rounds=20)
    assert run(bench, loop, [{"n": 0}]) == []
    kept = ops.Loop([add_one, ops.Keep("n < 3")], until="n >= 10", max_rounds=20, keep_rounds=True)
    bench.pipeline([kept], output_uri=f"{bench.folder}/kept.jsonl").create("b").run()
    assert [(row["_i"], row["n"]) for row in lines(bench.folder / "kept.jsonl")] == [("0_0", 1), ("0_1", 2)]


class Batches(BaseOperator):
    """Takes batches: of a Loop, one row each."""

    def process_batch(self, items: Any, ctx: Any) -> Any:
        assert len(items) == 1
        return add_ones(items)


def test_an_operator_of_batches_gets_one_row(bench: Bench) -> None:
    assert [row["n"] for row in run(bench, ops.Loop(Batches(), until="n >= 5", max_rounds=9), [{"n": 1}])] == [5]


class Lifetimes(BaseOperator):
    """Notes when it is set up, and released."""

    stateful = True

    def __init__(self) -> None:
        self.notes: list[str] = []

    async def setup(self) -> None:
        self.notes.append("setup")

    async def teardown(self) -> None:
        self.notes.append("teardown")

    async def process_item(self, item: Any, ctx: Any) -> Any:
        assert self.notes == ["setup"]
        return add_one(item)


def test_operators_of_the_body_are_set_up_and_released(bench: Bench) -> None:
    inner = Lifetimes()
    assert len(run(bench, ops.Loop([add_one, inner], max_rounds=2), [{"n": 1}, {"n": 2}])) == 2
    assert inner.notes == ["setup", "teardown"]


class Flaky(BaseOperator):
    """Fails in the second round of a row, the first time."""

    stateful = True
    version = "1"

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def process_item(self, item: Any, ctx: Any) -> Any:
        self.calls.append((item["_i"], item["_round"]))
        if item["_round"] == 2 and self.calls.count((item["_i"], 2)) == 1:
            raise OSError("not now")
        return item


def test_retries_begin_a_row_anew(bench: Bench) -> None:
    flaky = Flaky()
    assert [row["_round"] for row in run(bench, ops.Loop(flaky, max_rounds=3), [{}], retries=1, retry_wait=0.01)] == [3]
    assert flaky.calls == [(0, 1), (0, 2), (0, 1), (0, 2), (0, 3)]


class Counting(BaseOperator):
    """Counts rounds in the state."""

    keeps_state = True

    def process_item(self, item: Any, ctx: Any) -> Any:
        ctx.state["rounds"] = ctx.state.get("rounds", 0) + 1
        return {**item, "rounds": ctx.state["rounds"]}


def test_the_body_may_keep_state(bench: Bench) -> None:
    found = run(bench, ops.Loop([Counting()], max_rounds=2), [{"n": n} for n in range(3)])
    assert [row["rounds"] for row in found] == [2, 4, 6]


class Enough(BaseOperator):
    """Stops the run in a round of a row."""

    version = "1"

    def __init__(self, at: int | None) -> None:
        self.at = at

    def process_item(self, item: Any, ctx: Any) -> Any:
        if item["_i"] == self.at and item["_round"] == 2:
            raise StopRun("enough")
        return item


def test_a_row_whose_round_stops_the_run_is_done_by_a_resume(bench: Bench) -> None:
    bench.give([{"n": n} for n in range(20)])
    for at in (7, None):
        loop = ops.Loop([add_one, Enough(at)], max_rounds=3)
        report = bench.pipeline([loop]).create("a", if_exists="resume").run()
    assert report.status == "completed"
    assert sorted((row["_i"], row["n"]) for row in lines(bench.output)) == [(n, n + 3) for n in range(20)]


@pytest.mark.parametrize("later", [True, False])
def test_a_cancel_does_not_wait_for_all_rounds(bench: Bench, later: bool) -> None:
    bench.give([{"n": 0}, {"n": 1}])
    is_going_round = threading.Event()

    def note(row: Any) -> Any:
        if row["_round"] == 5:
            is_going_round.set()
        return row

    loop = ops.Loop([add_one_later if later else add_one, note], until="n < 0", max_rounds=10**9)
    pipeline = bench.pipeline([loop], parallel_size=2).create("a")
    with pytest.raises(KeyError), pipeline.running():
        _raise_behind(is_going_round)
    assert bench.run_state("a")["status"] == "canceled"
    assert lines(bench.output) == []


def _raise_behind(event: threading.Event) -> None:
    assert event.wait(10)
    raise KeyError("enough")  # which cancels the run, and waits for its end


@pytest.mark.parametrize("on_error", ["dead_letter", "skip"])
def test_a_row_that_a_cancel_has_between_two_rounds_has_not_failed(bench: Bench, on_error: str) -> None:
    bench.give([{"n": 0}, {"n": 10}])
    is_going_round, is_again = threading.Event(), threading.Event()

    def add(row: Any, ctx: INodeContext) -> Any:
        if row["_round"] == 2 and not is_again.is_set():
            is_going_round.set()
            until_cancelled(ctx)
        return add_one(row)

    def pipeline() -> Any:
        return bench.pipeline([ops.Loop(instrument(add), max_rounds=3)], on_error=on_error)

    with pytest.raises(KeyError), pipeline().create("a").running():
        _raise_behind(is_going_round)
    assert bench.run_state("a")["status"] == "canceled"
    assert lines(bench.output) == []
    is_again.set()
    report = pipeline().resume("a").run()
    assert (report.status, report.failed) == ("completed", 0)
    assert [row["n"] for row in lines(bench.output)] == [3, 13]


DYING = """
import os, signal, sys
from llm_datagen import UnifiedPipeline, ops

def add(row):
    if row["_i"] == int(sys.argv[1]) and row["_round"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return {**row, "n": row["n"] + 1}

add.version = "1"
UnifiedPipeline([ops.Loop(add, until="n % 4 == 0", max_rounds=9)], "in.jsonl", "out.jsonl", log_file=None,
    parallel_size=3).create("a", if_exists="resume").run(progress=False)
"""


def test_a_killed_run_has_each_row_once(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"n": n} for n in range(40)])
    for stop in (5, 22, 38):
        assert programs.run(["-c", DYING, str(stop)], cwd=tmp_path).returncode == -signal.SIGKILL
    assert programs.run(["-c", DYING, "-1"], cwd=tmp_path).returncode == 0
    found = sorted((row["_i"], row["n"]) for row in lines(tmp_path / "out.jsonl"))
    assert found == [(n, (n // 4 + 1) * 4) for n in range(40)]


YAML = """
operators:
  - use: ops.Loop
    with:
      body: [{use: "loop_of_mine:Add", with: {much: 3}}, "loop_of_mine:same"]
      until: "n >= 10"
      max_rounds: 9
input_uri: in.jsonl
output_uri: out.jsonl
log_file: null
"""


def test_yaml_and_a_resume_without_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop_of_mine.py").write_text(
        "from llm_datagen import BaseOperator\n"
        "class Add(BaseOperator):\n"
        "    def __init__(self, much): self.much = much\n"
        "    def process_item(self, item, ctx): return {**item, 'n': item['n'] + self.much}\n"
        "def same(row): return row\n"
    )
    (tmp_path / "p.yaml").write_text(YAML)
    write_jsonl(tmp_path / "in.jsonl", [{"n": 1}])
    find_target("p.yaml").create("a", None).run(progress=False)
    assert lines(tmp_path / "out.jsonl") == [{"n": 10, "_round": 3, "_i": 0}]
    write_jsonl(tmp_path / "in.jsonl", [{"n": 1}, {"n": 6}])
    UnifiedPipeline(log_file=None).resume("a").run(progress=False)
    assert lines(tmp_path / "out.jsonl")[1] == {"n": 12, "_round": 2, "_i": 1}
    (tmp_path / "p.yaml").write_text(YAML.replace("much: 3", "much: 4"))
    with pytest.raises(OperatorChangedError, match=r"body\[0\] attribute much"):
        find_target("p.yaml").create("a", "resume")
    for old, new, error in (
        ("much: 3", "many: 3", r"body\[0\].with.many: loop_of_mine:Add takes no 'many'"),
        ("loop_of_mine:same", "loop_of_mine:sam", r"body\[1\].use: loop_of_mine has no 'sam'"),
        ("{use: ", "{uses: ", r"body\[0\].uses: this key is not known; did you mean 'use'"),
        ("n >= 10", "n >> ", "until"),
    ):
        (tmp_path / "p.yaml").write_text(YAML.replace(old, new))
        with pytest.raises(ConfigError, match=error if error != "until" else "cannot be read"):
            find_target("p.yaml")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: ops.Loop([], max_rounds=3), "the body of a Loop is empty"),
        (lambda: ops.Loop(add_one, max_rounds=0), "max_rounds must be a whole number from 1 on"),
        (lambda: ops.Loop(ops.TopK(3, by="n"), max_rounds=3), "TopK gives rows at the end of the input"),
        (lambda: ops.Loop([Counting(), ops.Dedupe()], max_rounds=3), "two operators that keep state"),
        (lambda: ops.Loop(add_one, max_rounds=3, unmet="no"), "unmet"),  # type: ignore[arg-type]
        (lambda: ops.Loop(add_one, max_rounds=3, until=lambda row: True), "top level of a module"),
        (lambda: ops.Loop(3, max_rounds=3), "operator must be a function"),
        (lambda: ops.Loop(ops.Loop(add_one, max_rounds=3), max_rounds=3), "two Loops, .* have the column '_round'"),
        (
            lambda: ops.Loop([ops.Loop(add_one, max_rounds=3, column="b") for _ in range(2)], max_rounds=3),
            "two Loops, .* have the column 'b'",
        ),
        (
            lambda: ops.Loop(ops.Loop(ops.Loop(add_one, max_rounds=3), max_rounds=3, column="b"), max_rounds=3),
            "two Loops, .* have the column '_round'",
        ),
    ],
)
def test_what_cannot_be_a_loop_is_refused(make: Any, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        make()


@pytest.mark.parametrize(
    ("body", "row", "error"),
    [
        (lambda row: [row, row], {}, "made 2 rows of one; in a Loop, a round makes one row"),
        (lambda row: 3, {}, "returned an int; in a Loop, a round makes a row"),
        (lambda row: row, {"_round": 1}, "the row has a column '_round' already"),
    ],
)
def test_a_row_that_cannot_go_round_fails(bench: Bench, body: Any, row: Any, error: str) -> None:
    bench.give([row])
    with pytest.raises(NodeFailedError, match=error) as failed:
        bench.pipeline([ops.Loop(body, max_rounds=3)]).create("a").run()
    assert isinstance(failed.value.__cause__, RowDataError)


def test_the_body_is_compared_on_a_resume(bench: Bench) -> None:
    bench.give([{"n": 1}])

    def pipeline(loop: ops.Loop) -> UnifiedPipeline:
        settings: dict[str, Any] = {"results_dir": bench.results, "log_file": None}
        return UnifiedPipeline([loop], str(bench.input), str(bench.output), **settings)

    pipeline(ops.Loop(add_one, max_rounds=3)).create("a").run()
    for loop, part in (
        (ops.Loop([add_one, ops.Keep("n > 0")], max_rounds=3), r"body\[1\]"),
        (ops.Loop(add_one_later, max_rounds=3), r"body\[0\]"),
        (ops.Loop(add_one, max_rounds=4), "max_rounds"),
    ):
        with pytest.raises(OperatorChangedError, match=part):
            pipeline(loop).resume("a")


@pytest.mark.slow
def test_worker_processes_run_loops(bench: Bench) -> None:
    loop = ops.Loop([ops.Rename({"n": "m"}), ops.Rename({"m": "n"})], until="n > 0", max_rounds=3)
    found = run(bench, loop, [{"n": 1}, {"n": 0}], executor="process", parallel_size=1)
    assert [(row["n"], row["_round"]) for row in found] == [(1, 1), (0, 3)]
