"""Rows that fail, one after the other: a worker goes on after them, and keeps no more of them than it must."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from llm_datagen.config import FailurePolicy
from llm_datagen.errors import KEPT_CHARS, SHOWN_CHARS, FailureRecord, StopRun
from llm_datagen.errors.tracebacks import trace_of
from llm_datagen.executors import failures
from llm_datagen.executors import processing as processing_module
from llm_datagen.executors.error_allowance import ErrorAllowance
from llm_datagen.executors.processing import Processing
from llm_datagen.streams import Span, Stream
from llm_datagen.streams.dead_letters import RAW_BYTES, UNPARSED, dead_letter
from llm_datagen.streams.line_numbers import LineCounter

from ..kit.actors import block_of
from .helpers import SHAPES, Ctx, operator_of, processing_of, rows_of, run
from .test_process import running

DEAD, SKIP = FailurePolicy(on_error="dead_letter"), FailurePolicy(on_error="skip")


@pytest.fixture(autouse=True)
def _long_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no pass end because its time is up."""
    monkeypatch.setattr(processing_module, "SLICE_SECONDS", 1000)


def odd_fails(item: Any) -> Any:
    """Raise for every other row."""
    if item["n"] % 2:
        raise ValueError(f"row {item['n']}")
    return item


@pytest.mark.parametrize("policy", [DEAD, SKIP], ids=["dead_letter", "skip"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_worker_goes_on_after_rows_that_fail(shape: str, policy: FailurePolicy) -> None:
    """M24, C1: one pass, one result, with every row in it: a failure costs no task of its own."""
    processing = processing_of(operator_of(shape, odd_fails), batch_size=4, policy=policy)
    done = run(processing, block_of([{"n": n} for n in range(40)]))
    is_dead = policy is DEAD
    assert (done.rest, done.failure) == (None, None)
    assert done.span == Span(0, 40, 0, done.span.offset_end)
    assert [row["n"] for row in rows_of(done)] == list(range(0, 40, 2))
    assert (done.dead, done.skipped) == ((20, 0) if is_dead else (0, 20))
    assert [failure.ids for failure in done.survived] == [(n,) for n in range(1, 40, 2)]
    assert [failure.record.text for failure in done.survived] == [f"row {n}" for n in range(1, 40, 2)]
    dead_letters = [orjson.loads(line) for line in done.dead_letters.splitlines()]
    assert [found["input"]["n"] for found in dead_letters] == (list(range(1, 40, 2)) if is_dead else [])
    assert all(found["source"][0] == found["_i"] for found in dead_letters)


@pytest.mark.process
def test_so_does_a_worker_process() -> None:
    """M24: with the user's exceptions and items."""
    with running(odd_fails, policy=DEAD) as bench:
        done = bench.done_of([{"n": n} for n in range(8)])
    assert (done.rest, done.failure, done.dead, len(done.dead_letters.splitlines())) == (None, None, 4, 4)
    assert [(failure.ids, failure.items) for failure in done.survived] == [
        ((n,), [{"n": n, "_i": n}]) for n in (1, 3, 5, 7)
    ]
    assert [str(failure.error) for failure in done.survived] == ["row 1", "row 3", "row 5", "row 7"]


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        (FailurePolicy(), ValueError("it")),
        (FailurePolicy(on_error="skip", max_errors=1), ValueError("it")),  # to count is the node's affair
        (SKIP, StopRun("enough")),
        (SKIP, SystemExit(1)),
        (SKIP, asyncio.CancelledError()),
    ],
    ids=["fail", "max_errors", "stop", "exit", "cancelled"],
)
def test_what_the_node_must_decide_ends_the_pass(policy: FailurePolicy, error: BaseException) -> None:
    """M24, F1: and the row that failed is the first of the rest, without a dead letter."""

    def act(item: Any) -> Any:
        raise error

    done = run(processing_of(operator_of("item", act), policy=policy), block_of([{"n": 0}, {"n": 1}]))
    assert done.failure is not None
    assert (done.failure.error, done.failure.dead_letters, done.survived) == (error, b"", ())
    assert done.rest is not None
    assert len(done.rest.records) == 2


def test_a_row_that_fails_while_the_run_is_cancelled_is_not_done() -> None:
    """R2: the cancel may be what it failed of."""
    ctx = Ctx()

    def act(item: Any) -> Any:
        ctx.cancelled = True
        raise ValueError("cut off")

    done = run(processing_of(operator_of("item", act), ctx=ctx, policy=DEAD), block_of([{"n": 0}]))
    assert (done.dead, done.survived) == (0, ())
    assert done.failure is not None


