"""What a worker makes of a block: every shape of operator and result, every way to fail (M11, M12, M14, M15, H9)."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen import BaseOperator
from llm_datagen.config import FailurePolicy
from llm_datagen.errors import IdError, RowFormatError
from llm_datagen.executors import processing as work
from llm_datagen.executors.id_ranges import merged_marks
from llm_datagen.executors.kernel import run_block
from llm_datagen.operators import FunctionOperator
from llm_datagen.streams import Block, Stream

from ..kit.actors import aside, block_of, result_of
from .helpers import SHAPES, Ctx, data_of, done_of, left, operator_of, processing_of, rows_of, run


def batch(func: Callable[[list[Any]], Any]) -> FunctionOperator:
    """Return an operator that owns its batches."""
    return FunctionOperator(func, batch=True)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no task end because the machine is slow."""
    monkeypatch.setattr(work, "SLICE_SECONDS", 60.0)


shapes = pytest.mark.parametrize("shape", SHAPES)


# --- results -------------------------------------------------------------------------------------------------------


@shapes
def test_one_row_for_one_row_keeps_its_id(shape: str) -> None:
    """M12, M14: and its place."""
    done = done_of(operator_of(shape, lambda item: {"m": item["n"] + 1}), [{"n": n} for n in range(5)])
    assert rows_of(done) == [{"m": n + 1, "_i": n} for n in range(5)]
    assert (done.span[:2], done.filtered, done.rest, done.failure) == ((0, 5), 0, None, None)
    assert done.calls == (3 if shape.endswith("batch") else 5)


@shapes
def test_none_is_no_row(shape: str) -> None:
    """M12, C1: filtered rows are covered, and counted."""
    done = done_of(operator_of(shape, lambda item: item if item["n"] % 2 else None), [{"n": n} for n in range(5)])
    assert [row["_i"] for row in rows_of(done)] == [1, 3]
    assert (done.span[:2], done.filtered) == ((0, 5), 3)


@shapes
def test_a_list_is_children_named_after_their_parent(shape: str) -> None:
    """M12, M14: a child that is None leaves its number out; no children at all is filtered."""
    done = done_of(operator_of(shape, lambda item: [None if k == 1 else {"k": k} for k in range(item["n"])]), [
        {"n": n} for n in (3, 0, 2, 1)
    ])  # fmt: skip
    assert [row["_i"] for row in rows_of(done)] == ["0_0", "0_2", "2_0", "3_0"]
    assert done.filtered == 1


@shapes
def test_children_that_are_all_none_are_filtered(shape: str) -> None:
    """C1: rows in = covered by output + filtered."""
    done = done_of(operator_of(shape, lambda item: [None, None]), [1, 2])
    assert (rows_of(done), done.filtered) == ([], 2)


@shapes
def test_a_generator_is_a_list(shape: str) -> None:
    """M12: of children."""
    done = done_of(operator_of(shape, lambda item: ({"k": k} for k in range(2))), [{"n": 1}, {"n": 2}])
    assert [row["_i"] for row in rows_of(done)] == ["0_0", "0_1", "1_0", "1_1"]


def test_a_batch_may_be_a_generator_a_tuple_or_empty() -> None:
    """M12: what an author writes without thinking of it."""

    def generated(items: list[Any]) -> Any:
        yield from items

    assert [row["_i"] for row in rows_of(done_of(batch(generated), [{"n": n} for n in range(3)]))] == [0, 1, 2]
    assert [row["_i"] for row in rows_of(done_of(batch(tuple), [{"n": n} for n in range(3)]))] == [0, 1, 2]
    nothing = done_of(batch(lambda items: None), [1, 2, 3])  # a forgotten `return` must not filter everything
    assert nothing.failure is not None
    assert "returned None" in nothing.failure.record.text
    assert (nothing.rows, nothing.filtered, left(nothing)) == (0, 0, 3)
    empty = done_of(batch(lambda items: []), [1, 2, 3])
    assert (rows_of(empty), empty.filtered) == ([], 3)


