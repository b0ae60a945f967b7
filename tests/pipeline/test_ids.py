"""Ids and items: `_i`, its two schemes, rows that are no objects, and what operators may do to what they are given."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_datagen import BaseOperator, ColumnError, FunctionOperator, IdError, INodeContext, NodeFailedError

from ..kit.support import PATIENCE_SECONDS, Bench, bag, lines, numbered
from .chains import STYLES, Fate, modelled, operator

# --- any chain, in any mode ----------------------------------------------------------------------------------------

WIDTHS = st.lists(st.integers(-1, 3), min_size=1, max_size=5)
"""What becomes of a row, by its number: -1 it stays one row, else so many children (0: none)."""


def spread(widths: Sequence[int], *, may_filter: bool = True) -> Fate:
    """Return a fate that depends on nothing but the row."""

    def fate(row: Any) -> Any:
        value = row["n"] if isinstance(row, dict) else row
        width = widths[value % len(widths)]
        if width < 0:
            return {"n": value + 1}
        if width == 0 and may_filter and value % 2:
            return None
        return [{"n": value * 3 + k} if (value + k) % 4 else value * 3 + k for k in range(width)]

    return fate


def flat(widths: Sequence[int]) -> Fate:
    """Return a fate without lists, which a flat batch can do; rows are objects."""

    def fate(row: Any) -> Any:
        return {"n": row["n"] + 1} if widths[row["n"] % len(widths)] else None

    return fate


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[str], list[Fate]]:
    styles = draw(st.lists(st.sampled_from(STYLES[:4]), min_size=1, max_size=4))
    fates = [spread(draw(WIDTHS)) for _ in styles]
    if draw(st.booleans()):
        styles.insert(0, "flat batch")
        fates.insert(0, flat(draw(WIDTHS)))
    return styles, fates


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    chain=chains(),
    count=st.integers(0, 40),
    streaming=st.booleans(),
    async_mode=st.booleans(),
    ordered=st.booleans(),
    parallel_size=st.integers(1, 5),
    batch_size=st.integers(1, 8),
    flush_batch_size=st.integers(1, 20),
)
def test_ids_are_those_of_a_plain_python_model(
    chain: tuple[list[str], list[Fate]],
    count: int,
    streaming: bool,
    async_mode: bool,
    ordered: bool,
    parallel_size: int,
    batch_size: int,
    flush_batch_size: int,
) -> None:
    """M14: ids depend on the input and the operators alone, whatever the mode; and no two rows share one."""
    styles, fates = chain
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        bench.give(numbered(count))
        bench.pipeline(
            [operator(style, fate, name=str(n)) for n, (style, fate) in enumerate(zip(styles, fates, strict=True))],
            streaming=streaming,
            ordered=ordered,
            parallel_size=parallel_size,
            batch_size=batch_size,
            writer_config={"async_mode": async_mode, "flush_batch_size": flush_batch_size, "queue_size": 20},
        ).run()
        found = lines(bench.output)
    assert bag(found) == bag(modelled(numbered(count), fates))
    assert len({row["_i"] for row in found}) == len(found)


# --- the scheme "numeric" ------------------------------------------------------------------------------------------


def children(count: int) -> Callable[[Any], Any]:
    """Return an operator that makes so many children of every row."""

    def make(item: Any) -> Any:
        return [{"k": k} for k in range(count)]

    return make


def test_numeric_ids_are_those_of_the_manual(bench: Bench) -> None:
    """M14 (13.1 of the manual): row 10 in three gives 100000, 100001, 100002; their children go on like that."""
    bench.give(numbered(11))
    bench.pipeline([children(3), children(2)], id_scheme="numeric", streaming=True, parallel_size=2).run()
    found = sorted(row["_i"] for row in lines(bench.output))
    assert found == sorted((n * 10_000 + k) * 10_000 + j for n in range(11) for k in range(3) for j in range(2))
    assert all(isinstance(row_id, int) for row_id in found)


def test_numeric_ids_stay_with_rows_that_stay_one(bench: Bench) -> None:
    """M14: 1:1 keeps the id under both schemes, also behind a node that made children."""
    bench.give(numbered(5))
    bench.pipeline([children(2), lambda item: {"x": 1}], id_scheme="numeric").run()
    assert sorted(row["_i"] for row in lines(bench.output)) == [n * 10_000 + k for n in range(5) for k in range(2)]


def test_numeric_ids_come_back_from_csv_as_numbers(bench: Bench) -> None:
    """M14, M19: an id that was a number is one behind a CSV stream."""
    bench.give(numbered(5))
    bench.pipeline([children(2), children(2)], id_scheme="numeric", default_protocol="csv://").run()
    assert all(isinstance(row["_i"], int) for row in lines(bench.output))


def test_ten_thousand_children_are_the_most_that_numeric_ids_can_name(bench: Bench) -> None:
    """M14: 10,000 children have ids of their own."""
    bench.give(numbered(2))
    bench.pipeline([children(10_000)], id_scheme="numeric").run()
    found = [row["_i"] for row in lines(bench.output)]
    assert sorted(found) == list(range(20_000))


def mixed(item: Any) -> Any:
    return {"kept": item["n"]} if item["n"] else [{"k": k} for k in range(3)]


def spans(items: Sequence[Any], ctx: INodeContext) -> Any:
    return [{"of": "nobody"} for _ in range(len(items) + 1)]


class SpanOperator(BaseOperator):
    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return spans(items, ctx)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("operators", "count"),
    [
        pytest.param([children(10_001)], 1, id="more than 10,000 children"),
        pytest.param([mixed], 5, id="row 1 keeps its id 1, which is also that of a child of row 0"),
        pytest.param([children(2)] * 5, 3, id="past 64 bits"),
        pytest.param([SpanOperator()], 4, id="rows of a batch as a whole"),
    ],
)
@pytest.mark.parametrize("streaming", [True, False])
def test_what_numeric_ids_cannot_name_is_an_error_that_says_to_use_path(
    bench: Bench, operators: list[Any], count: int, streaming: bool
) -> None:
    """M14: no two rows ever get the same id; the error says what to do."""
    bench.give(numbered(count))
    with pytest.raises(NodeFailedError) as caught:
        bench.pipeline(operators, id_scheme="numeric", streaming=streaming, batch_size=2).run()
    assert isinstance(caught.value.__cause__, IdError)
    assert '"path"' in str(caught.value.__cause__)
    assert not bench.is_sealed()


def test_numeric_collisions_are_found_across_a_resume(bench: Bench) -> None:
    """M14: what was kept before an interruption and what is made after it must not meet, either."""
    bench.give(numbered(20))
    others_done = threading.Event()

    def keep_all_but_row_0(item: Any) -> Any:
        if item["n"] == 0:
            others_done.wait(PATIENCE_SECONDS)
            raise RuntimeError("row 0 is not done in the first run")
        if item["n"] == 19:
            others_done.set()
        return item

    def explode_row_0(item: Any) -> Any:
        return [{"k": k} for k in range(20)]

    first = FunctionOperator(keep_all_but_row_0, name="op")
    pipeline = bench.pipeline([first], id_scheme="numeric", parallel_size=2, writer_config={"async_mode": False})
    with pytest.raises(NodeFailedError, match="row 0 is not done"):
        pipeline.create("a").run()
    assert 0 < bench.run_state("a")["nodes"][0]["rows_in"] < 20
    resumed = bench.pipeline([FunctionOperator(explode_row_0, name="op")], id_scheme="numeric").resume("a")
    with pytest.raises(NodeFailedError, match=r'keeps ids .* use id_scheme="path"'):
        resumed.run()
    assert not bench.is_sealed()


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(widths=WIDTHS, again=WIDTHS, count=st.integers(0, 15), batch_size=st.integers(1, 4))
def test_numeric_ids_are_right_and_unique_or_refused(
    widths: list[int], again: list[int], count: int, batch_size: int
) -> None:
    """M14: either every id is the one of the rule and no two are the same, or the run is refused."""
    fates = [spread(widths), spread(again)]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        bench.give(numbered(count))
        operators = [operator("item", fate, name=str(n)) for n, fate in enumerate(fates)]
        try:
            bench.pipeline(operators, id_scheme="numeric", parallel_size=2, batch_size=batch_size).run()
        except NodeFailedError as error:
            if not isinstance(error.__cause__, IdError):
                raise
            assert any(width < 0 for width in widths + again), "without 1:1 rows nothing can collide"
            return
        found = [row["_i"] for row in lines(bench.output)]
    expected = [_as_number(row["_i"]) for row in modelled(numbered(count), fates)]
    assert sorted(found) == sorted(expected)
    assert len(set(found)) == len(found)


def _as_number(row_id: Any) -> int:
    first, *rest = [int(part) for part in str(row_id).split("_")]
    for k in rest:
        first = first * 10_000 + k
    return first


# --- rows of a batch -----------------------------------------------------------------------------------------------


class Batched(BaseOperator):
    def __init__(self, func: Callable[[list[Any]], Any]) -> None:
        self.func = func

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return self.func(list(items))


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("func", "expected"),
    [
        pytest.param(
            lambda items: [{"sum": sum(item["n"] for item in items)}],
            [{"sum": 6, "_i": "0~3_0"}, {"sum": 9, "_i": "4~5_0"}],
            id="one row of the whole batch",
        ),
        pytest.param(
            lambda items: [{"k": k, "_i": items[0]["_i"]} for k in range(5)],
            [{"k": k, "_i": f"{first}_{k}"} for first in (0, 4) for k in range(5)],
            id="all rows of the first item",
        ),
        pytest.param(
            lambda items: [item for item in items if item["n"] % 2],
            [{"n": n, "_i": n} for n in (1, 3, 5)],
            id="some items, as they were",
        ),
        pytest.param(
            lambda items: list(reversed(items)), [{"n": n, "_i": n} for n in range(6)], id="the items in reverse"
        ),
        pytest.param(
            lambda items: [{"n": 1, "_i": items[0]["_i"]}, {"shared": True}, *[{"n": 2, "_i": items[-1]["_i"]}] * 3],
            [
                {"n": 1, "_i": 0},
                {"shared": True, "_i": "0~3_0"},
                {"n": 2, "_i": "3_0"},
                {"n": 2, "_i": "3_1"},
                {"n": 2, "_i": "3_2"},
                {"n": 1, "_i": 4},
                {"shared": True, "_i": "4~5_0"},
                {"n": 2, "_i": "5_0"},
                {"n": 2, "_i": "5_1"},
                {"n": 2, "_i": "5_2"},
            ],
            id="rows of items and of the batch",
        ),
        pytest.param(
            lambda items: [None, *reversed(items[1:])] if len(items) == 4 else items,
            [{"n": n, "_i": n} for n in (1, 2, 3, 4, 5)],
            id="the items in another order, but for one",
        ),
        pytest.param(
            lambda items: [*items[1:], {"shared": True}],
            [*({"n": n, "_i": n} for n in (1, 2, 3, 5)), *({"shared": True, "_i": i} for i in ("0~3_0", "4~5_0"))],
            id="as many rows as items, of which one is the batch's",
        ),
        pytest.param(
            lambda items: [[{"k": 0}], *({"n": 9, "_i": items[0]["_i"]} for _ in items[1:])],
            [{"k": 0, "_i": "0_0"}, {"k": 0, "_i": "4_0"}, *({"n": 9, "_i": i} for i in (1, 2, 3, 5))],
            id="one result an item, with an id that somebody copied",
        ),
        pytest.param(lambda items: [], [], id="nothing"),
        pytest.param(
            lambda items: [[{"k": 0}, {"k": 1}], None, {"k": 2}, []][: len(items)],
            [{"k": k, "_i": i} for i, k in (("0_0", 0), ("0_1", 1), (2, 2), ("4_0", 0), ("4_1", 1))],
            id="one result an item",
        ),
    ],
)
@pytest.mark.parametrize("parallel_size", [1, 3])
def test_rows_of_a_batch_are_attributed(
    bench: Bench, func: Callable[[list[Any]], Any], expected: list[Any], parallel_size: int
) -> None:
    """M12: one result an item, or a flat list whose rows say whose they are, or are the batch's."""
    bench.give(numbered(6))
    bench.pipeline([Batched(func)], batch_size=4, parallel_size=parallel_size).run()
    found = lines(bench.output)
    if parallel_size == 1:
        by_place = {json.dumps(row, sort_keys=True) for row in found}
        assert len(by_place) == len(found)
    assert bag(found) == bag(expected)