def test_failures_that_take_much_memory_are_delivered_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass ends when its failures are large, and at once after a text that is cut."""
    monkeypatch.setattr(failures, "FAILED_BYTES", 10_000)

    def act(item: Any) -> Any:
        raise ValueError("x" * item["n"])

    processing = processing_of(operator_of("item", act), policy=SKIP)
    assert len(run(processing, block_of([{"n": 2_000}] * 50)).survived) < 10
    assert len(run(processing, block_of([{"n": 5_000_000}] * 50)).survived) == 1


def test_a_long_text_is_kept_up_to_a_bound_and_says_so() -> None:
    """What is kept, and what messages show."""
    try:
        raise ValueError("y" * 5_000_000)
    except ValueError as error:
        record = FailureRecord.of(error)
    assert record.text == "y" * KEPT_CHARS + "… (cut: it has 5000000 characters)"
    assert len(record.trace) < KEPT_CHARS + 100
    assert record.trace.startswith("Traceback (most recent call last):\n")
    assert "(cut: it has 5000" in record.trace
    assert record.is_cut
    assert str(record) == "ValueError: " + "y" * SHOWN_CHARS + f"… (cut: it has {len(record.text)} characters)"


def test_a_damaged_record_does_not_become_many_times_its_size() -> None:
    """A record of NULs takes six times its size as JSON."""
    failed = FailureRecord("ValueError", "damaged", "")
    make: Callable[[bytes], bytes] = lambda record: dead_letter(  # noqa: E731 - one call, two records
        7, UNPARSED, record=record, node_id="n", error=failed, attempts=0, source=Span(7, 8, 0, 9)
    )
    short, long = orjson.loads(make(b"\0\xff" * 10)), orjson.loads(make(b"\0" * (3 * RAW_BYTES)))
    assert (short["raw"], "raw_bytes" in short) == ("\0\\xff" * 10, False)
    assert (long["raw"], long["raw_bytes"]) == ("\0" * RAW_BYTES, 3 * RAW_BYTES)


def _caught(act: Callable[[], Any]) -> BaseException:
    try:
        act()
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError


def _caused(depth: int, *, is_from: bool) -> None:
    try:
        if depth:
            _caused(depth - 1, is_from=is_from)
        raise KeyError("first")
    except KeyError as error:
        if is_from:
            raise ValueError("second") from error
        raise TypeError  # noqa: B904 - the context is what is tested


def _noted() -> None:
    error = ValueError("noted")
    error.add_note("a note")
    raise error


def _mute() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    raise MuteError


@pytest.mark.parametrize(
    "act",
    [
        lambda: int("x"),
        lambda: dict[str, int]()["key"],
        lambda: _caused(0, is_from=True),
        lambda: _caused(0, is_from=False),
        lambda: _caused(2, is_from=False),
        lambda: _caused(9, is_from=True),
        lambda: "".lowr,  # type: ignore[attr-defined]
        lambda: compile("a b", "f", "exec"),
        _noted,
        _mute,
    ],
)
def test_a_traceback_is_as_python_formats_it(act: Callable[[], Any]) -> None:
    """Whatever was remembered of another one."""
    for _ in range(2):
        error = _caught(act)
        assert trace_of(error) == "".join(traceback.format_exception(error))


def test_an_exception_that_was_never_raised_has_a_trace() -> None:
    """Such as one from another process."""
    assert trace_of(ValueError("x")) == "ValueError: x\n"


class _File:
    """A file in memory that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.read = data, 0

    def read_at(self, offset: int, length: int) -> bytes:
        """Return a piece."""
        found = self.data[offset : offset + length]
        self.read += len(found)
        return found