@pytest.mark.parametrize("result", [{"n": 1}, "text", 3, {1, 2}])
def test_a_batch_that_returns_no_list_is_an_error_that_says_so(result: Any) -> None:
    """M12: a dict or a text has a length, too, and would be taken apart."""
    done = done_of(batch(lambda items: result), [1, 2])
    assert done.failure is not None
    assert "must return a list" in done.failure.record.text
    assert (done.rows, left(done)) == (0, 2)


def test_a_batch_that_was_reordered_is_attributed_by_id() -> None:
    """M12: rows that carry an id of their batch are their item's, wherever they stand."""
    done = done_of(batch(lambda items: items[::-1]), [{"n": n} for n in range(4)], batch_size=4)
    assert rows_of(done) == [{"n": n, "_i": n} for n in (3, 2, 1, 0)]
    assert done.filtered == 0


def test_a_flat_list_with_ids_is_attributed_to_its_items() -> None:
    """M12, M14: once: the row itself; several times: its children; never: filtered."""

    def flat(items: list[Any]) -> list[Any]:
        return [{"_i": 0, "a": 1}, {"_i": 2, "b": 1}, {"_i": 2, "b": 2}, {"_i": 2, "b": 3}, None]

    done = done_of(batch(flat), [{"n": n} for n in range(4)], batch_size=4)
    assert [row["_i"] for row in rows_of(done)] == [0, "2_0", "2_1", "2_2"]
    assert done.filtered == 2


def test_as_many_results_as_items_that_are_all_of_one_item_are_its_children() -> None:
    """M12, M14: the same id twice would be a row twice."""
    done = done_of(batch(lambda items: [items[1]] * 2), [{"n": 0}, {"n": 1}])
    assert [row["_i"] for row in rows_of(done)] == ["1_0", "1_1"]
    assert done.filtered == 1


def test_a_flat_list_without_ids_belongs_to_the_whole_batch() -> None:
    """M12, M14: `first~last_k`; no item is counted as filtered, for nobody can say which."""
    done = done_of(batch(lambda items: [{"k": k} for k in range(3)]), [{"n": n} for n in range(4)])
    assert [row["_i"] for row in rows_of(done)] == ["0~1_0", "0~1_1", "0~1_2", "2~3_0", "2~3_1", "2~3_2"]
    assert done.filtered == 0


def test_a_flat_list_may_be_mixed() -> None:
    """M12, M14: some rows carry an id, others do not, and some carry one that is not of the batch."""

    def flat(items: list[Any]) -> list[Any]:
        return [{"_i": 1}, {"x": 1}, {"_i": 99}, [1, 2], 7]

    rows = rows_of(done_of(batch(flat), [{"n": n} for n in range(3)], batch_size=3))
    assert [row["_i"] for row in rows] == [1, "0~2_0", "0~2_1", "0~2_2", "0~2_3"]
    assert [row.get("data") for row in rows] == [None, None, None, [1, 2], 7]


@shapes
def test_values_that_are_no_objects_are_given_and_stored_as_values(shape: str) -> None:
    """M15: `{"_i": …, "data": value}` on disk; the operator sees the value."""
    given_items: list[Any] = []
    values = [1, "text", None, [1, 2], 2.5, True]

    def note(item: Any) -> Any:
        given_items.append(item)
        return "none" if item is None else [item] if isinstance(item, list) else item

    done = done_of(operator_of(shape, note), values)
    assert given_items == values
    assert rows_of(done) == [
        {"_i": 0, "data": 1},
        {"_i": 1, "data": "text"},
        {"_i": 2, "data": "none"},
        {"_i": "3_0", "data": [1, 2]},
        {"_i": 4, "data": 2.5},
        {"_i": 5, "data": True},
    ]
    again = done_of(operator_of(shape, lambda item: item), rows_of(done)[:3], is_root=False)
    assert [row["data"] for row in rows_of(again)] == [1, "text", "none"]


