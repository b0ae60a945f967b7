"""What a row comes from, and what came of it, through all streams of a run (M14)."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from llm_datagen import BaseOperator, INodeContext, NodeFailedError, StreamFactory, UnifiedNode, UnifiedNodePipeline
from llm_datagen.runs.trace import trace
from llm_datagen.streams import Span
from llm_datagen.streams.scan import rows_of
from llm_datagen.streams.seal import Seal

from ..kit.support import Bench, numbered
from ..pipeline.chains import Fate
from ..streams.storages import blocks_of
from .helpers import accounts_of, double, no_fifths, poisoned, some_children

FATES: list[Fate] = [double, no_fifths, some_children]


def kin(bench: Bench, row_id: Any, pipeline_id: str = "a") -> list[tuple[str, Any, str, str]]:
    """Return where each kin is, its id, what it is to the row, and whether it is dead."""
    found = trace(bench.run_state(pipeline_id), row_id)
    return sorted(((one.where, one.row_id, one.relation, one.state) for one in found), key=str)


def rows(where: str, relation: str, *ids: Any) -> list[tuple[str, Any, str, str]]:
    return [(where, row_id, relation, "row") for row_id in ids]


def dead(where: str, relation: str, *ids: Any) -> list[tuple[str, Any, str, str]]:
    return [(where, row_id, relation, "dead letter") for row_id in ids]


def ends(where: str, relation: str, state: str, *ids: Any) -> list[tuple[str, Any, str, str]]:
    return [(where, row_id, relation, state) for row_id in ids]


def in_order(*kin: list[tuple[str, Any, str, str]]) -> list[tuple[str, Any, str, str]]:
    return sorted((one for some in kin for one in some), key=str)


def test_paths_lead_to_ancestors_and_descendants(bench: Bench) -> None:
    """M14: a row with its family, in every stream; nobody else's."""
    bench.give(numbered(35))
    bench.pipeline([some_children, double, lambda row: [row, row]]).create("a").run()
    assert kin(bench, "3_1") == in_order(
        rows("input", "ancestor", 3),
        rows("node_0", "itself", "3_1"),
        rows("node_1", "itself", "3_1"),
        rows("node_2", "descendant", "3_1_0", "3_1_1"),
    )
    assert kin(bench, 3) == in_order(
        rows("input", "itself", 3),
        rows("node_0", "descendant", "3_0", "3_1", "3_2"),
        rows("node_1", "descendant", "3_0", "3_1", "3_2"),
        rows("node_2", "descendant", *(f"3_{k}_{j}" for k in range(3) for j in range(2))),
    )
    assert kin(bench, "3_1_0") == in_order(
        rows("input", "ancestor", 3),
        rows("node_0", "ancestor", "3_1"),
        rows("node_1", "ancestor", "3_1"),
        rows("node_2", "itself", "3_1_0"),
    )
    assert kin(bench, 4) == in_order(rows("input", "itself", 4), ends("node_0", "itself", "filtered", 4)), "4 % 4 is 0"
    assert kin(bench, 999) == kin(bench, "nobody") == kin(bench, "3_9") == []


def test_a_traced_row_is_shown_with_its_content_and_place(bench: Bench) -> None:
    """M14: where, which stream, and what it was; of a dead letter, what it was given and why it failed."""
    bench.give([{"n": 1, "_i": "own"}, {"n": 2}])
    bench.pipeline([poisoned({2})], on_error="dead_letter").create("a").run()
    given, made = trace(bench.run_state("a"), 0)
    assert (given.where, given.uri, given.row_id) == ("input", f"jsonl://{bench.input}", 0)
    assert (made.where, made.uri, made.item) == ("node_0", f"jsonl://{bench.output}", {"n": 2, "_i": 0})
    _, dead_letter = trace(bench.run_state("a"), 1)
    assert (dead_letter.state, dead_letter.uri) == ("dead letter", f"{bench.output}.errors.jsonl")
    assert dead_letter.item["input"] == {"n": 2, "_i": 1}
    assert dead_letter.item["error"]["kind"] == "PoisonError"


def test_dead_letters_are_kin(bench: Bench) -> None:
    """M24: a row that failed is found where it failed; so are its ancestors from it."""
    bench.give(numbered(20))
    bench.input.write_text(bench.input.read_text().replace('{"n": 5}', "oops"))
    bench.pipeline([poisoned({2}, some_children), poisoned({4})], on_error="dead_letter").create("a").run()
    assert kin(bench, 2) == in_order(rows("input", "itself", 2), dead("node_0", "itself", 2))
    assert kin(bench, "3_1") == in_order(
        rows("input", "ancestor", 3), rows("node_0", "itself", "3_1"), dead("node_1", "itself", "3_1")
    )
    assert kin(bench, 3) == in_order(
        rows("input", "itself", 3),
        rows("node_0", "descendant", "3_0", "3_1", "3_2"),
        rows("node_1", "descendant", "3_0", "3_2"),
        dead("node_1", "descendant", "3_1"),
    )
    (line, dead_letter) = trace(bench.run_state("a"), 5)
    assert (line.item, dead_letter.item["input"]) == ("oops", "oops")


