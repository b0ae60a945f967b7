"""Where calls are made: threads and an event loop; nothing is lost or left, nothing hangs (M10, M11, F2, H9)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llm_datagen import BaseOperator
from llm_datagen.config import FailurePolicy
from llm_datagen.executors import event_loop as loop_module
from llm_datagen.executors.event_loop import EventLoopExecutor
from llm_datagen.executors.threads import ThreadExecutor
from llm_datagen.operators import Call

from ..kit.actors import aside, block_of, error_of, result_of
from ..kit.support import PATIENCE_SECONDS, eventually
from .helpers import Ctx, ResultTarget, processing_of, rows_of, threads_of

Make = Callable[..., ThreadExecutor | EventLoopExecutor]


class Traced(BaseOperator):
    """Writes down what is called, and where."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def note(self, what: str) -> None:
        """Write it down."""
        self.calls.append((what, threading.current_thread().name))

    def names(self) -> list[str]:
        """Return what was called, in order."""
        return [what for what, _ in self.calls]


class Plain(Traced):
    def setup(self) -> None:
        self.note("setup")

    def process_item(self, item: Any, ctx: Any) -> Any:
        self.note("call")
        return self.work(item)

    def work(self, item: Any) -> Any:
        return item

    def teardown(self) -> None:
        self.note("teardown")


class Later(Traced):
    async def setup(self) -> None:
        self.note("setup")

    async def process_item(self, item: Any, ctx: Any) -> Any:
        self.note("call")
        return await self.work(item)

    async def work(self, item: Any) -> Any:
        return item

    async def teardown(self) -> None:
        self.note("teardown")


def make(
    operator: Any, target: ResultTarget, *, workers: int = 2, ctx: Ctx | None = None
) -> ThreadExecutor | EventLoopExecutor:
    """Return the executor for an operator."""
    processing = processing_of(
        operator, ctx=ctx, policy=FailurePolicy(on_error="skip")
    )  # with "fail", no worker goes on
    kind = EventLoopExecutor if processing.call.is_async else ThreadExecutor
    return kind("n", operator, processing, target, workers)


both = pytest.mark.parametrize("operator", [Plain, Later])


@both
def test_setup_comes_first_teardown_last_each_once_and_where_the_calls_are(operator: type[Traced]) -> None:
    """M11: on a thread, or on the loop, of the node; so that a client may belong to that loop."""
    it, target = operator(), ResultTarget()
    executor = make(it, target, workers=1)
    executor.start()
    for number in range(3):
        executor.submit(number, block_of([{"n": number}], number))
    target.wait_for(3)
    executor.stop()
    assert it.names() == ["setup", "call", "call", "call", "teardown"]
    prefix = "datagen-loop-n" if operator is Later else "datagen-worker-n"
    assert all(thread.startswith(prefix) for _, thread in it.calls)
    assert [rows_of(target.done[number]) for number in range(3)] == [[{"n": n, "_i": n}] for n in range(3)]
    assert threads_of("") == []


@both
def test_stop_waits_for_what_runs_delivers_it_and_then_tears_down(operator: type[Traced]) -> None:
    """M7: what was dispatched ends; a client is not closed under a call that uses it."""
    began, may_end, torn_down = threading.Event(), threading.Event(), threading.Event()

    class SlowPlain(Plain):
        def teardown(self) -> None:
            torn_down.set()
            super().teardown()

        def work(self, item: Any) -> Any:
            began.set()
            assert may_end.wait(PATIENCE_SECONDS)
            self.note("end of call")
            return item

    class SlowLater(Later):
        async def teardown(self) -> None:
            torn_down.set()
            await super().teardown()

        async def work(self, item: Any) -> Any:
            began.set()
            while not may_end.is_set():
                await asyncio.sleep(0.001)
            self.note("end of call")
            return item

    it, target = (SlowLater() if operator is Later else SlowPlain()), ResultTarget()
    executor = make(it, target, workers=3)
    executor.start()
    executor.submit(1, block_of([{"n": 1}]))
    assert began.wait(PATIENCE_SECONDS)
    stopping = aside(executor.stop)
    assert not torn_down.wait(0.05)
    may_end.set()
    result_of(stopping)
    assert it.names() == ["setup", "call", "end of call", "teardown"]
    assert target.done[1].rows == 1
    assert threads_of("") == []


