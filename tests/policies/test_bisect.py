"""A batch that fails is called again in halves, until the row at fault is alone (M24)."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen import BaseOperator, INodeContext, NodeFailedError
from llm_datagen.config import FailurePolicy
from llm_datagen.executors.kernel import run_block
from llm_datagen.executors.processing import Processing
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.operators import Call
from llm_datagen.streams.ids import RootNames
from llm_datagen.streams.storage.memory import MemoryStorage

from ..executors.helpers import Ctx, rows_of
from ..kit.actors import block_of, stream_on
from ..kit.support import Bench, eventually, lines, numbered
from .helpers import PoisonError, brief, check_counts, dead_letters_of


class Batches(BaseOperator):
    """Fails a batch that has a bad row in it; notes its calls."""

    def __init__(self, bad: Collection[int]) -> None:
        self.bad = bad
        self.calls: list[list[int]] = []

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        self.calls.append([item["n"] for item in items])
        if any(item["n"] in self.bad for item in items):
            raise PoisonError("a row is bad")
        return list(items)


class AsyncBatches(Batches):
    async def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        await asyncio.sleep(0)
        return super().process_batch(items, ctx)


BAD = [0, 1, 2, 14, 15, 16, 31, 32, 33, 46, 47, 48, 61, 62, 63]


@pytest.mark.sampled(7)
@pytest.mark.parametrize(
    ("make", "bad"),
    [
        *((Batches, bad) for bad in BAD),
        *((AsyncBatches, bad) for bad in BAD if bad % 9 == 0),  # the same code but for an `await`
    ],
)
def test_one_bad_row_in_a_batch_costs_at_most_twelve_further_calls(
    bench: Bench, bad: int, make: Callable[[Collection[int]], Batches]
) -> None:
    """M24: wherever it is, the 63 others come out."""
    bench.give(numbered(64))
    operator = make({bad})
    report = bench.pipeline([operator], batch_size=64, on_error="dead_letter").create("a").run()
    assert [row["n"] for row in lines(bench.output)] == [n for n in range(64) if n != bad]
    assert [dead_letter["_i"] for dead_letter in dead_letters_of(bench.output)] == [bad]
    assert operator.calls[0] == list(range(64))
    assert len(operator.calls) <= 1 + 12
    check_counts(bench, report)


def process(operator: BaseOperator, count: int, batch_size: int) -> tuple[list[int], list[int], BlockResult]:
    """Work through rows as a node does with on_error="dead_letter"; return what came out, what failed, and the last."""
    stream = stream_on(MemoryStorage(), "in.jsonl")
    processing = Processing(
        call=Call(operator),
        source=stream,
        encoder=stream.codec.encoder(b""),
        ctx=Ctx(),
        batch_size=batch_size,
        root=RootNames(),
        policy=FailurePolicy(on_error="dead_letter"),
    )
    out: list[int] = []
    failed: list[int] = []
    rest = block_of([{"n": n} for n in range(count)])
    while True:
        done = run_block(processing, rest)
        out += [row["n"] for row in rows_of(done)]
        failed += [row_id for failure in done.survived for row_id in failure.ids]  # type: ignore[misc]
        assert len(done.dead_letters.splitlines()) == done.dead == sum(failure.rows for failure in done.survived)
        if done.rest is None:
            return out, failed, done
        rest = done.rest
        assert done.failure is None


@given(st.integers(1, 80), st.integers(1, 70), st.sets(st.integers(0, 79), max_size=6))
@settings(max_examples=75, deadline=None)
def test_whatever_rows_are_bad_exactly_they_fail(count: int, batch_size: int, bad: set[int]) -> None:
    """M24, C1: the others come out once each, in order; the calls are few."""
    operator = Batches(bad)
    out, failed, _ = process(operator, count, batch_size)
    wrong = sorted(n for n in bad if n < count)
    assert out == [n for n in range(count) if n not in bad]
    assert failed == wrong
    deepest = math.ceil(math.log2(batch_size)) if batch_size > 1 else 0
    batches = math.ceil(count / batch_size) + len(wrong)  # what follows a bad row may begin a batch anew
    assert len(operator.calls) <= batches + len(wrong) * (1 + 2 * deepest)


def test_two_bad_rows_are_both_found(bench: Bench) -> None:
    """M24: in one batch; each has its letter."""
    bench.give(numbered(64))
    operator = Batches({7, 40})
    report = bench.pipeline([operator], batch_size=64, on_error="dead_letter").create("a").run()
    assert [row["n"] for row in lines(bench.output)] == [n for n in range(64) if n not in {7, 40}]
    assert [dead_letter["_i"] for dead_letter in dead_letters_of(bench.output)] == [7, 40]
    assert len(operator.calls) <= 1 + 2 * 12
    check_counts(bench, report)


class TooMuch(Batches):
    """Fails at more than 10 rows at once, whichever they are."""

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        self.calls.append([item["n"] for item in items])
        if len(items) > 10:
            raise PoisonError("too long for the model")
        return list(items)


@pytest.mark.parametrize("on_error", ["fail", "dead_letter"])
def test_a_batch_that_fails_only_as_a_whole_comes_out_in_parts(bench: Bench, on_error: str) -> None:
    """M24: then no row is at fault, so nothing fails, whatever the policy."""
    bench.give(numbered(40))
    operator = TooMuch(())
    report = bench.pipeline([operator], batch_size=20, on_error=on_error, retries=0).create("a").run()
    assert [row["n"] for row in lines(bench.output)] == list(range(40))
    assert [len(call) for call in operator.calls] == [20, 10, 10, 20, 10, 10]
    assert report.failed == 0
    check_counts(bench, report)


@pytest.mark.parametrize("on_error", ["skip", "dead_letter"])
def test_an_operator_whose_batches_must_stay_whole_loses_the_whole_batch(bench: Bench, on_error: str) -> None:
    """M24: bisect=False: every row of the batch has a letter, and the batch was called once."""

    class Whole(Batches):
        bisect = False

    bench.give(numbered(30))
    operator = Whole({12})
    report = bench.pipeline([operator], batch_size=10, on_error=on_error).create("a").run()
    assert [row["n"] for row in lines(bench.output)] == [n for n in range(30) if not 10 <= n < 20]
    assert operator.calls == [list(range(at, at + 10)) for at in (0, 10, 20)]
    if on_error == "dead_letter":
        dead_letters = dead_letters_of(bench.output)
        assert brief(dead_letters) == sorted(f'{n}: {{"n": "{n}"}}' for n in range(10, 20))
        assert [dead_letter["source"][0] for dead_letter in dead_letters] == list(range(10, 20))
        begin, end = dead_letters[0]["source"][1], dead_letters[-1]["source"][2]
        assert bench.input.read_bytes()[begin:end] == b"".join(b'{"n": %d}\n' % n for n in range(10, 20))
    assert report.failed == 10
    check_counts(bench, report)


def test_with_fail_the_row_at_fault_is_named(bench: Bench) -> None:
    """M24, F1: halving finds it, the rows before it are saved, and the hooks get it alone."""
    bench.give(numbered(64))
    operator = Batches({33})
    pipeline = bench.pipeline([operator], batch_size=64).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    (line,) = [line for line in bench.log_lines() if line["event"] == "[Node Failed]"]
    assert line["ids"] == ["33"]
    assert [row["n"] for row in lines(bench.output)] == list(range(33))
    operator.bad = ()
    pipeline.resume("a").run()
    assert [row["n"] for row in lines(bench.output)] == list(range(64))
    assert operator.calls[-1] == list(range(33, 64)), "what came out of halves is not done again"


def test_a_cancel_in_the_middle_of_halving_saves_what_came_out(bench: Bench) -> None:
    """M7, M24: the other halves are done when the run is resumed; nothing is done twice that came out."""
    bench.give(numbered(16))
    reached = threading.Event()
    came_out: list[int] = []

    class Held(Batches):
        def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
            if len(items) == 4 and not reached.is_set():
                reached.set()
                eventually(ctx.is_cancelled)
            result = super().process_batch(items, ctx)
            came_out.extend(item["n"] for item in items)
            return result

    pipeline = bench.pipeline([Held({13})], batch_size=16, on_error="dead_letter").create("a")
    pipeline.start()
    assert reached.wait(30)
    pipeline.cancel()
    report = pipeline.wait(30)
    assert str(report.status) == "canceled"
    pipeline.resume("a").run()
    assert [row["n"] for row in lines(bench.output)] == [n for n in range(16) if n != 13]
    assert sorted(came_out) == [n for n in range(16) if n != 13]
    assert [dead_letter["_i"] for dead_letter in dead_letters_of(bench.output)] == [13]
