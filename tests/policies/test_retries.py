"""Calls that raised are made again (M24): how often, after how long, with what; and what a letter says of it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from llm_datagen import BaseOperator, INodeContext, NodeFailedError, Status
from llm_datagen.config import FailurePolicy
from llm_datagen.executors import processing as work_module
from llm_datagen.executors.retry import MAX_WAIT_SECONDS, Retries

from ..kit.support import Bench, bag, eventually, lines, numbered
from .helpers import PoisonError, check_counts, dead_letters_of, poisoned

SOON: dict[str, Any] = {"retry_wait": 0.0001}
"""A wait before a retry that no test notices."""


class Attempts:
    """Counts the attempts at each row, and lets the first ones of some rows fail.

    Args:
        fails: how many attempts at a row fail.
    """

    def __init__(self, fails: dict[int, int]) -> None:
        self.fails = fails
        self.made: Counter[int] = Counter()
        self._lock = threading.Lock()

    def at(self, row: Any) -> Any:
        n = row["n"]
        with self._lock:
            self.made[n] += 1
            attempt = self.made[n]
        if attempt <= self.fails.get(n, 0):
            raise PoisonError(f"attempt {attempt} at {n}")
        return {"n": n, "attempt": attempt}


class Items(BaseOperator):
    def __init__(self, attempts: Attempts) -> None:
        self.attempts = attempts

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return self.attempts.at(item)


class AsyncItems(Items):
    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        await asyncio.sleep(0)
        return self.attempts.at(item)


class Batches(Items):
    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return [self.attempts.at(item) for item in items]


class AsyncBatches(Items):
    async def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        await asyncio.sleep(0)
        return [self.attempts.at(item) for item in items]


ITEMS = [Items, AsyncItems]
ALL = [*ITEMS, Batches, AsyncBatches]


@pytest.mark.parametrize("make", ITEMS)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_call_may_succeed_at_any_attempt(
    bench: Bench, make: Callable[[Attempts], BaseOperator], batch_size: int
) -> None:
    """M24: the second, the third, the last; those that never do are lettered, after exactly so many attempts."""
    bench.give(numbered(30))
    attempts = Attempts({3: 1, 4: 2, 5: 3, 6: 4, 20: 99})
    pipeline = bench.pipeline(
        [make(attempts)], batch_size=batch_size, parallel_size=2, on_error="dead_letter", retries=3, **SOON
    )
    report = pipeline.create("a").run()
    assert bag(lines(bench.output)) == bag(
        {"n": n, "attempt": attempts.fails.get(n, 0) + 1, "_i": n} for n in range(30) if n not in {6, 20}
    )
    assert attempts.made == {n: min(attempts.fails.get(n, 0) + 1, 4) for n in range(30)}
    dead_letters = {dead_letter["_i"]: dead_letter for dead_letter in dead_letters_of(bench.output)}
    assert dead_letters.keys() == {6, 20}
    for number, dead_letter in dead_letters.items():
        assert dead_letter["attempts"] == 4
        assert dead_letter["error"]["text"] == f"attempt 4 at {number}", "the last error is told"
    check_counts(bench, report)


def test_rows_that_share_a_task_do_not_give_a_row_more_attempts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """M24: also when the time of the task is over meanwhile."""
    monkeypatch.setattr(work_module, "SLICE_SECONDS", 0.0005)
    monkeypatch.setattr(Retries, "sleep", staticmethod(lambda seconds, ctx: time.sleep(0.001)))
    bench.give(numbered(400))
    attempts = Attempts(dict.fromkeys(range(7, 400, 10), 99))
    bench.pipeline([Items(attempts)], on_error="skip", retries=2).create("a").run()
    assert {attempts.made[n] for n in range(7, 400, 10)} == {3}
    assert {attempts.made[n] for n in range(400) if n % 10 != 7} == {1}


@pytest.mark.parametrize("make", [Batches, AsyncBatches])
def test_a_batch_is_tried_again_whole_before_it_is_divided(
    bench: Bench, make: Callable[[Attempts], BaseOperator]
) -> None:
    """M24: what fails by chance costs no halving; what is left alone has its own attempts."""
    bench.give(numbered(16))
    attempts = Attempts({5: 2})
    report = bench.pipeline([make(attempts)], batch_size=8, retries=2, **SOON).create("a").run()
    assert report.failed == 0
    assert attempts.made == {n: 3 if n < 6 else 1 for n in range(16)}, "5 failed twice: the rows before it ran thrice"

    attempts = Attempts({5: 99})
    pipeline = bench.pipeline([make(attempts)], batch_size=8, retries=2, on_error="dead_letter", **SOON)
    report = pipeline.create("a", if_exists="overwrite").run()
    assert [row["n"] for row in lines(bench.output)] == [n for n in range(16) if n != 5]
    # The whole, thrice; then 0-3, 4-7 once, 4-5 once, 4 once, and 5 alone thrice.
    assert attempts.made[5] == 3 + 2 + 3
    assert attempts.made[0] == 3 + 1
    (dead_letter,) = dead_letters_of(bench.output)
    assert (dead_letter["_i"], dead_letter["attempts"]) == (5, 3)
    check_counts(bench, report)


@pytest.mark.parametrize("make", ALL)
def test_every_attempt_gets_fresh_items(bench: Bench, make: Callable[[Attempts], BaseOperator]) -> None:
    """M12, M24: what a failed attempt did to its item is not seen by the next one, nor by the letter."""
    bench.give([{"n": n, "tags": ["new"]} for n in range(6)])
    seen: list[Any] = []

    class Spoiling(Attempts):
        def at(self, row: Any) -> Any:
            seen.append(json.loads(json.dumps(row)))
            row["tags"].append("spoilt")
            row["more"] = 1
            try:
                super().at(row)
            finally:
                del row["more"]
                tags = row.pop("tags")
            return {**row, "tags": tags}

    attempts = Spoiling({2: 2, 4: 99})
    pipeline = bench.pipeline([make(attempts)], batch_size=3, on_error="dead_letter", retries=2, **SOON)
    pipeline.create("a").run()
    assert all(item == {"n": item["n"], "tags": ["new"], "_i": item["n"]} for item in seen)
    assert bag(lines(bench.output)) == bag({"n": n, "tags": ["new", "spoilt"], "_i": n} for n in range(6) if n != 4)
    assert [dead_letter["input"] for dead_letter in dead_letters_of(bench.output)] == [
        {"n": 4, "tags": ["new"], "_i": 4}
    ]


def test_a_line_that_cannot_be_parsed_is_not_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """M24: it would not become a row."""
    slept: list[float] = []
    monkeypatch.setattr(Retries, "sleep", staticmethod(lambda seconds, ctx: slept.append(seconds)))
    bench.input.write_text('{"n": 0}\noops\n{"n": 2}\n')
    bench.pipeline([lambda row: row], on_error="skip", retries=5, retry_wait=50).create("a").run()
    assert [row["n"] for row in lines(bench.output)] == [0, 2]
    assert slept == []


def test_with_fail_a_row_has_its_attempts_too(bench: Bench) -> None:
    """M24: and the run fails with the last error."""
    bench.give(numbered(5))
    attempts = Attempts({2: 99})
    with pytest.raises(NodeFailedError, match="attempt 4 at 2"):
        bench.pipeline([Items(attempts)], retries=3, **SOON).create("a").run()
    assert attempts.made[2] == 4


def test_waits_grow_and_have_an_end() -> None:
    """M24: doubled each time, with jitter, up to a minute; none after the last attempt."""
    retries = Retries(FailurePolicy(retries=12, retry_wait=0.5))
    most: list[float] = []
    for attempt in range(1, 13):
        waits = [retries.pause_after(attempt) for _ in range(300)]
        assert all(wait is not None for wait in waits)
        most.append(max(filter(None, waits)))
        assert most[-1] <= min(0.5 * 2 ** (attempt - 1), MAX_WAIT_SECONDS)
    assert all(most[at] > most[at - 1] * 1.3 for at in range(1, 7)), most
    assert max(most) > MAX_WAIT_SECONDS * 0.8
    assert retries.pause_after(13) is None
    assert Retries(FailurePolicy()).pause_after(1) is None


@pytest.mark.parametrize("make", ITEMS)
def test_each_attempt_is_followed_by_the_wait_of_its_number(
    bench: Bench, make: Callable[[Attempts], BaseOperator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """M24: the number begins anew with every row."""
    waited: list[float] = []
    monkeypatch.setattr(Retries, "pause_after", lambda self, attempts: float(attempts) if attempts <= 3 else None)
    monkeypatch.setattr(Retries, "sleep", staticmethod(lambda seconds, is_interrupted: waited.append(seconds)))

    async def sleep_async(seconds: float, is_interrupted: Callable[[], bool]) -> None:
        waited.append(seconds)

    monkeypatch.setattr(Retries, "sleep_async", staticmethod(sleep_async))
    bench.give(numbered(6))
    attempts = Attempts({1: 2, 3: 99})
    bench.pipeline([make(attempts)], on_error="skip", retries=3).create("a").run()
    assert waited == [1.0, 2.0, 1.0, 2.0, 3.0]


@pytest.fixture
def long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every wait be an hour."""
    monkeypatch.setattr(Retries, "pause_after", lambda self, attempts: 3600.0 if attempts <= 1 else None)