@both
def test_stop_also_waits_where_there_is_no_teardown(operator: type[Traced]) -> None:
    """M7: an operator need not inherit from anything."""
    began, may_end = threading.Event(), threading.Event()

    class DuckPlain:
        name = "duck"

        def process_item(self, item: Any, ctx: Any) -> Any:
            began.set()
            assert may_end.wait(PATIENCE_SECONDS)
            return item

    class DuckLater:
        name = "duck"

        async def process_item(self, item: Any, ctx: Any) -> Any:
            began.set()
            while not may_end.is_set():
                await asyncio.sleep(0.001)
            return item

    duck, target = (DuckLater() if operator is Later else DuckPlain()), ResultTarget()
    processing = processing_of(lambda item: item)
    processing = replace(processing, call=Call(duck))
    executor = (EventLoopExecutor if operator is Later else ThreadExecutor)("n", duck, processing, target, 2)
    executor.start()
    executor.submit(1, block_of([{"n": 1}]))
    assert began.wait(PATIENCE_SECONDS)
    stopping = aside(executor.stop)
    may_end.set()
    result_of(stopping)
    assert target.done[1].failure is None
    assert target.done[1].rows == 1


@both
@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_setup_that_fails_comes_out_of_start_and_leaves_no_thread(
    operator: type[Traced], kind: type[BaseException]
) -> None:
    """H10: in an event loop, SystemExit ends the loop itself; whoever waits must hear of it nevertheless."""

    def fail(*_: Any) -> None:
        raise kind("on purpose")

    class FailingPlain(Plain):
        def setup(self) -> None:
            fail()

    class FailingLater(Later):
        async def setup(self) -> None:
            fail()

    it = FailingLater() if operator is Later else FailingPlain()
    executor = make(it, ResultTarget())
    starting = aside(executor.start)
    assert isinstance(error_of(starting), kind)
    executor.stop()
    assert it.names() == [], "what was not set up is not torn down"
    assert threads_of("") == []


@both
@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_a_teardown_that_fails_comes_out_of_stop_and_leaves_no_thread(
    operator: type[Traced], kind: type[BaseException]
) -> None:
    """F2: the node logs it."""

    class FailingPlain(Plain):
        def teardown(self) -> None:
            raise kind("on purpose")

    class FailingLater(Later):
        async def teardown(self) -> None:
            raise kind("on purpose")

    executor = make(FailingLater() if operator is Later else FailingPlain(), ResultTarget())
    executor.start()
    assert isinstance(error_of(aside(executor.stop)), kind)
    assert threads_of("") == []


@both
def test_an_executor_that_was_never_started_has_nothing_to_leave(operator: type[Traced]) -> None:
    """F2: such as that of a node whose thread could not be started: no loop, no files."""
    it = operator()
    make(it, ResultTarget())
    executor = make(it, ResultTarget())
    executor.stop()
    assert it.names() == []


@both
def test_a_full_target_blocks_workers_and_nothing_is_lost(operator: type[Traced]) -> None:
    """M20: backpressure blocks the worker thread; what it has done is delivered when there is room."""
    target = ResultTarget(is_full=True)
    target.gate.clear()
    it = operator()
    executor = make(it, target, workers=4)
    executor.start()
    for number in range(4):
        executor.submit(number, block_of([{"n": number}], number))
    for _ in range(4):
        assert target.at_gate.acquire(timeout=PATIENCE_SECONDS)
    assert target.done == {}
    target.gate.set()
    executor.stop()
    assert sorted(target.done) == [0, 1, 2, 3]
    assert it.names().count("call") == 4


def test_at_most_so_many_calls_are_made_at_once() -> None:
    """M10: by threads; with as many as allowed really at work together."""
    together = threading.Barrier(3)

    class Together(Plain):
        def work(self, item: Any) -> Any:
            together.wait(PATIENCE_SECONDS)
            return item

    target = ResultTarget()
    executor = make(Together(), target, workers=3)
    executor.start()
    for number in range(9):
        executor.submit(number, block_of([{"n": number}], number))
    target.wait_for(9)
    assert len(threads_of("worker-n")) == 3
    executor.stop()