def test_a_batch_that_is_no_list_is_an_error(bench: Bench) -> None:
    """M12: what `process_batch` returns must be a list."""
    bench.give(numbered(3))
    with pytest.raises(NodeFailedError, match="must return a list, not a dict"):
        bench.pipeline([Batched(lambda items: {"n": 1})], batch_size=2).run()


def test_an_operator_may_use_up_the_list_it_was_given(bench: Bench) -> None:
    """M12: the list of items is the operator's own; what it does to it does not matter."""
    bench.give(numbered(10))

    class Popping(BaseOperator):
        def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
            made = []
            assert isinstance(items, list)
            while items:
                made.append({"n": items.pop(0)["n"] * 2})
            return made

    bench.pipeline([Popping()], batch_size=4).run()
    assert lines(bench.output) == [{"n": n * 2, "_i": n} for n in range(10)]


# --- what operators are given, and may do to it --------------------------------------------------------------------


@pytest.mark.parametrize("style", ["item", "async", "batch"])
def test_items_carry_their_id(bench: Bench, style: str) -> None:
    """M12: `_i` is in what an operator is given: a number at the root, a path below."""
    bench.give(numbered(4))
    seen: list[Any] = []

    class Item(BaseOperator):
        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            seen.append(item["_i"])
            return [{"a": 1}, {"b": 2}]

    class Async(BaseOperator):
        async def process_item(self, item: Any, ctx: INodeContext) -> Any:
            seen.append(item["_i"])
            return [{"a": 1}, {"b": 2}]

    class Batch(BaseOperator):
        def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
            seen.extend(item["_i"] for item in items)
            return [[{"a": 1}, {"b": 2}] for _ in items]

    made = {"item": Item, "async": Async, "batch": Batch}[style]
    bench.pipeline([made(), made()], batch_size=2).run()
    assert sorted(map(str, seen)) == sorted(["0", "1", "2", "3", *(f"{n}_{k}" for n in range(4) for k in (0, 1))])