@pytest.mark.sampled(4)
@pytest.mark.usefixtures("long_waits")
@pytest.mark.parametrize("on_error", ["fail", "dead_letter"])
@pytest.mark.parametrize("make", ALL)
def test_a_cancel_during_a_wait_ends_soon(
    bench: Bench, make: Callable[[Attempts], BaseOperator], on_error: str
) -> None:
    """M7: the row is not done, nor lettered: it is tried again when the run is resumed, with all its attempts."""
    bench.give(numbered(8))
    attempts = Attempts({5: 1})
    pipeline = bench.pipeline([make(attempts)], batch_size=2, on_error=on_error).create("a")
    pipeline.start()
    eventually(lambda: attempts.made[5] == 1)
    pipeline.cancel()
    report = pipeline.wait(30)
    assert report.status == Status.CANCELED
    assert report.failed == 0
    assert not dead_letters_of(bench.output)
    assert not bench.is_sealed()
    report = pipeline.resume("a").run()
    assert bag(row["n"] for row in lines(bench.output)) == bag(range(8))
    assert attempts.made[5] == 2
    check_counts(bench, report)


@pytest.mark.usefixtures("long_waits")
def test_a_row_that_waits_holds_up_no_other(bench: Bench) -> None:
    """M10, M11: workers that are free go on."""
    bench.give(numbered(200))
    attempts = Attempts({0: 1})
    pipeline = bench.pipeline([Items(attempts)], parallel_size=4).create("a")
    pipeline.start()
    eventually(lambda: len(attempts.made) == 200)
    pipeline.cancel()
    report = pipeline.wait(30)
    assert report.rows_out == 199


def test_retries_are_kept_in_the_run_state(bench: Bench) -> None:
    """M6: a resume has the settings of the run state, not of the code."""
    bench.give(numbered(3))
    pipeline = bench.pipeline([poisoned({1})], retries=2, retry_wait=0.001, on_error="fail").create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    entry = bench.run_state("a")["nodes"][0]
    assert (entry["retries"], entry["retry_wait"], entry["on_error"], entry["max_errors"]) == (2, 0.001, "fail", None)
    other = bench.pipeline([poisoned({1})], retries=9, retry_wait=100).resume("a", on_error="skip")
    assert (other.nodes[0].policy.retries, other.nodes[0].policy.on_error) == (2, "skip")
    other.run()
    assert bench.run_state("a")["nodes"][0]["on_error"] == "skip"
