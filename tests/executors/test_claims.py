"""Claims: which rows of a task were begun; a row has one taker, whoever asks when (M10, R2)."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.executors import processing as processing_module
from llm_datagen.executors.claims import Claims
from llm_datagen.executors.kernel import run_block, run_block_async
from llm_datagen.executors.processing import Processing
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.operators import FunctionOperator
from llm_datagen.streams import Block

from ..kit.actors import aside, block_of, result_of
from ..kit.support import PATIENCE_SECONDS
from .helpers import SHAPES, Ctx, data_of, left, operator_of, processing_of, rows_of

ROWS = 12
ROUNDS = 1000


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no task end because the machine is slow."""
    monkeypatch.setattr(processing_module, "SLICE_SECONDS", 60.0)


@pytest.fixture
def restless() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.usefixtures("restless")
def test_each_row_has_one_taker_whatever_the_threads_do() -> None:
    """R2: workers claim one by one, or some at once; the node takes the rest at some moment: none twice, none left."""
    rounds = [Claims(ROWS) for _ in range(ROUNDS)]
    taken: list[list[int]] = [[] for _ in range(ROUNDS)]
    first_of_rest: list[int | None] = [None] * ROUNDS
    start = threading.Barrier(4)

    def claim(count: int) -> None:
        for claims, mine in zip(rounds, taken, strict=True):
            start.wait(PATIENCE_SECONDS)
            while found := list(islice(claims.numbers, count)):
                mine.extend(found)
                time.sleep(0)  # let the others have a turn: the calls of an operator take longer than this

    def cut() -> None:
        rng = random.Random(1)
        for number, claims in enumerate(rounds):
            moment = rng.randint(0, ROWS)
            start.wait(PATIENCE_SECONDS)
            while claims.left > moment:
                pass
            first_of_rest[number] = claims.take_rest()

    for one in [*(aside(claim, count) for count in (1, 1, 3)), aside(cut)]:
        result_of(one)
    for mine, first in zip(taken, first_of_rest, strict=True):
        rest = range(ROWS if first is None else first, ROWS)
        assert Counter([*mine, *rest]) == Counter(range(ROWS))
    cuts = [first for first in first_of_rest if first]
    assert len(cuts) > ROUNDS // 20, "the cut was hardly ever between two claims, so this has shown nothing"


def test_what_is_left_is_counted_and_taken_once() -> None:
    """M10: a second cut finds nothing, and neither does the worker."""
    claims = Claims(5)
    assert (claims.left, next(claims.numbers), claims.left) == (5, 0, 4)
    assert claims.take_rest() == 1
    assert (claims.left, claims.take_rest(), list(claims.numbers)) == (0, None, [])
    assert Claims(0).take_rest() is None


def run(processing: Processing, block: Block, claims: Claims) -> BlockResult:
    """Process a block, here and now, as far as its rows can be claimed."""
    if processing.call.is_async:
        return asyncio.run(run_block_async(processing, block, claims))
    return run_block(processing, block, claims)


class Cutter:
    """An operator's function, in whose calls the rest of the task may be taken away.

    Args:
        cut_at: the row at which that happens.
        fails_at: the row at which it fails.
    """

    def __init__(self, cut_at: int, fails_at: int | None = None) -> None:
        self.claims = Claims(0)
        self.cut_at = cut_at
        self.fails_at = fails_at
        self.kept: int | None = None
        self.calls: list[int] = []

    def __call__(self, item: Any) -> Any:
        self.calls.append(item["n"])
        if item["n"] == self.cut_at and self.kept is None:
            self.kept = self.claims.take_rest()
        if item["n"] == self.fails_at:
            raise ValueError("on purpose")
        return [item, {"k": item["n"]}] if item["n"] % 2 else item