@shapes
def test_an_object_that_has_only_data_stays_an_object(shape: str) -> None:
    """M15: through any number of nodes."""
    identity = operator_of(shape, lambda item: item)
    seen: list[Any] = []
    first = done_of(identity, [{"data": 5}, {"data": 6}])
    for record in data_of(first).splitlines():
        assert record.startswith(b'{"data":')

    def look(item: Any) -> Any:
        seen.append(dict(item))
        return item

    done = done_of(operator_of(shape, look), rows_of(first), is_root=False)
    assert seen == [{"data": 5, "_i": 0}, {"data": 6, "_i": 1}]
    assert done.data == first.data


@shapes
def test_root_rows_are_named_by_their_number_whatever_they_bring(shape: str) -> None:
    """M14: an `_i` in the input is overwritten; further down it is kept."""
    values = [{"_i": "a", "n": 1}, {"_i": [1], "n": 2}, {"n": 3}]
    assert [row["_i"] for row in rows_of(done_of(operator_of(shape, lambda item: item), values))] == [0, 1, 2]
    kept = [{"_i": "a", "n": 1}, {"_i": 10, "n": 2}, {"n": 3}]
    done = done_of(operator_of(shape, dict), kept, is_root=False)
    assert [row["_i"] for row in rows_of(done)] == ["a", 10, 2]


@shapes
@pytest.mark.parametrize("is_root", [True, False])
def test_an_operator_may_do_with_its_item_what_it_likes(shape: str, is_root: bool) -> None:
    """M12: change it, take its id away, keep it and change it later: the rows stay right."""
    kept: list[Any] = []

    def meddle(item: Any) -> Any:
        for old in kept:
            old.clear()
        kept.append(item)
        number = item["n"]
        if number == 1:
            item.pop("_i")
        if number == 2:
            item["_i"] = "forged"
        item["seen"] = True
        return item

    block = block_of([{"n": n} for n in range(4)])
    records = list(block.records)
    done = run(processing_of(operator_of(shape, meddle), is_root=is_root, batch_size=1), block)
    assert rows_of(done) == [{"n": n, "seen": True, "_i": n} for n in range(4)]
    assert block.records == records, "what the engine holds is never changed"


@pytest.mark.integration
def test_one_dict_may_be_returned_by_many_threads_at_once() -> None:
    """M12: it is copied before its id is set."""
    shared = {"answer": 42, "_i": "not mine", "more": list(range(20))}
    processing = processing_of(lambda item: shared)
    blocks = [block_of(range(50), start) for start in range(0, 400, 50)]
    for done in [result_of(one) for one in [aside(run_block, processing, block) for block in blocks]]:
        assert [row["_i"] for row in rows_of(done)] == list(range(done.span.start, done.span.end))
    assert shared["_i"] == "not mine"


@shapes
def test_a_row_that_was_returned_for_another_keeps_its_own_id(shape: str) -> None:
    """M12, M14: an operator that returns an earlier item again (a cache) does not give its id."""
    first: list[Any] = []

    def cached(item: Any) -> Any:
        first.append(item)
        return first[0]

    done = done_of(operator_of(shape, cached), [{"n": 7, "x": 1}, {"n": 8, "x": 1}], batch_size=1)
    assert rows_of(done) == [{"n": 7, "x": 1, "_i": 0}, {"n": 7, "x": 1, "_i": 1}]


# --- numeric ids -----------------------------------------------------------------------------------------------------


def test_numeric_children_are_parent_times_ten_thousand_plus_k() -> None:
    """M14: integers; the marks say which were made."""
    done = done_of(lambda item: [{"k": 0}, None, {"k": 2}], [{"n": 1}, {"n": 2}], id_scheme="numeric")
    assert [row["_i"] for row in rows_of(done)] == [0, 2, 10_000, 10_002]
    assert done.marks == {"made": [0, 10_002]}
    flat = done_of(batch(lambda items: [items[1]] * 3), [{"n": 1}, {"n": 2}], id_scheme="numeric")
    assert [row["_i"] for row in rows_of(flat)] == [10_000, 10_001, 10_002]


