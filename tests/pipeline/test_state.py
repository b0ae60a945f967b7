"""`ctx.state`, which is committed with the rows, and `finish`, which is asked for rows when the source has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    BaseOperator,
    ConfigError,
    Derived,
    INodeContext,
    NodeFailedError,
    Route,
    StopRun,
    UnifiedNode,
    UnifiedNodePipeline,
    UnifiedPipeline,
)
from llm_datagen.errors import StreamChangedError, StreamError
from llm_datagen.runs.trace import trace
from llm_datagen.runs.verify import verify
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.position import STATE
from llm_datagen.streams.recovery import position_of
from llm_datagen.streams.state.store import check_state

from ..kit.support import Bench, lines, numbered, stored, write_jsonl


class Total(BaseOperator):
    """Adds the sum of `n` so far, by the row's parity."""

    keeps_state = True
    version = "1"

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        kind = "even" if item["n"] % 2 == 0 else "odd"
        ctx.state[kind] = ctx.state.get(kind, 0) + item["n"]
        return {**item, "sum": ctx.state[kind]}


class AsyncTotal(Total):
    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        before = ctx.state.get("sum", 0)
        await asyncio.sleep(0)
        ctx.state["sum"] = before + item["n"]
        return {**item, "sum": ctx.state["sum"]}


class BatchTotal(Total):
    def process_batch(self, items: Any, ctx: INodeContext) -> Any:
        rows = []
        for item in items:
            ctx.state["sum"] = ctx.state.get("sum", 0) + item["n"]
            rows.append({**item, "sum": ctx.state["sum"]})
        return rows


def a_function(item: Any, ctx: INodeContext) -> Any:
    ctx.state["sum"] = ctx.state.get("sum", 0) + item["n"]
    return {**item, "sum": ctx.state["sum"]}


a_function.keeps_state = True  # type: ignore[attr-defined]


