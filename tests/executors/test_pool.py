"""The pool of threads that can be left behind (M10, F2, H13)."""

from __future__ import annotations

import random
import threading
from concurrent.futures import wait

import pytest

from llm_datagen.executors.thread_pool import WorkerPool

from ..kit.actors import aside, error_of, result_of
from ..kit.support import PATIENCE_SECONDS, eventually
from .helpers import threads_of


def test_a_thread_is_started_only_when_all_others_are_busy() -> None:
    """M10: one at a time needs one thread; many at once need as many, up to the size."""
    pool = WorkerPool(3, "datagen-pool")
    for number in range(5):
        assert result_of(pool.submit(lambda number=number: number)) == number
        eventually(lambda: pool._idle == 1)
    assert len(threads_of("pool")) == 1
    gate = threading.Event()
    jobs = [pool.submit(gate.wait, PATIENCE_SECONDS) for _ in range(7)]
    assert len(threads_of("pool")) == 3
    gate.set()
    assert all(result_of(job) for job in jobs)
    pool.stop(wait=True)
    assert threads_of("pool") == []


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_what_a_job_raises_is_its_own_affair(kind: type[BaseException]) -> None:
    """H9: the thread goes on."""

    def fail() -> None:
        raise kind("on purpose")

    pool = WorkerPool(1, "datagen-pool")
    failing, after = pool.submit(fail), pool.submit(lambda: "after")
    assert isinstance(error_of(failing), kind)
    assert result_of(after) == "after"
    pool.stop(wait=True)


def test_everything_that_was_submitted_is_done_before_it_stops() -> None:
    """R2: also what was still waiting for a thread."""
    pool = WorkerPool(2, "datagen-pool")
    gate = threading.Event()
    jobs = [pool.submit(gate.wait, PATIENCE_SECONDS) for _ in range(10)]
    stopping = aside(lambda: pool.stop(wait=True))
    gate.set()
    result_of(stopping)
    assert all(job.done() for job in jobs)
    assert threads_of("pool") == []


def test_a_pool_that_is_left_behind_ends_when_its_jobs_do() -> None:
    """H13: its threads are daemons."""
    pool = WorkerPool(2, "datagen-pool")
    gate = threading.Event()
    job = pool.submit(gate.wait, PATIENCE_SECONDS)
    pool.stop(wait=False)
    assert not job.done()
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("datagen-pool"))
    gate.set()
    eventually(lambda: threads_of("pool") == [])


def test_a_job_that_comes_after_the_end_is_done_and_leaves_no_thread() -> None:
    """F2: such as the result of a call that was left behind."""
    pool = WorkerPool(2, "datagen-pool")
    result_of(pool.submit(lambda: None))
    pool.stop(wait=False)
    assert result_of(pool.submit(lambda: "late")) == "late"
    eventually(lambda: threads_of("pool") == [])


def test_a_thread_that_cannot_be_started_takes_no_job_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """H10: whoever submits hears of it, and nothing is done later, behind their back."""

    def cannot(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    done: list[int] = []
    pool = WorkerPool(2, "datagen-pool")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot)
        with pytest.raises(RuntimeError):
            pool.submit(done.append, 1)
    result_of(pool.submit(done.append, 2))
    pool.stop(wait=True)
    assert done == [2]


@pytest.mark.parametrize("seed", range(10))
def test_many_threads_may_submit_at_once(seed: int) -> None:
    """M10: every job is done once, on no more threads than there may be."""
    rng = random.Random(seed)
    size = rng.randint(1, 4)
    pool = WorkerPool(size, "datagen-pool")
    done: list[int] = []

    def submit(first: int) -> None:
        wait([pool.submit(done.append, number) for number in range(first, first + 50)], PATIENCE_SECONDS)

    for one in [aside(submit, first) for first in range(0, 400, 50)]:
        result_of(one)
    assert len(threads_of("pool")) <= size
    pool.stop(wait=True)
    assert sorted(done) == list(range(400))