@pytest.mark.parametrize(
    ("operator", "values", "is_root", "what"),
    [
        (lambda item: [{}] * 10_001, [1], True, "more than 10000 children"),
        (lambda item: [{}], [{"_i": 2**62, "n": 1}], False, "past 64 bits"),
        (lambda item: [{}], [{"_i": "text", "n": 1}], False, "no numeric id"),
        (lambda item: item, [{"_i": "text", "n": 1}], False, "no numeric id"),
        (batch(lambda items: [{}] * 5), [1, 2], True, "belong to no single item"),
    ],
)
def test_what_numeric_ids_cannot_say_is_an_error_that_says_to_use_path(
    operator: Any, values: list[Any], is_root: bool, what: str
) -> None:
    """M14: never a wrong id."""
    done = done_of(operator, values, id_scheme="numeric", is_root=is_root)
    assert done.failure is not None
    assert isinstance(done.failure.error, IdError)
    assert what in done.failure.record.text
    assert 'id_scheme="path"' in done.failure.record.text
    assert (done.rows, left(done), done.marks) == (0, len(values), {})


def test_kept_and_made_ids_that_could_meet_are_an_error() -> None:
    """M14: whichever worker's block comes first."""
    mixed = done_of(lambda item: [item] if item["n"] else item, [{"n": 0}, {"n": 1}], id_scheme="numeric")
    assert mixed.marks == {"kept": [0, 0], "made": [10_000, 10_000]}
    assert merged_marks({}, mixed.marks) == mixed.marks
    with pytest.raises(IdError, match="could be the same"):
        merged_marks(mixed.marks, {"kept": [10_000, 10_000]})
    with pytest.raises(IdError):
        merged_marks({"kept": [5, 9]}, {"made": [0, 5]})


# --- failures ------------------------------------------------------------------------------------------------------


class Gone(BaseException):
    """Neither an Exception nor one of those that everyone knows."""


KINDS = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, Gone]


@shapes
@pytest.mark.parametrize("kind", KINDS)
def test_what_an_operator_raises_is_an_outcome(shape: str, kind: type[BaseException]) -> None:
    """H9: nothing leaves a worker; the original is kept for `run()` to raise from."""

    def fail(item: Any) -> Any:
        raise kind("on purpose")

    done = done_of(operator_of(shape, fail), [{"n": 1}, {"n": 2}, {"n": 3}])
    assert done.failure is not None
    assert isinstance(done.failure.error, kind)
    assert done.failure.record.kind == kind.__name__
    # a batch that fails is called again in halves, to find the row at fault; not after what is no Exception
    is_whole = shape.endswith("batch") and not issubclass(kind, Exception)
    is_halved = shape.endswith("batch") and issubclass(kind, Exception)
    assert (done.rows, done.calls, left(done)) == (0, 2 if is_halved else 1, 3)
    given_items = [{"n": 1, "_i": 0}, {"n": 2, "_i": 1}]
    count = 2 if is_whole else 1
    assert done.failure.rows == count
    assert done.failure.items == given_items[:count]
    assert done.failure.ids == (0, 1)[:count]