def test_lines_are_counted_once_in_whatever_order_they_are_asked_for() -> None:
    """Two workers ask by turns for lines that lie far apart."""
    file: Any = _File(b"0123456789\n" * 300_000)
    lines = LineCounter()
    for n in range(0, 1_000, 10):
        for line in (299_000 + n // 2, 100_000 + n):
            assert lines.number(file, line * 11) == line + 1
    assert file.read < 5 * len(file.data)


def test_bad_lines_that_lie_together_are_counted_from_what_was_read() -> None:
    """Line 18: the file is not opened for each of them, and blank lines are passed over."""
    file: Any = _File(b"12345\n\r\n" * 20_000)
    lines = LineCounter()
    reads = 0
    for n in range(20_000):
        found = lines.known(n * 8)
        if found is None:
            reads += 1
            found = lines.number(file, n * 8)
        assert found == 2 * n + 1
    assert reads <= 20
    assert lines.known(8 * 19_999 + 6) is None, "nothing follows these blank lines"
    assert lines.known(8) is None, "it is far behind"


def test_rows_before_one_that_cannot_be_parsed_are_decoded_once() -> None:
    """Line 18: and it is tried twice at most: at the end of the batch before it, and as the first one of its own."""
    bad = {2, 4, 5}
    decoded: list[int] = []

    def decode(record: bytes) -> Any:
        decoded.append(int(record[5:6]))
        return orjson.loads(record)

    block = block_of([{"n": n} for n in range(7)])
    block.records[:] = [record[:-1] + b"]" if n in bad else record for n, record in enumerate(block.records)]
    done = run(
        processing_of(operator_of("batch", lambda item: item), batch_size=7, policy=DEAD), replace(block, decode=decode)
    )
    assert [row["n"] for row in rows_of(done)] == [0, 1, 3, 6]
    assert [orjson.loads(line)["raw"] for line in done.dead_letters.splitlines()] == [
        f'{{"n":{n}]' for n in sorted(bad)
    ]
    assert sorted(decoded) == [0, 1, 2, 2, 3, 4, 4, 5, 6]


@pytest.mark.parametrize("limit", [7, 20, 100])
def test_a_worker_goes_on_as_long_as_rows_may_fail(limit: int) -> None:
    """M24: no row more than `max_errors` allows is done with by a worker; what follows is for the node to decide."""
    policy = replace(DEAD, max_errors=limit)
    processing = processing_of(operator_of("item", odd_fails), policy=policy)
    processing = replace(processing, allowance=ErrorAllowance(policy, done=0, failed=0))
    done = run(processing, block_of([{"n": n} for n in range(40)]))
    assert done.dead == len(done.survived) == min(limit, 20)
    assert (done.failure is None) == (limit >= 20)
    assert done.span.end == (40 if limit >= 20 else 2 * limit + 1)


def test_no_more_rows_may_fail_than_a_number_allows_whoever_asks() -> None:
    """M24: those of other tasks count, and those of a process that died count no more."""
    allowance = ErrorAllowance(replace(SKIP, max_errors=5), done=50, failed=2)
    assert [allowance.take(2, 0), allowance.take(2, 0), allowance.take(1, 0), allowance.take(1, 0)] == [True, False] * 2
    allowance.give_back(2)
    assert [allowance.take(2, 0), allowance.take(1, 0)] == [True, False]
    assert allowance.count(1) == 6


def test_a_share_is_of_what_is_surely_done() -> None:
    """M24: what the worker has done of its own task counts; what other tasks have done is not known."""
    allowance = ErrorAllowance(replace(SKIP, max_errors=0.5), done=0, failed=0)
    assert all(allowance.take(1, n) for n in range(99)), "a share is looked at from 100 rows on"
    assert not allowance.take(1, 99)
    allowance.done = 197
    assert not allowance.take(1, 0), "100 of 198"
    assert allowance.take(1, 2), "100 of 200"


@pytest.mark.process
def test_a_worker_process_asks_how_many_rows_may_fail() -> None:
    """M24: the count is the engine's, for all processes."""
    policy = replace(DEAD, max_errors=3)
    with running(odd_fails, policy=policy, allowance=ErrorAllowance(policy, done=0, failed=0)) as bench:
        done = bench.done_of([{"n": n} for n in range(20)])
    assert (done.dead, done.failure is None, done.span.end) == (3, False, 7)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fails", ["operator", "parser"])
def test_an_exception_does_not_hold_the_rows_around_it(shape: str, fails: str) -> None:
    """Line 18: hooks hold exceptions, and a block may be of many rows, or of very long ones."""
    processing = processing_of(operator_of(shape, odd_fails), batch_size=4, policy=SKIP)
    block = block_of([{"n": n, "text": "x" * 1000} for n in range(8)])
    if fails == "parser":
        block.records[:] = [record[:-1] for record in block.records]
        _write_source(processing, b"\n".join(block.records))
    before = [sys.getrefcount(record) for record in block.records]
    done = run(processing, block)
    assert len(done.survived) >= 4
    assert [sys.getrefcount(record) for record in block.records] == before
    assert sum(len(getattr(found.error.__cause__, "doc", "")) for found in done.survived) == 0


def _write_source(processing: Processing, data: bytes) -> None:
    assert isinstance(processing.source, Stream)
    file = processing.source.storage.open_append(processing.source.path)
    file.append(data)
    file.close()


def test_the_policy_of_retries_holds_within_a_pass() -> None:
    """M24: each row has all its attempts, and its dead letter says how many."""
    calls: list[int] = []

    def act(item: Any) -> Any:
        calls.append(item["n"])
        return odd_fails(item)

    policy = replace(DEAD, retries=2, retry_wait=0.001)
    done = run(processing_of(operator_of("item", act), policy=policy), block_of([{"n": n} for n in range(4)]))
    assert calls == [0, 1, 1, 1, 2, 3, 3, 3]
    assert [orjson.loads(line)["attempts"] for line in done.dead_letters.splitlines()] == [3, 3]