def test_numeric_ids_are_traced_by_what_each_node_has_made(bench: Bench) -> None:
    """M14: the same number may be a row of the input and the child of another; rows that were kept have no parent."""
    bench.give(numbered(20))
    bench.pipeline([double, lambda row: [row, row], double], id_scheme="numeric").create("a").run()
    assert kin(bench, 50_001) == in_order(
        rows("input", "ancestor", 5),
        rows("node_0", "ancestor", 5),
        rows("node_1", "itself", 50_001),
        rows("node_2", "itself", 50_001),
    )
    assert kin(bench, 7) == in_order(
        rows("input", "itself", 7),
        rows("node_0", "itself", 7),
        rows("node_1", "descendant", 70_000, 70_001),
        rows("node_2", "descendant", 70_000, 70_001),
    )
    # 1 is a row of the input, and the second child of row 0, too.
    assert kin(bench, 1) == in_order(
        rows("input", "itself", 1),
        rows("input", "ancestor", 0),
        rows("node_0", "itself", 1),
        rows("node_0", "ancestor", 0),
        rows("node_1", "itself", 1),
        rows("node_1", "descendant", 10_000, 10_001),
        rows("node_2", "itself", 1),
        rows("node_2", "descendant", 10_000, 10_001),
    )


def test_numeric_ids_of_dead_letters_are_those_of_the_source(bench: Bench) -> None:
    """M14, M24: a letter is named as the row was that failed, not as its children would have been."""
    bench.give(numbered(10))
    pipeline = bench.pipeline(
        [lambda row: [row, row], poisoned({3}, lambda row: [row, row])], id_scheme="numeric", on_error="dead_letter"
    )
    pipeline.create("a").run()
    assert kin(bench, 3) == in_order(
        rows("input", "itself", 3),
        rows("node_0", "descendant", 30_000, 30_001),
        dead("node_1", "descendant", 30_000, 30_001),
    )
    assert kin(bench, 30_001) == in_order(
        rows("input", "ancestor", 3), rows("node_0", "itself", 30_001), dead("node_1", "itself", 30_001)
    )


class Sums(BaseOperator):
    """One row of a whole batch, or two."""

    def __init__(self, count: int = 1) -> None:
        self.count = count

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return [{"n": sum(item["n"] for item in items)}] * self.count


def test_rows_of_a_batch_come_from_all_of_it(bench: Bench) -> None:
    """M12, M14: ``first~last_k``, and their children; rows of other batches are no kin."""
    bench.give(numbered(20))
    bench.pipeline([Sums(2), lambda row: [row, row]], batch_size=5).create("a").run()
    assert kin(bench, 7) == in_order(
        rows("input", "itself", 7),
        rows("node_0", "descendant", "5~9_0", "5~9_1"),
        rows("node_1", "descendant", *(f"5~9_{k}_{j}" for k in range(2) for j in range(2))),
    )
    assert kin(bench, "5~9_1") == in_order(
        rows("input", "ancestor", 5, 6, 7, 8, 9),
        rows("node_0", "itself", "5~9_1"),
        rows("node_1", "descendant", "5~9_1_0", "5~9_1_1"),
    )
    assert kin(bench, "5~9_1_0") == in_order(
        rows("input", "ancestor", 5, 6, 7, 8, 9),
        rows("node_0", "ancestor", "5~9_1"),
        rows("node_1", "itself", "5~9_1_0"),
    )


def test_a_batch_of_children_comes_from_their_parents(bench: Bench) -> None:
    """M12, M14: which rows a batch had, the order of its source says, not the order of their names."""
    bench.give(numbered(12))

    def reversed_pairs(items: Sequence[Any]) -> Any:
        return [{**item, "k": k} for item in reversed(items) for k in (0, 1)]

    from llm_datagen import FunctionOperator

    pipeline = bench.pipeline([FunctionOperator(reversed_pairs, batch=True), Sums(), Sums()]).create(
        "a", node_configs=[{"batch_size": 12}, {"batch_size": 6}, {"batch_size": 2}]
    )
    pipeline.run()
    # Rows lie as 11_0, 11_1, 10_0, …, 0_1; batches of six are of three parents each.
    assert kin(bench, "8_1") == in_order(
        rows("input", "ancestor", 8),
        rows("node_0", "itself", "8_1"),
        rows("node_1", "descendant", "8_0~6_1_0"),
        rows("node_2", "descendant", "11_0~9_1_0~8_0~6_1_0_0"),
    )
    assert kin(bench, "8_0~6_1_0") == in_order(
        rows("input", "ancestor", 6, 7, 8),
        rows("node_0", "ancestor", *(f"{n}_{k}" for n in (6, 7, 8) for k in (0, 1))),
        rows("node_1", "itself", "8_0~6_1_0"),
        rows("node_2", "descendant", "11_0~9_1_0~8_0~6_1_0_0"),
    )
    assert kin(bench, "11_0~9_1_0~8_0~6_1_0_0") == in_order(
        rows("input", "ancestor", *range(6, 12)),
        rows("node_0", "ancestor", *(f"{n}_{k}" for n in range(6, 12) for k in (0, 1))),
        rows("node_1", "ancestor", "11_0~9_1_0", "8_0~6_1_0"),
        rows("node_2", "itself", "11_0~9_1_0~8_0~6_1_0_0"),
    )