@shapes
@given(
    count=st.integers(1, 40),
    fail_at=st.integers(0, 39),
    batch_size=st.integers(1, 7),
    kind=st.sampled_from(["one", "many", "generated", "not json"]),
)
@settings(max_examples=40, deadline=None)
def test_the_prefix_is_kept_whole_and_nothing_of_the_failing_row_leaks(
    shape: str, count: int, fail_at: int, batch_size: int, kind: str
) -> None:
    """R2, C1: a block that fails half-way gives what was done before, exactly, and the rest back."""

    def children(item: Any, *, fails: bool) -> Any:
        yield {"k": 0, **item}
        yield None
        if fails:
            raise ValueError("on purpose")
        yield {"k": 2, **item}

    def act(item: Any) -> Any:
        fails = item["n"] == fail_at
        if kind == "generated":
            return children(item, fails=fails)
        if kind == "not json" and fails:
            return [{"k": 0}, {"k": object()}]
        if fails:
            raise ValueError("on purpose")
        return list(children(item, fails=False)) if kind == "many" else item if item["n"] % 3 else None

    done = done_of(operator_of(shape, act), [{"n": n} for n in range(count)], batch_size=batch_size)
    whole = min(count, fail_at)  # of a batch, too: the row at fault is found by halving
    if kind in {"many", "generated"}:
        wanted = [f"{n}_{k}" for n in range(whole) for k in (0, 2)]
        filtered = 0
    else:
        wanted = [n for n in range(whole) if n % 3]  # type: ignore[misc]
        filtered = whole - len(wanted)
    assert [row["_i"] for row in rows_of(done)] == wanted
    assert (done.filtered, done.span[:2], left(done)) == (filtered, (0, whole), count - whole)
    assert (done.failure is not None) == (fail_at < count)
    if shape.endswith("batch"):
        halvings = 2 * math.ceil(math.log2(batch_size)) if fail_at < count else 0
        assert done.calls <= -(-min(whole + 1, count) // batch_size) + halvings
    else:
        assert done.calls == whole + (fail_at < count)


def test_numeric_marks_forget_what_failed() -> None:
    """M14: ids that were never written must not forbid others later."""

    def children(item: Any) -> Any:
        yield {"k": 0}
        if item["n"] == 1:
            raise ValueError("on purpose")

    done = done_of(children, [{"n": 0}, {"n": 1}], id_scheme="numeric")
    assert done.marks == {"made": [0, 0]}
    in_batch = done_of(batch(lambda items: [list(children(items[0])), children({"n": 1})]), [{"n": 0}, {"n": 1}],
                       id_scheme="numeric")  # fmt: skip
    assert in_batch.marks == {}


@shapes
@pytest.mark.parametrize("bad", [object(), {1, 2}, math.nan, float, b"bytes", "a lone \ud800"])
def test_results_that_cannot_be_stored_are_a_failure_of_the_operator(shape: str, bad: Any) -> None:
    """H9: alone, in a row, and as a child; nothing half-written remains."""
    for result in (bad, {"x": bad}, [{"x": 1}, {"x": bad}]):

        def act(item: Any, result: Any = result) -> Any:
            return result if item["n"] else item

        done = done_of(operator_of(shape, act), [{"n": 0}, {"n": 1}], batch_size=1)
        assert done.failure is not None, result
        assert (rows_of(done), left(done)) == ([{"n": 0, "_i": 0}], 1)


@shapes
def test_a_line_that_is_not_json_is_an_error_with_its_place(shape: str) -> None:
    """M24: file and line; no operator was given anything."""
    block = block_of([{"n": 0}, {"n": 1}, {"n": 2}])
    block.records[1] = b"{nonsense"
    processing = processing_of(operator_of(shape, lambda item: item), batch_size=1)
    assert isinstance(processing.source, Stream)
    processing.source.storage.replace("in.jsonl", b'{"n":0}\n{nonsense\n{"n":2}\n', sync=False)
    block = Block(block.records, 0, 0, 25, None, block.decode)
    done = run(processing, block)
    assert done.failure is not None
    assert isinstance(done.failure.error, RowFormatError)
    assert "in.jsonl, line 2" in done.failure.record.text
    assert (done.failure.items, done.failure.ids) == ([], (1,))
    assert (done.rows, done.calls, left(done)) == (1, 1, 2)


# --- stopping half-way -----------------------------------------------------------------------------------------------


@shapes
def test_a_task_that_is_cancelled_gives_the_rest_back(shape: str) -> None:
    """M7: what was begun ends; what was not is not."""
    ctx = Ctx()

    def act(item: Any) -> Any:
        ctx.cancelled = True
        return item

    done = done_of(operator_of(shape, act), [{"n": n} for n in range(100)], ctx=ctx)
    assert done.failure is None
    assert done.rows == done.span.end
    assert 1 <= done.rows <= 16
    assert left(done) == 100 - done.rows
    before = done_of(operator_of(shape, act), [{"n": 1}], ctx=ctx)
    assert (before.rows, before.calls, left(before)) == (0, 0, 1)
    assert before.span.start == before.span.end


@shapes
def test_a_slow_row_does_not_hold_up_those_that_were_grouped_with_it(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M10: after its time a task hands the rest back, at once, so that others can take it."""
    monkeypatch.setattr(work, "SLICE_SECONDS", 0.005)

    def slow_at_once(item: Any) -> Any:
        time.sleep(work.SLICE_SECONDS * 1.2)
        return item

    done = done_of(operator_of(shape, slow_at_once), [{"n": n} for n in range(50)], batch_size=1)
    assert (done.rows, left(done), done.calls) == (1, 49, 1)
    assert done.failure is None
    assert done.seconds >= work.SLICE_SECONDS


@pytest.mark.sampled(7)
@pytest.mark.parametrize("seed", range(20))
def test_the_rest_of_a_rest_is_the_same_as_all_at_once(seed: int) -> None:
    """R2, M14: however a block is cut by time, cancel and failure, the bytes are the same in the end."""
    rng = random.Random(seed)
    count, batch_size = rng.randint(1, 30), rng.randint(1, 5)
    for shape in SHAPES:
        ctx = Ctx()
        calm = operator_of(shape, lambda item: [item, {"k": item["n"]}] if item["n"] % 2 else item)
        values = [{"n": n} for n in range(count)]
        whole = done_of(calm, values, batch_size=batch_size)

        def act(item: Any, ctx: Ctx = ctx) -> Any:
            if rng.random() < 0.2:
                raise ValueError("on purpose")
            ctx.cancelled = rng.random() < 0.3
            return [item, {"k": item["n"]}] if item["n"] % 2 else item

        processing = processing_of(
            operator_of(shape, act),
            ctx=ctx,
            batch_size=batch_size,
            policy=FailurePolicy(on_error="skip", max_errors=9999),
        )
        block: Block | None = block_of(values)
        data = b""
        for _ in range(100_000):
            if block is None:
                break
            ctx.cancelled = False
            done = run(processing, block)
            data += data_of(done)
            block = done.rest
        assert data == whole.data


def test_a_class_with_both_methods_is_called_by_batches() -> None:
    """M11: the author owns the batch, where there is one."""

    class Both(BaseOperator):
        def process_item(self, item: Any, ctx: Any) -> Any:
            raise AssertionError

        def process_batch(self, items: Any, ctx: Any) -> Any:
            return [{"size": len(items)} for _ in items]

    assert [row["size"] for row in rows_of(done_of(Both(), range(5), batch_size=3))] == [3, 3, 3, 2, 2]


@pytest.mark.integration
def test_a_kernel_may_be_used_by_many_threads() -> None:
    """M10: block runs share nothing but what is constant."""
    barrier = threading.Barrier(4)

    def together(item: Any) -> Any:
        if item == 0:
            barrier.wait()
        return [item, item]

    processing = processing_of(together, id_scheme="numeric")
    dones = [result_of(one) for one in [aside(run_block, processing, block_of(range(30))) for _ in range(4)]]
    assert len({done.data for done in dones}) == 1
    assert all(done.marks == {"made": [0, 290_001]} for done in dones)


@shapes
def test_values_of_numpy_may_be_in_any_result(shape: str) -> None:
    """M15: alone, in the row that was given, in a new one, in children; others beside them."""
    numpy = pytest.importorskip("numpy")

    def act(item: Any) -> Any:
        match item["n"]:
            case 0:
                return {**item, "v": numpy.arange(3)}
            case 1:
                item["v"] = numpy.float32(0.5)
                return item
            case 2:
                return [{"v": numpy.int64(9)}, {"v": 1}]
        return item

    for batch_size in (1, 2, 4):
        done = done_of(operator_of(shape, act), [{"n": n} for n in range(4)], batch_size=batch_size)
        assert done.failure is None
        assert rows_of(done) == [
            {"n": 0, "v": [0, 1, 2], "_i": 0},
            {"n": 1, "v": 0.5, "_i": 1},
            {"v": 9, "_i": "2_0"},
            {"v": 1, "_i": "2_1"},
            {"n": 3, "_i": 3},
        ]