# --- taking rows back ----------------------------------------------------------------------------------------------


class Gated(Plain):
    """Waits in row 3."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def work(self, item: Any) -> Any:
        if item["n"] == 3:
            assert self.gate.wait(PATIENCE_SECONDS)
        return item


class GatedLater(Later):
    """Waits in row 3."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    async def work(self, item: Any) -> Any:
        while item["n"] == 3 and not self.gate.is_set():
            await asyncio.sleep(0.001)
        return item


@pytest.mark.parametrize("operator", [Gated, GatedLater])
def test_rows_that_were_not_begun_can_be_taken_back_once(operator: type[Gated]) -> None:
    """M10, R2: from a task that runs, and from one that waits for a worker; the results are of the others."""
    it, target = operator(), ResultTarget()
    executor = make(it, target, workers=1)
    executor.start()
    executor.submit(1, block_of([{"n": n} for n in range(10)]))
    eventually(lambda: len(it.calls) == 5)  # with the setup
    executor.submit(2, block_of([{"n": n} for n in range(10, 15)], 10))
    assert (executor.left(1), executor.left(2), executor.left(99)) == (6, 5, 0)
    assert (executor.cut(1), executor.cut(2), executor.cut(99)) == (4, 0, None)
    assert (executor.left(1), executor.left(2)) == (0, 0)
    assert (executor.cut(1), executor.cut(2)) == (None, None)
    it.gate.set()
    done = target.wait_for(2)
    assert (done[1].span[:2], done[1].rest) == ((0, 4), None)
    assert [row["n"] for row in rows_of(done[1])] == [0, 1, 2, 3]
    assert (done[2].span[:2], done[2].rows, done[2].rest, done[2].calls) == ((10, 10), 0, None, 0)
    assert (executor.left(1), executor.cut(1)) == (0, None)
    executor.stop()
    assert it.names() == ["setup", *["call"] * 4, "teardown"]


# --- the event loop --------------------------------------------------------------------------------------------------


def test_the_loop_goes_on_while_the_writer_is_full() -> None:
    """M11, M20: a full writer blocks a thread in place of the loop: other calls go on."""
    target = ResultTarget(is_full=True)
    target.gate.clear()
    beats = 0

    class Beating(Later):
        async def work(self, item: Any) -> Any:
            nonlocal beats
            if item["n"] == 1:  # goes on while the other one's result is stuck
                while beats < 50:
                    await asyncio.sleep(0.001)
                    beats += 1
            return item

    executor = make(Beating(), target)
    executor.start()
    executor.submit(0, block_of([{"n": 0}]))
    assert target.at_gate.acquire(timeout=PATIENCE_SECONDS)
    executor.submit(1, block_of([{"n": 1}]))
    assert target.at_gate.acquire(timeout=PATIENCE_SECONDS)
    assert beats == 50
    target.gate.set()
    executor.stop()
    assert sorted(target.done) == [0, 1]
    assert all(thread.startswith("datagen-delivery-n") for thread in target.threads.values())


def test_tasks_that_wait_for_the_loop_begin_only_when_another_one_is_delivered() -> None:
    """M10, M20: never more calls at once than workers; while the writer is full, no more results than these."""
    target = ResultTarget(is_full=True)
    target.gate.clear()
    now, most, made = 0, 0, 0

    class Counted(Later):
        async def work(self, item: Any) -> Any:
            nonlocal now, most, made
            now, made = now + 1, made + 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            return item

    executor = make(Counted(), target, workers=3)
    executor.start()
    for number in range(3 + 8):
        executor.submit(number, block_of([{"n": number}], number))
    for _ in range(3):
        assert target.at_gate.acquire(timeout=PATIENCE_SECONDS)
    for _ in range(50):  # the loop goes on meanwhile
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), executor._loop).result(PATIENCE_SECONDS)  # type: ignore[union-attr]
    assert (made, target.done) == (3, {})
    target.gate.set()
    target.wait_for(11)
    executor.stop()
    assert made == 11
    assert most <= 3