def test_nodes_that_were_wired_by_hand_are_traced_along_their_wires(bench: Bench) -> None:
    """M9, M31: two nodes that read one stream."""
    bench.give(numbered(6))
    nodes = []
    for name, source in (("first", bench.input), ("left", "first"), ("right", "first")):
        node = UnifiedNode(name, follow_input=name != "first")
        path = source if name == "first" else bench.folder / f"{source}.jsonl"
        node.bind_io(f"jsonl://{path}", f"jsonl://{bench.folder / name}.jsonl")
        nodes.append(node.set_operator(some_children if name == "first" else double))
    UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=None).create("a").run()
    assert kin(bench, 2) == in_order(
        rows("input", "itself", 2),
        rows("first", "descendant", "2_0", "2_1"),
        rows("left", "descendant", "2_0", "2_1"),
        rows("right", "descendant", "2_0", "2_1"),
    )


@pytest.mark.parametrize("id_scheme", ["path", "numeric"])
def test_streams_that_are_not_there_are_passed_over(bench: Bench, id_scheme: str) -> None:
    """M14: of a run that has not begun, only the input can be seen, and that nothing came of it yet."""
    bench.give(numbered(6))
    bench.pipeline([double, double], id_scheme=id_scheme).create("a")
    assert kin(bench, 2) == in_order(rows("input", "itself", 2), ends("node_0", "itself", "pending", 2))


def test_where_a_row_ends_is_said_of_each_of_its_descendants(bench: Bench) -> None:
    """C1: filtered, skipped, or not done yet; where a node both filters and skips, which it was is not kept."""
    bench.give(numbered(40))
    pipeline = bench.pipeline([lambda row: [row] * 2, no_fifths], default_protocol="csv://").create(
        "a", node_configs=[{}, {"on_error": "skip"}]
    )
    pipeline.run()
    assert kin(bench, 5) == in_order(
        rows("input", "itself", 5),
        rows("node_0", "descendant", "5_0", "5_1"),
        ends("node_1", "descendant", "filtered", "5_0", "5_1"),
    )
    skipping = bench.pipeline([poisoned({3}, no_fifths)], on_error="skip", output_uri=f"csv://{bench.folder}/b.csv")
    skipping.create("b").run()
    assert kin(bench, 3, "b")[1:] == ends("node_0", "itself", "filtered or skipped", 3)
    only = bench.pipeline([poisoned({3})], on_error="skip", output_uri=f"jsonl://{bench.folder}/c.jsonl").create("c")
    only.run()
    assert kin(bench, 3, "c")[1:] == ends("node_0", "itself", "skipped", 3)


def test_a_row_that_should_be_there_and_is_not_is_missing(bench: Bench) -> None:
    """C1: it is done, the node filters and skips none, and nothing came of it: somebody took it away."""
    bench.give(numbered(10))
    bench.pipeline([double]).create("a").run()
    (bench.folder / "out.jsonl.done").unlink()
    kept = bench.output.read_bytes().splitlines(keepends=True)
    bench.output.write_bytes(b"".join(kept[:4] + kept[5:]))
    stream = StreamFactory.create(f"jsonl://{bench.output}")
    stream.write_seal(
        Seal(size=bench.output.stat().st_size, rows=10, cover=(Span(0, 10, 0, 90),), complete=True), sync=False
    )
    assert kin(bench, 4)[1:] == ends("node_0", "itself", "missing", 4)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("id_scheme", ["path", "numeric"])