def test_rows_of_the_input_are_named_by_their_number_whatever_they_call_themselves(bench: Bench) -> None:
    """M14: the root id is the row's number in the input, from 0, also when it brings an `_i` along, which is kept."""
    bench.give([{"_i": "x", "n": 1}, {"_i": 0, "n": 2}, {"n": 3}])
    bench.pipeline([lambda item: item]).run()
    assert lines(bench.output) == [{"_i": 0, "n": 1, "_i_in": "x"}, {"_i": 1, "n": 2, "_i_in": 0}, {"n": 3, "_i": 2}]


def test_what_an_operator_does_to_its_item_does_not_leak(bench: Bench) -> None:
    """M12: the id is the engine's; an item that is changed in place is nobody else's."""
    bench.give(numbered(20))
    kept: list[Any] = []

    class Vandal(BaseOperator):
        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            item["_i"] = "mine"
            item["n"] *= 10
            kept.append(item)
            for other in kept:  # rows that were returned long ago
                if other is not item:
                    other.clear()
            return item

    bench.pipeline([Vandal()], parallel_size=1).run()
    assert lines(bench.output) == [{"n": n * 10, "_i": n} for n in range(20)]
    bench.output.unlink()
    Path(f"{bench.output}.done").unlink()

    class Sink(BaseOperator):
        def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
            results = [{"n": item["n"]} for item in items]
            for item in items:
                item.clear()
            return results

    bench.pipeline([Sink()], batch_size=3).run()
    assert lines(bench.output) == [{"n": n, "_i": n} for n in range(20)]


