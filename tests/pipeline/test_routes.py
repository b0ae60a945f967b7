"""A node with several named outputs: each row goes where it was sent, once, whatever happens (M31, S4)."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import BaseOperator, ConfigError, NodeFailedError, Route, UnifiedNode, UnifiedNodePipeline
from llm_datagen.operators import INodeContext
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


@pytest.mark.parametrize(
    ("operator", "rule", "words"),
    [
        (lambda item: Route("evem", item), None, "sort.*sent a row to 'evem'; the outputs are even, odd"),
        (lambda item: item, lambda item: "o", "sent a row to 'o'; the outputs are even, odd"),
        (lambda item: item, None, "does not say where it goes: return Route"),
        (lambda item: Route("odd", [item]), None, "a Route carries one row, not a list"),
    ],
)
def test_a_row_without_a_place_fails_as_rows_do(bench: Bench, operator: Any, rule: Any, words: str) -> None:
    bench.give(numbered(3))
    with pytest.raises(NodeFailedError, match=words.removeprefix("sort.*")):
        pipeline(bench, node(bench, operator, rule)).create("a").run()


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
