"""Starts that fail half-way: what was taken is given back, and the run can begin after all (F2, M3)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    DefaultPipelineHooks,
    JsonlStream,
    NodeFailedError,
    PipelineExistsError,
    Status,
    UnifiedNode,
    UnifiedPipeline,
)
from llm_datagen.runs import RunFolder
from llm_datagen.testing import Fault, inject

from ..kit.support import PATIENCE_SECONDS, Bench, lines, numbered


def same(item: Any) -> Any:
    return item


@contextmanager
def no_thread(role: str, instead: Any = None) -> Iterator[None]:
    """Let no thread of `role` be started; or do something before it is."""
    start = threading.Thread.start

    def start_some(thread: threading.Thread) -> None:
        if thread.name.startswith(f"datagen-{role}"):
            if instead is None:
                raise RuntimeError("can't start new thread")
            instead()
        start(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_some)
        yield


@contextmanager
def no_handler(number: int) -> Iterator[None]:
    real = signal.signal

    def install(which: int, handler: Any) -> Any:
        if (
            which == number
            and callable(handler)
            and getattr(handler, "__module__", "") == "llm_datagen.pipeline.runners"
        ):
            raise OSError(22, "Invalid argument")
        return real(which, handler)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal, "signal", install)
        yield


def broken(operation: Any, path: str) -> AbstractContextManager[Any]:
    return inject(Fault(operation=operation, path=path, action="raise", error="EIO"))


STEPS: dict[str, tuple[AbstractContextManager[Any], type[BaseException]]] = {
    "the lock of the run": (broken("lock", "*/a/lock"), OSError),
    "the run state": (broken("open", "*/a/runtime.json"), OSError),
    "the first output": (broken("lock", "*/node_0.jsonl"), OSError),
    "the second output": (broken("lock", "*/out.jsonl"), OSError),
    "the first commit log": (broken("rename", "*/node_0.jsonl.commits"), OSError),
    "the second commit log": (broken("rename", "*/out.jsonl.commits"), OSError),
    "the first dispatch log": (broken("lock", "*/node_0.jsonl.dispatched"), OSError),
    "the second dispatch log": (broken("lock", "*/out.jsonl.dispatched"), OSError),
    "the first signal handler": (no_handler(signal.SIGINT), OSError),
    "the second signal handler": (no_handler(signal.SIGTERM), OSError),
    "the thread of the hooks": (no_thread("hooks"), RuntimeError),
    "the thread of the pipeline": (no_thread("pipeline"), RuntimeError),
    "the thread of the supervisor": (no_thread("supervisor"), NodeFailedError),
}


def pipeline_of(bench: Bench, **settings: Any) -> UnifiedPipeline:
    return bench.pipeline(
        [same, same], hooks=DefaultPipelineHooks(), delivery="at_most_once", streaming=True, **settings
    ).create("a")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("step", STEPS)
def test_whichever_step_of_a_start_fails_nothing_is_left_and_the_run_can_begin(bench: Bench, step: str) -> None:
    """F2: locks, files, threads, handlers; the fixture looks at them, too."""
    bench.give(numbered(10))
    pipeline = pipeline_of(bench)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    fault, error = STEPS[step]
    with fault, pytest.raises(error):
        pipeline.run()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not RunFolder(bench.results, "a").lock.is_held()
    JsonlStream(f"jsonl://{bench.between('a')}").check_free()
    JsonlStream(f"jsonl://{bench.output}").check_free()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("datagen-")]
    assert pipeline.resume("a").run().status == Status.COMPLETED
    assert [row["n"] for row in lines(bench.output)] == list(range(10))


def test_a_log_that_cannot_be_opened_lets_go_of_everything(bench: Bench) -> None:
    """F2, M28: the streams are open by then, and the lock is held."""
    bench.give(numbered(10))
    bench.log.mkdir()
    pipeline = pipeline_of(bench)
    with pytest.raises(OSError, match="the platform log cannot be written"):
        pipeline.run()
    assert not RunFolder(bench.results, "a").lock.is_held()
    bench.log.rmdir()
    assert pipeline.run().status == Status.COMPLETED, "nothing had been started"


@pytest.mark.parametrize("role", ["hooks", "pipeline"])
def test_a_run_that_could_not_be_started_has_failed(bench: Bench, role: str) -> None:
    """F1: nobody waits for its end for ever, and everybody is told the cause."""
    bench.give(numbered(10))
    pipeline = pipeline_of(bench)
    with no_thread(role), pytest.raises(RuntimeError, match="can't start new thread"):
        pipeline.start()
    with pytest.raises(NodeFailedError, match="the run failed: RuntimeError: can't start new thread") as caught:
        pipeline.wait(PATIENCE_SECONDS)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert pipeline.status == Status.FAILED
    assert bench.run_state("a")["error"] == "RuntimeError: can't start new thread"
    assert bench.run_state("a")["ended_at"]
    with pytest.raises(PipelineExistsError, match=r"has ended \(failed\); call resume"):
        pipeline.run()


def test_a_full_disk_at_a_start_that_fails_hides_nothing(bench: Bench) -> None:
    """F1: the first failure is told; the second is a note to it."""
    bench.give(numbered(10))
    pipeline = pipeline_of(bench)
    full = inject(Fault(operation="write", path="*/a/runtime.json.tmp", action="raise", error="ENOSPC", times=None))
    with full, no_thread("pipeline"), pytest.raises(RuntimeError, match="can't start new thread") as caught:
        pipeline.run()
    assert "No space left on device" in caught.value.__notes__[0]
    assert not RunFolder(bench.results, "a").lock.is_held()
    assert pipeline.resume("a").run().status == Status.COMPLETED


def test_a_node_that_could_not_be_started_runs_later(bench: Bench) -> None:
    """M9, F2: a node by itself, too."""
    bench.give(numbered(10))
    node = UnifiedNode("n", follow_input=False, log_file=None)
    node.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}").set_operator(same)
    with no_thread("pipeline"), pytest.raises(RuntimeError):
        node.run()
    assert node.status == Status.PENDING
    assert node.run().status == Status.COMPLETED


def test_a_cancel_that_comes_before_the_start_is_heard(bench: Bench) -> None:
    """M7: from another thread, when `run()` has been called and its actors are not there yet."""
    bench.give(numbered(10))
    pipeline = pipeline_of(bench)
    with no_thread("hooks", instead=lambda: pipeline.cancel("early")):
        report = pipeline.run()
    assert (report.status, report.reason) == (Status.CANCELED, "early")
    assert not bench.is_sealed()
    assert pipeline.resume("a").run().status == Status.COMPLETED


def test_a_handler_that_python_did_not_install_stays(bench: Bench) -> None:
    """F2: it could not be put back."""
    bench.give(numbered(3))
    real = signal.getsignal
    seen: list[Any] = []

    def look(item: Any) -> Any:
        seen.append(real(signal.SIGTERM))
        return item

    before = real(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGTERM else real(number))
        bench.pipeline([look]).run()
    assert set(seen) == {before}
    assert Path(bench.output).exists()