def test_when_there_is_room_no_other_thread_is_needed() -> None:
    """M11: an async operator costs one thread."""
    target = ResultTarget()
    executor = make(Later(), target, workers=8)
    executor.start()
    for number in range(20):
        executor.submit(number, block_of([{"n": number}], number))
    target.wait_for(20)
    assert set(target.threads.values()) == {"datagen-loop-n"}
    assert threads_of("") == ["datagen-loop-n"]
    executor.stop()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_task_of_the_operators_own_does_not_stop_the_loop(kind: type[BaseException]) -> None:
    """H9: asyncio lets these two end the loop; then every other call would hang, and with it the run."""

    class Parallel(Later):
        async def work(self, item: Any) -> Any:
            async def part() -> Any:
                await asyncio.sleep(0)
                if item["n"] == 1:
                    raise kind("on purpose")
                await asyncio.sleep(0.01)
                return item

            (result,) = await asyncio.gather(part())
            return result

    target = ResultTarget()
    executor = make(Parallel(), target, workers=3)
    executor.start()
    for number in range(3):
        executor.submit(number, block_of([{"n": number}], number))
    done = target.wait_for(3)
    executor.stop()
    assert [done[number].rows for number in range(3)] == [1, 0, 1]
    failure = done[1].failure
    assert failure is not None
    assert isinstance(failure.error, kind)


def test_an_operator_that_cancels_itself_loses_nothing_else() -> None:
    """H9: a cancelled task is a failed call; and one that is cancelled when it is done has been done."""

    class Cancelling(Later):
        async def work(self, item: Any) -> Any:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if item["n"] == 1:
                await asyncio.sleep(10)
            return item

    for is_full in (False, True):
        target = ResultTarget(is_full=is_full)
        executor = make(Cancelling(), target, workers=1)
        executor.start()
        executor.submit(0, block_of([{"n": 0}]))
        executor.submit(1, block_of([{"n": 1}]))
        done = target.wait_for(2)
        executor.stop()
        assert (done[0].rows, done[0].failure) == (1, None)
        failure = done[1].failure
        assert failure is not None
        assert isinstance(failure.error, asyncio.CancelledError)


def test_tasks_that_an_operator_has_left_behind_are_ended() -> None:
    """F2: as `asyncio.run` does; also its async generators."""
    ended: list[str] = []

    class Leaving(Later):
        async def work(self, item: Any) -> Any:
            async def background() -> None:
                try:
                    await asyncio.sleep(1000)
                finally:
                    ended.append("task")

            async def rows() -> Any:
                try:
                    yield 1
                    yield 2
                finally:
                    ended.append("generator")

            self.left = asyncio.create_task(background())
            self.rows = rows()
            await anext(self.rows)
            await asyncio.sleep(0)
            return item

    target = ResultTarget()
    executor = make(Leaving(), target)
    executor.start()
    executor.submit(0, block_of([{"n": 0}]))
    target.wait_for(1)
    executor.stop()
    assert ended == ["task", "generator"]


def test_a_task_that_refuses_to_end_holds_up_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """F2: it is left to itself."""
    monkeypatch.setattr(loop_module, "PATIENCE_SECONDS", 0.01)

    class Stubborn(Later):
        async def work(self, item: Any) -> Any:
            async def background() -> None:
                end = time.monotonic() + 0.5
                while time.monotonic() < end:
                    try:
                        await asyncio.sleep(0.001)
                    except asyncio.CancelledError:
                        continue

            self.left = asyncio.create_task(background())
            self.left.add_done_callback(lambda task: None)
            await asyncio.sleep(0)
            return item

    target = ResultTarget()
    it = Stubborn()
    executor = make(it, target)
    executor.start()
    executor.submit(0, block_of([{"n": 0}]))
    target.wait_for(1)
    executor.stop()
    assert threads_of("") == []
    it.left._log_destroy_pending = False  # type: ignore[attr-defined]


