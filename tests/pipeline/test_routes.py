"""A node with several named outputs: each row goes where it was sent, once, whatever happens (M31, S4)."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from llm_datagen import (
    BaseOperator,
    ConfigError,
    NodeFailedError,
    Rejected,
    Route,
    UnifiedNode,
    UnifiedNodePipeline,
    ops,
)
from llm_datagen.operators import Call, INodeContext
from llm_datagen.pipeline.fan_out import RoutingOperator
from llm_datagen.runs.verify import verify

from ..kit.support import QUICK, Bench, bag, lines, nothing_left, numbered, stored
from .killing import run_killed_three_times

OUTPUTS = ("even", "odd")


def name_of(item: dict[str, Any]) -> str | None:
    """Say where a number goes; every fifth goes nowhere."""
    return None if item["n"] % 5 == 0 else OUTPUTS[item["n"] % 2]


def routed(item: dict[str, Any]) -> Route | None:
    name = name_of(item)
    return Route(name, item) if name else None


class Batches(BaseOperator):
    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return [routed(item) for item in items if name_of(item)]  # a flat list: attributed by `_i`


async def later(item: dict[str, Any]) -> Route | None:
    return routed(item)


def node(bench: Bench, operator: Any, rule: Callable[[Any], str | None] | None = None, **settings: Any) -> UnifiedNode:
    """Return a node from the input to two outputs."""
    outputs = {name: f"jsonl://{bench.folder}/{name}.jsonl" for name in OUTPUTS}
    made = UnifiedNode("sort", follow_input=False, writer_config=QUICK, **settings)
    return made.bind_io(f"jsonl://{bench.input}", outputs, route=rule).set_operator(operator)


def pipeline(bench: Bench, *nodes: UnifiedNode, **settings: Any) -> UnifiedNodePipeline:
    return UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=bench.log, **settings)


KINDS: dict[str, tuple[Any, Callable[[Any], str | None] | None, dict[str, Any]]] = {
    "items": (routed, None, {"parallel_size": 3}),
    "batches": (Batches(), None, {"batch_size": 4}),
    "async": (later, None, {"parallel_size": 3, "ordered": True}),
    "rule": (lambda item: item, name_of, {}),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_each_row_goes_where_it_is_sent(bench: Bench, kind: str, streaming: bool) -> None:
    """M31, M14: with its id; what is read behind an output is a stream as any other; the account is right."""
    bench.give(numbered(60))
    operator, rule, settings = KINDS[kind]
    behind = UnifiedNode("behind", writer_config=QUICK).set_operator(lambda item: {**item, "seen": True})
    behind.bind_io(f"jsonl://{bench.folder}/odd.jsonl", f"jsonl://{bench.folder}/seen.jsonl")
    with nothing_left():
        report = pipeline(bench, behind, node(bench, operator, rule, **settings), streaming=streaming).create("a").run()
    for name in OUTPUTS:
        wanted = [{"n": n, "_i": n} for n in range(60) if name_of({"n": n}) == name]
        assert bag(stored(f"jsonl://{bench.folder}/{name}.jsonl")) == bag(wanted)
    assert {row["n"] for row in lines(bench.folder / "seen.jsonl")} == {n for n in range(60) if n % 2 and n % 5}
    assert {node.node_id: (node.rows_in, node.kept) for node in report.nodes} == {
        "sort": (60, 48),
        "sort.even": (48, 24),
        "sort.odd": (48, 24),
        "behind": (24, 24),
    }
    assert [account.findings for account in verify(bench.run_state("a"))] == [[]] * 4


def test_children_may_go_to_several_outputs(bench: Bench) -> None:
    """M12, M14: the ids of children are those that they have by their place in the list."""
    bench.give(numbered(2))

    def both(item: dict[str, Any]) -> list[Route]:
        return [Route("even", {"twice": item["n"]}), Route("odd", item["n"]), Route("even", {"data": 1})]

    pipeline(bench, node(bench, both)).create("a").run()
    even, odd = (lines(bench.folder / f"{name}.jsonl") for name in OUTPUTS)
    assert [row["_i"] for row in even] == ["0_0", "0_2", "1_0", "1_2"]
    assert odd == [{"_i": "0_1", "data": 0}, {"_i": "1_1", "data": 1}]
    assert even[1] == {"data": 1, "_i": "0_2"}


class Named(BaseOperator):
    """Returns what it was given, whatever that is."""

    name = "op"

    def __init__(self, result: Any) -> None:
        self.result = result

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return self.result(item) if callable(self.result) else self.result

    def fingerprint(self) -> dict[str, str]:
        return {}


class NamedBatches(Named):
    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return self.result(items) if callable(self.result) else self.result


async def soon(item: Any) -> Any:
    return Route("odd", item)


NO_PLACE = (
    "which does not say where it goes: return Route(name, row) with the name of an output (even, odd), a list of "
    "Routes, or None, which drops the row; or give bind_io() a rule, route=f(row)"
)
THE_RULE = "it returns the name of an output (even, odd), or None, which drops the row"


@pytest.mark.parametrize(
    ("operator", "rule", "words"),
    [
        (Named(lambda item: Route("evem", item)), None, "op sent a row to 'evem'; the outputs are even, odd"),
        (Named(lambda item: Route(1, item)), None, "op sent a row to 1; the outputs are even, odd"),  # type: ignore[arg-type]
        (Named(lambda item: Route(["odd"], item)), None, "op sent a row to ['odd']; the outputs are"),  # type: ignore[arg-type]
        (Named({"n": 1}), None, f"op returned a dict ({{'n': 1}}), {NO_PLACE}"),
        (Named("odd"), None, f"op returned a str ('odd'), {NO_PLACE}"),
        (Named(("odd", {"n": 1})), None, f"op returned a str ('odd'), {NO_PLACE}"),
        (
            Named(lambda item: Route("odd", [item])),
            None,
            "a Route carries one row, not a list: return a list of Routes",
        ),
        (Named(lambda item: Route("odd", None)), None, "a Route carries one row, not None: return a list of Routes"),
        (
            Named(Route("odd", Rejected("no"))),
            None,
            "a Route carries one row, not a Rejected: return a list",
        ),
        (
            Named(Route("odd", Route("odd", 1))),
            None,
            "a Route carries one row, not a Route: return a list",
        ),
        (Named([[Route("odd", 1)]]), None, "within a list; return one list of Routes, for all rows"),
        (Named([[1, 2]]), name_of, "op returned a list ([1, 2]) within a list; return one list of rows, for all rows"),
        (Named(soon), None, "the operator returned a coroutine; make it `async def`, so that it is awaited"),
        (Named(lambda item: item), lambda row: "o", f"route sent a row of op to 'o'; {THE_RULE}"),
        (Named(lambda item: item), lambda row: 5, f"route sent a row of op to 5; {THE_RULE}"),
        (Named(lambda item: item), lambda row: ["odd"], f"route sent a row of op to ['odd']; {THE_RULE}"),
        (
            Named(lambda item: item),
            lambda row: Route("odd", row),
            "route sent a row of op to Route(name='odd', row={",
        ),
        (Named("text"), lambda row: row["n"], "route failed on a str ('text'), which op returned: TypeError: string"),
        (Named({"a": 1}), lambda row: row["n"], "route failed on a dict ({'a': 1}), which op returned: KeyError: 'n'"),
        (NamedBatches(["odd"]), None, f"NamedBatches returned a str ('odd'), {NO_PLACE}"),
    ],
)
def test_what_has_no_place_is_named_with_what_has_one(operator: Any, rule: Any, words: str) -> None:
    route = Call(RoutingOperator(operator, OUTPUTS, rule))
    item = {"n": 0, "_i": 0}
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        route([item] if route.batch else item, cast(INodeContext, None))


@pytest.mark.parametrize(
    ("operator", "rule", "words"),
    [
        (Named(lambda item: Route("evem", item)), None, "op sent a row to 'evem'; the outputs are even, odd"),
        (Named({"a": 1}), lambda row: row["n"], "route failed on a dict ({'a': 1}), which op returned: KeyError: 'n'"),
        (NamedBatches(None), None, "process_batch returned None; to filter the whole batch, return an empty list"),
        (NamedBatches(Route("odd", 1)), None, "process_batch must return a list, not a Route"),
        (NamedBatches({"n": 1}), name_of, "process_batch must return a list, not a dict"),
    ],
)
def test_a_row_without_a_place_fails_as_rows_do(bench: Bench, operator: Any, rule: Any, words: str) -> None:
    bench.give(numbered(3))
    with pytest.raises(NodeFailedError, match=re.escape(words)):
        pipeline(bench, node(bench, operator, rule)).create("a").run()


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (Route("odd", 1), "finish must return a list of rows, yield them, or return None, not a Route"),
        ({"n": 1}, "finish must return a list of rows, yield them, or return None, not a dict"),
        ([{"n": 1}], f"Ended returned a dict ({{'n': 1}}), {NO_PLACE}"),
    ],
)
def test_what_an_operator_gives_at_the_end_has_a_place_too(bench: Bench, end: Any, words: str) -> None:
    class Ended(BaseOperator):
        name = "Ended"

        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            return None

        def finish(self, ctx: INodeContext) -> Any:
            return end

    bench.give(numbered(3))
    with pytest.raises(NodeFailedError, match=re.escape(words)):
        pipeline(bench, node(bench, Ended())).create("a").run()


def test_a_batch_gives_a_list_for_each_item_or_one_flat_list(bench: Bench) -> None:
    bench.give(numbered(4))
    lists = NamedBatches(lambda items: [[Route("even", item["n"]), Route("odd", -item["n"])] for item in items])
    pipeline(bench, node(bench, lists, batch_size=4)).create("a").run()
    assert [row["data"] for row in lines(bench.folder / "even.jsonl")] == [0, 1, 2, 3]
    assert [row["data"] for row in lines(bench.folder / "odd.jsonl")] == [0, -1, -2, -3]


def rejecting(item: dict[str, Any]) -> Any:
    """Reject every third number, by a return or by raising, and send no fifth one anywhere."""
    if item["n"] % 6 == 0:
        raise Rejected("no third")
    return Rejected("no third") if item["n"] % 3 == 0 else routed(item)


async def rejecting_later(item: dict[str, Any]) -> Any:
    return rejecting(item)


class RejectingBatches(BaseOperator):
    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return [Rejected("no third") if item["n"] % 3 == 0 else routed(item) for item in items]


REJECTING: dict[str, tuple[Any, Callable[[Any], str | None] | None, dict[str, Any]]] = {
    "items": (rejecting, None, {"parallel_size": 3}),
    "batches": (RejectingBatches(), None, {"batch_size": 4}),
    "async": (rejecting_later, None, {"ordered": True}),
    "processes": (ops.Keep("n % 3 != 0"), name_of, {"executor": "process"}),
    "a rule": (ops.Keep("n % 3 != 0"), name_of, {"on_error": "dead_letter"}),
    "batches of one": (RejectingBatches(), None, {}),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", REJECTING)
def test_a_row_that_is_rejected_goes_nowhere_and_is_kept_beside_all_rows(bench: Bench, kind: str) -> None:
    bench.give(numbered(60))
    operator, rule, settings = REJECTING[kind]
    report = pipeline(bench, node(bench, operator, rule, keep_rejected=True, **settings)).create("a").run()
    assert (report.failed, report.rejected) == (0, 20)
    for name in OUTPUTS:
        wanted = [{"n": n, "_i": n} for n in range(60) if n % 3 and name_of({"n": n}) == name]
        assert bag(stored(f"jsonl://{bench.folder}/{name}.jsonl")) == bag(wanted)
    kept = lines(bench.folder / "even.jsonl.routed.rejected.jsonl")
    assert sorted(row["_i"] for row in kept) == list(range(0, 60, 3))
    assert {row["reason"] for row in kept} == {"not n % 3 != 0" if rule else "no third"}
    assert [account.findings for account in verify(bench.run_state("a"))] == [[]] * 3


@pytest.mark.parametrize(
    ("operator", "rows"),
    [
        (ops.Dedupe("n"), [0]),
        (ops.Limit(2), [0, 1]),
        (ops.Sample(share=0.0), []),
        (ops.Loop(lambda row: row, until="n > 5", max_rounds=1, unmet="drop"), []),
    ],
)
def test_operators_of_the_package_reject_rows_of_a_node_with_several_outputs(
    bench: Bench, operator: Any, rows: list[int]
) -> None:
    bench.give([{"n": 1}, {"n": 1}, {"n": 1}])
    report = pipeline(bench, node(bench, operator, lambda row: "odd")).create("a").run()
    assert report.rejected == 3 - len(rows)
    assert [row["_i"] for row in lines(bench.folder / "odd.jsonl")] == rows


def test_a_rejected_among_the_rows_of_a_list_is_refused_as_in_a_line(bench: Bench) -> None:
    bench.give(numbered(1))
    among = node(bench, lambda item: [item, Rejected("not here")], lambda row: "odd")
    with pytest.raises(NodeFailedError, match="a Rejected stands for a whole row: return it in place of the row"):
        pipeline(bench, among).create("a").run()


def test_a_bare_value_is_one_row_whatever_it_is(bench: Bench) -> None:
    """A list that an operator gives as a value, and null, are copied as they are."""
    bench.give(numbered(2))
    values = [np.array([1, 2]), math.nan]
    bare = node(bench, lambda item: values[item["n"]], lambda row: "odd", data_config={"nan": "null"})
    pipeline(bench, bare).create("a").run()
    assert lines(bench.folder / "odd.jsonl") == [{"_i": 0, "data": [1, 2]}, {"_i": 1, "data": None}]


def test_what_cannot_be_wired_is_refused_with_the_names(bench: Bench) -> None:
    """M31: before anything is touched."""
    bench.give(numbered(3))
    sort = node(bench, routed)
    with pytest.raises(ConfigError, match=r"sort has several outputs, so it does not run alone"):
        sort.run()
    other = UnifiedNode("other").set_operator(routed)
    other.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.folder}/odd.jsonl")
    with pytest.raises(ConfigError, match=r"other and sort.odd would both write|sort.odd and other would both write"):
        pipeline(bench, sort, other)
    other.bind_io(f"jsonl://{bench.folder}/even.jsonl", f"jsonl://{bench.input}")
    with pytest.raises(ConfigError, match="form a cycle"):
        pipeline(bench, sort, other)
    for outputs, rule, words in (
        ({}, None, "sort has no output"),
        ({"": "x.jsonl"}, None, "the name of an output must be text"),
        ({"a": 5}, None, "output a must be a stream"),
        ({"a": "x.jsonl"}, 5, "route must be a function"),
        ({"a": "x.jsonl"}, soon, "route must be a plain function, and is async"),
        ("x.jsonl", name_of, "route is for several outputs"),
        ({"a": bench.input.as_posix()}, None, "would read and write the same stream"),
    ):
        with pytest.raises(ConfigError, match=words):
            sort.bind_io(f"jsonl://{bench.input}", outputs, route=rule)  # type: ignore[arg-type]
    assert bench.files() == {"in.jsonl"}


CHANGES_ITS_MIND = """
    import random, sys, time
    from llm_datagen import Route, UnifiedNode, UnifiedNodePipeline

    folder, action = sys.argv[1:]

    def sort(item):
        time.sleep(0.001)
        return Route(random.choice(("even", "odd")), item)

    outputs = {name: f"jsonl://{folder}/{name}.jsonl" for name in ("even", "odd")}
    node = UnifiedNode("sort", parallel_size=4, follow_input=False).set_operator(sort)
    node.bind_io(f"jsonl://{folder}/in.jsonl", outputs)
    pipeline = UnifiedNodePipeline([node], results_dir=f"{folder}/results", log_file=None)
    pipeline.resume("a") if action == "resume" else pipeline.create("a")
    pipeline.run()
"""


@pytest.mark.process
def test_a_row_is_in_one_output_though_its_operator_changes_its_mind(bench: Bench) -> None:
    """S4, M21: killed three times, with an operator that decides by chance."""
    bench.give(numbered(600))
    script = bench.folder / "job.py"
    script.write_text(textwrap.dedent(CHANGES_ITS_MIND))
    between = Path(f"{bench.folder}/even.jsonl.routed")
    run_killed_three_times(script, bench.folder, between, seed=7)
    rows = [row for name in OUTPUTS for row in stored(f"jsonl://{bench.folder}/{name}.jsonl")]
    assert bag(rows) == bag({"n": n, "_i": n} for n in range(600))