@pytest.mark.parametrize("seed", range(6))
def test_the_ends_of_all_rows_are_the_account(bench: Bench, seed: int, id_scheme: Any) -> None:
    """C1: traced one by one, the rows of the input end in as many ways as the account counts."""
    chance = random.Random(seed)
    bench.give(numbered(40))
    fates = [poisoned({n for n in range(80) if chance.random() < 0.05}, chance.choice(FATES)) for _ in range(3)]
    for number, fate in enumerate(fates):
        fate.__name__ = f"fate {number}"
    pipeline = bench.pipeline(
        list(fates),
        on_error=chance.choice(["fail", "skip", "dead_letter"]),
        streaming=chance.random() < 0.5,
        default_protocol=chance.choice(["jsonl://", "csv://"]),
        id_scheme=id_scheme,
        writer_config={"async_mode": False},
    ).create("a")
    with contextlib.suppress(NodeFailedError):
        pipeline.run()
    run_state = bench.run_state("a")
    found: set[tuple[str, Any, str]] = set()
    for n in range(40):
        found.update((one.where, one.row_id, one.state) for one in trace(run_state, n) if one.relation != "ancestor")
    for account in accounts_of(bench):
        count = Counter(state for where, _, state in found if where == account.node_id)
        assert count["row"] == account.rows_out
        assert count["dead letter"] == account.dead
        assert count["filtered"] + count["skipped"] + count["filtered or skipped"] == account.filtered + account.skipped
        assert count["pending"] == (account.pending or 0)
        assert not count["missing"]


def test_descendants_are_found_behind_a_stream_that_has_gone_with_its_process(bench: Bench) -> None:
    """M14: their names say it."""
    bench.give(numbered(6))
    pipeline = bench.pipeline([some_children, lambda row: [row, row]], default_protocol="memory://").create("a")
    pipeline.run()
    StreamFactory.create(bench.run_state("a")["nodes"][0]["output_uri"]).delete()
    assert kin(bench, 2) == in_order(
        rows("input", "itself", 2), rows("node_1", "descendant", *(f"2_{k}_{j}" for k in range(2) for j in range(2)))
    )
    assert kin(bench, "2_1_0") == in_order(rows("input", "ancestor", 2), rows("node_1", "itself", "2_1_0"))


@pytest.mark.parametrize("kind", ["children", "batches", "numeric"])
@pytest.mark.slow
def test_a_trace_takes_no_memory_for_rows_that_are_no_kin(bench: Bench, kind: str) -> None:
    """M14: streams of many rows are read, not held: also to find the rows of a batch, and where a row ends."""
    count = 8_000
    bench.give(numbered(count))
    operators = [Sums(2) if kind == "batches" else lambda row: [row, row], lambda row: None if row["n"] % 7 else row]
    scheme: Any = "numeric" if kind == "numeric" else "path"
    bench.pipeline(operators, batch_size=4, id_scheme=scheme, log_file=None).create("a").run()
    run_state = bench.run_state("a")
    last: dict[str, Any] = {
        "children": f"{count - 1}_1",
        "batches": f"{count - 4}~{count - 1}_1",
        "numeric": (count - 1) * 10_000 + 1,
    }
    for asked in (count - 1, last[kind]):
        tracemalloc.start()
        with blocks_of(1 << 16):
            found = list(trace(run_state, asked))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert {one.where for one in found} == {"input", "node_0", "node_1"}
        assert peak < 600_000, "blocks of 64 KiB and their lines, that is; a set of all ids would take more"


def test_the_children_of_row_0_are_found_under_the_numeric_scheme(bench: Bench) -> None:
    """M14: they are 0, 1, 2: their numbers do not begin with their parent's."""
    bench.give(numbered(3))
    bench.pipeline([lambda row: [{"m": "x"}] * 3, lambda row: row], id_scheme="numeric").create("a").run()
    assert kin(bench, 0) == in_order(
        *(rows(where, "itself", 0) for where in ("input", "node_0", "node_1")),
        *(rows(where, "descendant", 1, 2) for where in ("node_0", "node_1")),
    )


def test_blocks_without_the_row_are_passed_over_as_a_whole(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million rows are looked through in two seconds: records are looked at only near the one that is asked for."""
    looked: list[int] = []

    def counted(*args: Any, wanted: Any, may_have: Any, **settings: Any) -> Any:
        def noted(number: int, record: bytes) -> Any:
            looked.append(number)
            return wanted(number, record)

        return rows_of(*args, wanted=noted, may_have=may_have, **settings)

    bench.give({"n": n} for n in range(20_000))
    bench.pipeline([lambda row: [row, {**row, "again": True}], lambda row: row]).create("a").run()
    monkeypatch.setattr("llm_datagen.runs.graph.rows_of", counted)
    found = [(each.where, each.row_id, each.relation) for each in trace(bench.run_state("a"), "15432_1")]
    assert found == [
        ("input", 15_432, "ancestor"),
        ("node_0", "15432_1", "itself"),
        ("node_1", "15432_1", "itself"),
    ]
    assert 0 < len(set(looked)) < 3 * 4096
    assert not list(trace(bench.run_state("a"), "20000_1"))