def test_one_object_returned_for_every_row_gets_every_id(bench: Bench) -> None:
    """M12: a result that the operator keeps and returns again is not changed by the engine."""
    bench.give(numbered(10))
    shared = {"same": True}
    bench.pipeline([lambda item: shared, lambda item: [shared, shared]], streaming=True, parallel_size=3).run()
    assert shared == {"same": True}
    assert bag(lines(bench.output)) == bag({"same": True, "_i": f"{n}_{k}"} for n in range(10) for k in (0, 1))


def test_a_failed_row_is_done_again_from_what_the_input_says(bench: Bench) -> None:
    """M12: what an operator did to an item before it raised is not seen when the row is done again."""
    bench.give(numbered(3))

    class Spoils(BaseOperator):
        name = "one"

        def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
            for item in items:
                item["n"] = "spoiled"
            raise RuntimeError

    with pytest.raises(NodeFailedError):
        bench.pipeline([Spoils()], batch_size=3).create("a").run()

    class Right(BaseOperator):
        name = "one"

        def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
            return list(items)

    bench.pipeline([Right()]).resume("a").run()
    assert lines(bench.output) == [{"n": n, "_i": n} for n in range(3)]


# --- rows that are no objects --------------------------------------------------------------------------------------

VALUES: list[Any] = ["text", 7, 2.5, True, False, [1, {"a": None}], "", 0, "line\nbreak", {"data": 1}, {"data": {}}, {}]