def test_an_operator_may_use_threads_of_its_own_loop() -> None:
    """M11: `asyncio.to_thread` works, on threads that are gone afterwards."""

    class Threaded(Later):
        async def work(self, item: Any) -> Any:
            return await asyncio.to_thread(lambda: {**item, "thread": threading.current_thread().name})

    target = ResultTarget()
    executor = make(Threaded(), target)
    executor.start()
    executor.submit(0, block_of([{"n": 0}]))
    (row,) = rows_of(target.wait_for(1)[0])
    executor.stop()
    assert row["thread"].startswith("datagen-loop-n")
    assert threads_of("") == []


@pytest.mark.parametrize("operator", [Plain, Later])
def test_a_thread_that_cannot_be_started_comes_out_of_start(
    operator: type[Traced], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F2: and no loop is left open."""

    def cannot(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    executor = make(operator(), ResultTarget())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot)
        with pytest.raises(RuntimeError, match="can't start"):
            executor.start()
    executor.stop()
    assert threads_of("") == []


def test_an_operator_that_cancels_itself_and_fails_is_tried_again() -> None:
    """H9, M24: the cancellation must not hit the wait before the retry, and take the task with it."""

    class Cancelling(Later):
        async def work(self, item: Any) -> Any:
            if self.names().count("call") == 1:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                raise ValueError("on purpose")
            return item

    target, it = ResultTarget(), Cancelling()
    processing = processing_of(it, policy=FailurePolicy(retries=1, retry_wait=0.01))
    executor = EventLoopExecutor("n", it, processing, target, 1)
    executor.start()
    executor.submit(0, block_of([{"n": 0}]))
    assert target.wait_for(1)[0].rows == 1
    executor.stop()
    assert it.names().count("call") == 2


# --- what is given up ------------------------------------------------------------------------------------------------


def test_threads_that_are_stuck_can_be_left_behind() -> None:
    """F2, H13: without a teardown under their feet; when they come back they end, and what they did is delivered."""
    began, may_end = threading.Event(), threading.Event()

    class Stuck(Plain):
        def work(self, item: Any) -> Any:
            began.set()
            assert may_end.wait(PATIENCE_SECONDS)
            return item

    target, it = ResultTarget(), Stuck()
    executor = make(it, target)
    executor.start()
    executor.submit(0, block_of([{"n": 0}]))
    assert began.wait(PATIENCE_SECONDS)
    result_of(aside(lambda: executor.stop(wait=False)))
    assert "teardown" not in it.names()
    assert len(threads_of("worker-n")) >= 1
    may_end.set()
    assert target.wait_for(1)[0].rows == 1
    eventually(lambda: threads_of("") == [])


def test_calls_on_a_loop_are_cancelled_when_they_are_given_up() -> None:
    """F2: then the teardown runs, for the loop is free."""
    began = threading.Event()

    class Slow(Later):
        async def work(self, item: Any) -> Any:
            began.set()
            await asyncio.sleep(1000)

    target, it = ResultTarget(), Slow()
    executor = make(it, target)
    executor.start()
    executor.submit(0, block_of([{"n": 0}]))
    assert began.wait(PATIENCE_SECONDS)
    result_of(aside(lambda: executor.stop(wait=False)))
    assert it.names() == ["setup", "call", "teardown"]
    failure = target.wait_for(1)[0].failure
    assert failure is not None
    assert isinstance(failure.error, asyncio.CancelledError)
    eventually(lambda: threads_of("") == [])


def test_a_loop_that_is_blocked_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """F2, H13: it ends by itself when the call comes back."""
    monkeypatch.setattr(loop_module, "GIVE_UP_SECONDS", 0.01)
    began, may_end = threading.Event(), threading.Event()

    class Blocking(Later):
        async def work(self, item: Any) -> Any:
            began.set()
            assert may_end.wait(PATIENCE_SECONDS)
            return item

    target, it = ResultTarget(), Blocking()
    executor = make(it, target)
    executor.start()
    executor.submit(0, block_of([{"n": 0}]))
    assert began.wait(PATIENCE_SECONDS)
    assert isinstance(error_of(aside(lambda: executor.stop(wait=False))), TimeoutError)
    may_end.set()
    assert target.wait_for(1)[0].rows == 1
    eventually(lambda: threads_of("") == [])