@pytest.mark.parametrize("executor", ["thread"])
@pytest.mark.parametrize("operator", [AsyncTotal(), BatchTotal(), a_function], ids=["async", "batch", "function"])
def test_a_state_is_kept_from_row_to_row_whatever_the_concurrency(bench: Bench, operator: Any, executor: str) -> None:
    bench.give(numbered(100))
    bench.pipeline([operator], parallel_size=8, batch_size=7, executor=executor).run()
    assert [row["sum"] for row in lines(bench.output)] == [n * (n + 1) // 2 for n in range(100)]


class Flaky(BaseOperator):
    """Counts its rows; the calls of some fail after they have changed the state, once or always."""

    keeps_state = True
    version = "1"
    stateful = True

    def __init__(self) -> None:
        self.failed: set[int] = set()

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        ctx.state["rows"] = ctx.state.get("rows", 0) + 1
        ctx.state["row", item["n"]] = True
        if item["n"] % 10 == 3 or (item["n"] % 10 == 7 and item["n"] not in self.failed):
            self.failed.add(item["n"])
            raise ValueError("no")
        if item["n"] % 10 == 4:
            return {"value": object()}  # which cannot be written
        return {"rows": ctx.state["rows"]}

    def finish(self, ctx: INodeContext) -> Iterator[Any]:
        for key, _ in ctx.state.items("row"):
            assert isinstance(key, tuple)
            yield {"seen": key[1]}


def keeps_what_it_gets(item: Any, ctx: INodeContext) -> Any:
    ctx.state["value"] = [item["n"], float("nan") if item["n"] == 1 else float("-inf") if item["n"] == 2 else None]
    return {"n": ctx.state["value"]}


keeps_what_it_gets.keeps_state = True  # type: ignore[attr-defined]


def test_a_state_refuses_what_json_has_no_number_for_and_does_not_take_it_for_null(bench: Bench) -> None:
    bench.give(numbered(4))
    report = bench.pipeline([keeps_what_it_gets], on_error="dead_letter").run()
    assert [row["n"] for row in lines(bench.output)] == [[0, None], [3, None]]
    assert report.failed == 2


def test_what_a_call_changes_that_fails_was_never_there(bench: Bench) -> None:
    bench.give(numbered(50))
    report = bench.pipeline([Flaky()], on_error="dead_letter", retries=1, retry_wait=0.001).run()
    rows = lines(bench.output)
    good = [n for n in range(50) if n % 10 not in (3, 4)]
    assert [row["rows"] for row in rows if "rows" in row] == list(range(1, 41))
    assert [(row["seen"], row["_i"]) for row in rows[40:]] == [(n, f"end_{k}") for k, n in enumerate(good)]
    assert (report.rows_out, report.failed) == (80, 10)


def test_a_state_goes_on_where_a_run_was_cancelled(bench: Bench) -> None:
    bench.give(numbered(1000))
    pipeline = bench.pipeline([Total(), stopping_at(500)], streaming=True, writer_config={"flush_batch_size": 10})
    pipeline.create("run")
    pipeline.run()
    assert len(lines(bench.output)) < 1000
    again = bench.pipeline([Total(), stopping_at(-1)], streaming=True)
    again.resume("run")
    again.run()
    assert {row["n"]: row["sum"] for row in lines(bench.output)} == {
        n: sum(range(n % 2, n + 1, 2)) for n in range(1000)
    }


def stopping_at(number: int) -> Any:
    class Stop(BaseOperator):
        name = "stop"
        version = "1"

        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            if item["n"] == number:
                raise StopRun("enough")
            return item

    return Stop()


def test_rows_that_come_later_find_the_state_as_it_was(bench: Bench) -> None:
    bench.give(numbered(10))
    bench.pipeline([Total()]).create("run").run()
    write_jsonl(bench.input, numbered(20))
    again = bench.pipeline([Total()])
    again.resume("run")
    again.run()
    assert lines(bench.output)[-1] == {"n": 19, "sum": 100, "_i": 19}


class Count(BaseOperator):
    """Passes rows on; says at the end how many there were, and how many groups of ten."""

    keeps_state = True
    version = "1"

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        if "n" in item:
            ctx.state["rows"] = ctx.state.get("rows", 0) + 1
        return item

    def finish(self, ctx: INodeContext) -> Any:
        return [{"rows": ctx.state.get("rows", 0)}, {"end": ctx.node_id}]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_two_nodes_that_give_rows_at_the_end_give_no_id_twice(bench: Bench, streaming: bool, ordered: bool) -> None:
    bench.give(numbered(3))
    bench.pipeline([Count(), Count()], streaming=streaming, ordered=ordered, writer_config={"async_mode": False}).run()
    assert {row["_i"]: {name: row[name] for name in row if name != "_i"} for row in lines(bench.output)} == {
        0: {"n": 0},
        1: {"n": 1},
        2: {"n": 2},
        "end_0": {"rows": 3},
        "end_1": {"end": "node_0"},
        "end2_0": {"rows": 3},
        "end2_1": {"end": "node_1"},
    }


def test_an_input_without_rows_has_an_end_too(bench: Bench) -> None:
    bench.give([])
    report = bench.pipeline([Count()]).run()
    assert lines(bench.output) == [{"rows": 0, "_i": "end_0"}, {"end": "node_0", "_i": "end_1"}]
    assert (report.rows_in, report.rows_out, report.filtered) == (0, 2, 0)


class AsyncEnd(BaseOperator):
    version = "1"

    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return item

    async def finish(self, ctx: INodeContext) -> AsyncIterator[Any]:
        for name in "ab":
            await asyncio.sleep(0)
            yield {"name": name}


class AwaitedEnd(AsyncEnd):
    async def finish(self, ctx: INodeContext) -> Any:  # type: ignore[override]
        await asyncio.sleep(0)
        return [{"name": "a"}, {"name": "b"}]


class PlainEnd(AsyncEnd):
    def finish(self, ctx: INodeContext) -> Any:
        return ({"name": name} for name in "ab")


@pytest.mark.parametrize("operator", [AsyncEnd(), AwaitedEnd(), PlainEnd()], ids=lambda operator: operator.name)
def test_the_end_of_an_async_operator_may_be_async_or_not(bench: Bench, operator: Any) -> None:
    bench.give(numbered(2))
    bench.pipeline([operator]).run()
    assert lines(bench.output)[2:] == [{"name": "a", "_i": "end_0"}, {"name": "b", "_i": "end_1"}]


class FailingEnd(BaseOperator):
    """Its `finish` fails, a number of times, after it has given rows and changed the state."""

    keeps_state = True
    stateful = True
    version = "1"

    def __init__(self, times: int) -> None:
        self.left = times

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return None

    def finish(self, ctx: INodeContext) -> Iterator[Any]:
        ctx.state["tries"] = ctx.state.get("tries", 0) + 1
        yield {"tries": ctx.state["tries"]}
        if self.left:
            self.left -= 1
            raise ValueError("not yet")


def test_an_end_that_fails_is_tried_again_and_leaves_nothing(bench: Bench) -> None:
    bench.give(numbered(5))
    bench.pipeline([FailingEnd(2)], retries=2, retry_wait=0.001).run()
    assert lines(bench.output) == [{"tries": 1, "_i": "end_0"}]


def test_a_run_whose_end_fails_can_be_resumed(bench: Bench) -> None:
    bench.give(numbered(5))
    pipeline = bench.pipeline([FailingEnd(1)], on_error="skip")
    pipeline.create("run")
    with pytest.raises(NodeFailedError, match="not yet"):
        pipeline.run()
    assert not bench.is_sealed()
    again = bench.pipeline([FailingEnd(0)], on_error="skip")
    again.resume("run")
    again.run()
    assert lines(bench.output) == [{"tries": 1, "_i": "end_0"}]


@pytest.mark.parametrize("result", ["text", {"a": 1}, 7])
def test_an_end_that_returns_no_rows_fails_by_name(bench: Bench, result: Any) -> None:
    class Odd(BaseOperator):
        version = "1"

        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            return item

        def finish(self, ctx: INodeContext) -> Any:
            return result

    bench.give(numbered(1))
    with pytest.raises(NodeFailedError, match="finish must return a list of rows"):
        bench.pipeline([Odd()]).run()


def test_rows_after_the_end_are_refused_before_anything_is_done(bench: Bench) -> None:
    bench.give(numbered(5))
    bench.pipeline([stopping_at(-1), Count()]).create("run").run()
    before = bench.output.read_bytes(), bench.between("run").read_bytes()
    write_jsonl(bench.input, numbered(9))
    again = bench.pipeline([stopping_at(-1), Count()])
    with pytest.raises(StreamChangedError, match=r"node_1 \(Count\): after the end of its input.*rerun"):
        again.resume("run")
    assert (bench.output.read_bytes(), bench.between("run").read_bytes()) == before
    assert bench.is_sealed()


class Router(Count):
    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        super().process_item(item, ctx)
        return Route("rows", item)

    def finish(self, ctx: INodeContext) -> Any:
        return [Route("ends", row) for row in super().finish(ctx)]


class Best(BaseOperator):
    """Gives, at the end, the row of each parity with the largest `n`, as one that stands for all of them."""

    keeps_state = True
    version = "1"

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        kind = item["n"] % 2
        ctx.state[kind] = [*ctx.state.get(kind, []), [item["n"], item["_i"]]]

    def finish(self, ctx: INodeContext) -> Iterator[Any]:
        for kind, rows in ctx.state.items():
            yield Derived({"kind": kind, "best": max(rows)[0]}, sources=[row_id for _, row_id in rows])


def test_a_row_is_traced_to_the_rows_that_it_stands_for_and_back(bench: Bench) -> None:
    bench.give(numbered(6))
    bench.pipeline([stopping_at(-1), Best(), lambda row: row]).create("run").run()
    assert lines(bench.output) == [
        {"kind": 0, "best": 4, "_sources": [0, 2, 4], "_i": "end_0"},
        {"kind": 1, "best": 5, "_sources": [1, 3, 5], "_i": "end_1"},
    ]
    run_state = bench.run_state("run")
    up = [(each.where, each.row_id, each.relation) for each in trace(run_state, "end_0")]
    assert up == [
        *(("input", n, "ancestor") for n in (0, 2, 4)),
        *(("node_0", n, "ancestor") for n in (0, 2, 4)),
        ("node_1", "end_0", "itself"),
        ("node_2", "end_0", "itself"),
    ]
    down = [(each.where, each.row_id, each.relation, each.state) for each in trace(run_state, 3)]
    assert down == [
        ("input", 3, "itself", "row"),
        ("node_0", 3, "itself", "row"),
        ("node_1", "end_1", "descendant", "row"),
        ("node_2", "end_1", "descendant", "row"),
    ]


def test_the_account_of_a_run_with_state_and_an_end_holds_and_sees_damage(bench: Bench) -> None:
    bench.give(numbered(6))
    bench.pipeline([Total(), Best()]).create("run").run()
    run_state = bench.run_state("run")
    assert [account.findings for account in verify(run_state)] == [[], []]
    state = Path(f"{bench.output}.state")
    state.write_bytes(state.read_bytes()[:-3])
    [_, account] = verify(run_state)
    assert any("out.jsonl.state has" in finding for finding in account.findings)


def test_a_node_with_several_outputs_keeps_state_and_has_an_end(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", numbered(4))
    node = UnifiedNode("node_0", follow_input=False).set_operator(Router())
    node.bind_io(
        f"jsonl://{tmp_path}/in.jsonl", {name: f"jsonl://{tmp_path}/{name}.jsonl" for name in ("rows", "ends")}
    )
    UnifiedNodePipeline([node], results_dir=tmp_path / "results").run()
    assert [row["n"] for row in lines(tmp_path / "rows.jsonl")] == [0, 1, 2, 3]
    assert lines(tmp_path / "ends.jsonl")[0] == {"rows": 4, "_i": "end_0"}


def test_a_node_alone_keeps_state_in_memory(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", numbered(4))
    node = UnifiedNode("node_0", follow_input=False).set_operator(Count())
    node.bind_io(f"jsonl://{tmp_path}/in.jsonl", "memory://state").run()
    assert stored("memory://state")[4] == {"rows": 4, "_i": "end_0"}
    node.output.delete()


def test_a_state_that_is_not_declared_is_refused_by_name(bench: Bench) -> None:
    def use(item: Any, ctx: INodeContext) -> Any:
        ctx.state["a"] = 1
        return item

    bench.give(numbered(1))
    with pytest.raises(NodeFailedError, match=r"node_0 uses ctx\.state.*keeps_state = True"):
        bench.pipeline([use], on_error="skip").run()


@pytest.mark.parametrize("operator", [Total(), AsyncEnd(), PlainEnd()], ids=["state", "async end", "end"])
def test_what_needs_one_process_is_refused_in_worker_processes(bench: Bench, operator: Any) -> None:
    bench.give(numbered(1))
    with pytest.raises(ConfigError, match="executor='process' is for"):
        UnifiedPipeline(
            [operator], str(bench.input), str(bench.output), executor="process", results_dir=bench.results
        ).run()


def test_rows_at_the_end_cannot_have_numbers_as_ids(bench: Bench) -> None:
    bench.give(numbered(1))
    with pytest.raises(ConfigError, match=r'node_0: .*Count has a finish.*"path"'):
        bench.pipeline([Count()], id_scheme="numeric").create("run")


def test_an_overwritten_run_begins_without_the_state(bench: Bench) -> None:
    bench.give(numbered(10))
    bench.pipeline([Total()]).create("run").run()
    assert {Path(name).suffix for name in bench.files() if ".state" in name} == {".state", ".sqlite"}
    bench.pipeline([Total()]).create("run", if_exists="overwrite").run()
    assert lines(bench.output)[-1] == {"n": 9, "sum": 25, "_i": 9}


def test_a_run_that_goes_on_while_it_is_verified_is_not_called_corrupt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read first is of an earlier commit than the state, and the rows, that are looked at after it."""

    class Until(Total):
        def __init__(self, at: int) -> None:
            self.at = at

        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            if item["n"] == self.at:
                raise StopRun("enough")
            return super().process_item(item, ctx)

    def pipeline(at: int) -> UnifiedPipeline:
        often = {"fsync": "flush", "async_mode": False, "queue_size": 1}
        return bench.pipeline([Until(at)], batch_size=1, writer_config=often)

    monkeypatch.setattr("llm_datagen.streams.state.store.APPLY_BYTES", 1)
    bench.give(numbered(40))
    pipeline(10).create("a").run()
    output = StreamFactory.create(f"jsonl://{bench.output}")
    earlier = position_of(output)
    assert earlier is not None
    pipeline(30).resume("a", on_change="accept").run()
    with pytest.raises(StreamError):
        check_state(output, earlier[1].marks[STATE])
    answers = [earlier]
    monkeypatch.setattr(
        "llm_datagen.runs.verify.position_of", lambda stream: answers.pop() if answers else position_of(stream)
    )
    run_state = bench.run_state("a")
    run_state["status"] = "running"
    [account] = verify(run_state)
    assert not answers
    assert account.findings == []
    assert account.rows_out == 10