@pytest.mark.parametrize("shape", SHAPES)
def test_a_task_whose_rest_was_taken_away_ends_with_what_it_has_begun(shape: str) -> None:
    """R2, M10: its span ends there, nothing is given back twice; batches stay on the grid."""
    act = Cutter(cut_at=7)
    processing = processing_of(operator_of(shape, act), batch_size=3)
    block = block_of([{"n": n} for n in range(20)])
    act.claims = Claims(20)
    done = run(processing, block, act.claims)
    kept = 9 if shape.endswith("batch") else 8
    assert act.kept == kept
    assert (done.span[:2], done.rest, done.failure) == ((0, kept), None, None)
    assert done.span.offset_end == block.offset_after(kept)
    assert [row["_i"] for row in rows_of(done)] == [
        row_id for n in range(kept) for row_id in ((f"{n}_0", f"{n}_1") if n % 2 else (n,))
    ]
    assert act.calls == list(range(kept))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_task_that_loses_all_its_rows_before_it_begins_does_nothing(shape: str) -> None:
    """M10: it waited for a worker; an empty span is no result."""
    calls: list[Any] = []
    claims = Claims(6)
    assert claims.take_rest() == 0
    done = run(processing_of(operator_of(shape, calls.append)), block_of([{"n": n} for n in range(6)]), claims)
    assert (done.span[:2], done.rows, done.rest, done.calls, calls) == ((0, 0), 0, None, 0, [])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_that_fails_after_the_rest_was_taken_away_gives_back_only_what_is_its_own(shape: str) -> None:
    """R2: the row at fault, and what was claimed with it."""
    act = Cutter(cut_at=6, fails_at=7)
    processing = processing_of(operator_of(shape, act), batch_size=3)
    act.claims = Claims(20)
    done = run(processing, block_of([{"n": n} for n in range(20)]), act.claims)
    if shape.endswith("batch"):  # rows 6 to 8 were one call: 7 is found by halving, 8 comes back with it
        assert (done.span.end, left(done), act.kept) == (7, 2, 9)
    else:  # 7 was not begun: somebody else calls it
        assert (done.span.end, done.rest, act.kept) == (7, None, 7)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("shape", SHAPES)
@given(
    count=st.integers(1, 40),
    cut_at=st.integers(0, 39),
    fails_at=st.none() | st.integers(0, 39),
    batch_size=st.integers(1, 7),
)
@settings(max_examples=40, deadline=None)
def test_a_block_that_was_cut_and_its_rest_give_what_the_whole_gives(
    shape: str, count: int, cut_at: int, fails_at: int | None, batch_size: int
) -> None:
    """R2, C1: each row has one outcome, and batches are the same, wherever the cut is."""
    block = block_of([{"n": n} for n in range(count)])
    whole = run(processing_of(operator_of(shape, Cutter(-1)), batch_size=batch_size), block, Claims(count))
    act = Cutter(cut_at, fails_at)
    act.claims = Claims(count)
    processing = processing_of(operator_of(shape, act), batch_size=batch_size)
    first = run(processing, block, act.claims)
    kept = count if act.kept is None else act.kept
    assert first.span.end + left(first) == kept, "what is neither done nor given back would be lost"
    if shape.endswith("batch"):
        assert kept % batch_size == 0 or kept == count
    act.fails_at, act.cut_at = None, -1
    processing.gate.is_halted = False
    data = data_of(first)
    for rest in (first.rest, block.split_at(kept)[1]):
        if rest is not None and rest.records:
            act.claims = Claims(len(rest.records))
            data += data_of(run(processing, rest, act.claims))
    assert data == data_of(whole)


def test_a_cancelled_task_of_which_nothing_is_left_gives_nothing_back() -> None:
    """M7: what the node has taken is the node's; what was begun is delivered."""
    ctx = Ctx()
    claims = Claims(50)

    def act(item: Any) -> Any:
        ctx.cancelled = True
        claims.take_rest()
        return item

    done = run_block(processing_of(FunctionOperator(act), ctx=ctx), block_of([{"n": n} for n in range(50)]), claims)
    assert (done.span[:2], done.rest) == ((0, 1), None)