@pytest.mark.parametrize("style", ["item", "batch"])
def test_a_row_that_is_no_object_is_given_as_the_value(bench: Bench, style: str) -> None:
    """M15: the operator gets the value, the disk holds `{"_i": …, "data": value}`, and so on through two nodes."""
    bench.give(VALUES)
    seen: list[Any] = []

    def look(row: Any) -> Any:
        seen.append(row)
        return None if isinstance(row, list) else row

    size = 5 if style == "batch" else 1  # one at a time, so that the order is that of the input
    bench.pipeline([operator(style, look, name="a"), operator(style, look, name="b")], batch_size=size).run()
    kept = [value for value in VALUES if not isinstance(value, list)]
    assert seen == VALUES + kept
    plain = [row for row in lines(bench.output) if row["_i"] not in (9, 10, 11)]
    expected = [{"_i": n, "data": value} for n, value in enumerate(VALUES) if not isinstance(value, list | dict)]
    assert plain == expected
    assert [list(row) for row in plain] == [["_i", "data"]] * len(plain)


def test_null_is_a_row_of_the_input(bench: Bench) -> None:
    """M15: a line `null` is given to the operator as None, and has a number."""
    bench.give([None, 1, None])
    bench.pipeline([lambda item: {"was": item}]).run()
    assert lines(bench.output) == [{"was": value, "_i": n} for n, value in enumerate([None, 1, None])]


def test_children_may_be_anything(bench: Bench) -> None:
    """M12, M15: a list of values is that many rows; a list in a list is a row."""
    bench.give([0])
    bench.pipeline([lambda item: ["a", [1, 2], {"x": 1}, 5]]).run()
    assert lines(bench.output) == [
        {"_i": "0_0", "data": "a"},
        {"_i": "0_1", "data": [1, 2]},
        {"x": 1, "_i": "0_2"},
        {"_i": "0_3", "data": 5},
    ]


@pytest.mark.parametrize(
    "value", [object(), {1: "key"}, {"x": {1, 2}}, {"x": b"bytes"}, {"x": "\ud800"}, {"x": [float("nan")]}]
)
@pytest.mark.parametrize("async_mode", [True, False])
def test_a_row_that_json_cannot_hold_fails_the_node(bench: Bench, value: Any, async_mode: bool) -> None:
    """M24: not even what an operator returns can be lost silently; the cause says what could not be written."""
    bench.give(numbered(3))
    with pytest.raises(NodeFailedError) as caught:
        bench.pipeline([lambda item: value if item["n"] == 1 else item], writer_config={"async_mode": async_mode}).run()
    assert isinstance(caught.value.__cause__, TypeError | ValueError)
    assert lines(bench.output) == [{"n": 0, "_i": 0}]
    assert not bench.is_sealed()


def test_a_column_that_the_header_lacks_is_an_error_that_names_it(bench: Bench) -> None:
    """M19: CSV cannot hold a new column; the rows before it are safe."""
    bench.give(numbered(5))
    with pytest.raises(NodeFailedError) as caught:
        bench.pipeline(
            [lambda item: {"n": item["n"], **({"surprise": 1} if item["n"] == 3 else {})}, lambda item: item],
            default_protocol="csv://",
        ).create("a").run()
    assert isinstance(caught.value.__cause__, ColumnError)
    assert "'surprise'" in str(caught.value.__cause__)
    assert bench.between("a", extension="csv").read_text() == "n,_i\n0,0\n1,1\n2,2\n"
