"""An actor that has a pipeline, and is told to run and to resume it (M30)."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pykka
import pytest

from llm_datagen import (
    ConfigError,
    NotRunningError,
    PipelineBusyError,
    PipelineNotFoundError,
    RunEndedError,
    RunError,
    Status,
    StopRun,
    UnifiedPipeline,
    UnknownMessageError,
)
from llm_datagen.messages import (
    Cancel,
    GetStatus,
    NodeFinished,
    Pause,
    PipelineFinished,
    PipelineStarted,
    Reconfigure,
    Resume,
    Run,
    Subscribe,
    Unpause,
)

from ..kit.programs import Program
from ..kit.support import PATIENCE_SECONDS, Bench, bag, eventually, lines, numbered
from .listening import Listener

JOB = """
import sys, time
from llm_datagen import UnifiedPipeline

def copy(row):
    time.sleep(0.01 if row["n"] < 100 else 600)  # it is killed before it is over
    return row

folder = sys.argv[1]
UnifiedPipeline([copy], f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/out.jsonl", results_dir=f"{folder}/results",
                log_file=None, writer_config={"flush_interval": 0.02}).create("left").run()
"""
ROWS = [{"n": n, "_i": n} for n in range(200)]


def ask(ref: pykka.ActorRef[Any], message: Any) -> Any:
    return ref.ask(message, timeout=PATIENCE_SECONDS)


def copy(row: Any) -> Any:
    return dict(row)


def is_gone() -> bool:
    return not any(thread.name.startswith("datagen-") for thread in threading.enumerate())


def ended(heard: list[Any]) -> list[str]:
    return [message.status for message in heard if isinstance(message, PipelineFinished)]


@pytest.mark.process
def test_it_resumes_what_another_process_left(bench: Bench) -> None:
    """M30: ask(Resume(id)) after kill -9 elsewhere; every row once; refusals reach who asked, and who listens."""
    bench.give(numbered(len(ROWS)))
    child = Program(["-c", JOB, bench.folder])
    try:
        eventually(lambda: bench.output.exists() and bench.output.read_bytes().count(b"\n") > 20)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()

    threads, heard = set(threading.enumerate()), list[Any]()
    ref = bench.pipeline([copy]).actor()
    listener = Listener.start(heard)
    ref.tell(Subscribe(listener, (PipelineStarted, NodeFinished, PipelineFinished)))
    with pytest.raises(PipelineNotFoundError, match="'gone'"):
        ask(ref, Resume("gone"))
    eventually(lambda: ended(heard) == ["failed"])
    assert heard[0].pipeline_id == "gone"
    status = ask(ref, Resume("left", on_change="accept"))
    assert (status.pipeline_id, status.nodes[0].rows_in > 0) == ("left", True)
    eventually(lambda: ended(heard)[1:])
    assert [type(message) for message in heard[1:]] == [PipelineStarted, NodeFinished, PipelineFinished]
    assert ask(ref, GetStatus()).status is Status.COMPLETED
    assert bag(lines(bench.output)) == bag(ROWS)
    ref.stop()
    listener.stop()
    eventually(lambda: set(threading.enumerate()) <= threads)


class Held:
    """Holds rows from 100 on until the run is cancelled, or the test lets them go: the run is not over before."""

    name = "copy"

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def process_item(self, item: Any, ctx: Any) -> Any:
        if item["n"] >= 100:
            eventually(lambda: self.go_on.is_set() or ctx.is_cancelled())
        return dict(item)


def test_it_runs_and_resumes_again_and_again_and_obeys(bench: Bench) -> None:
    """One actor for all runs of a pipeline: cancelled, resumed at once by an event, paused, finished."""
    bench.give(numbered(len(ROWS)))
    operator, heard = Held(), list[Any]()
    ref = bench.pipeline([operator], parallel_size=2).create("a").actor()
    listener = Listener.start(heard)
    ref.tell(Subscribe(listener, (PipelineFinished,)))
    for kind in (NotRunningError, RunError, ConfigError):  # the last one is what it was until 0.1
        with pytest.raises(kind, match="no run is under way, so there is nothing to pause"):
            ask(ref, Pause())
    assert ask(ref, GetStatus()).status is Status.PENDING

    assert ask(ref, Run()).pipeline_id == "a"
    with pytest.raises(PipelineBusyError, match="under way"):
        ask(ref, Resume("a"))
    assert ask(ref, Pause()).paused
    assert not ask(ref, Unpause()).paused
    ref.tell(Cancel("enough"))
    eventually(lambda: ended(heard) == ["canceled"])
    assert heard[-1].reason == "enough"
    assert ask(ref, GetStatus()).reason == "enough"
    assert not bench.is_sealed()

    ref.tell(Resume("a"))  # nobody waits for the answer
    ref.tell(Cancel("before it has begun"))
    eventually(lambda: ended(heard) == ["canceled"] * 2)
    assert ask(ref, Resume("a")).pipeline_id == "a"
    with pytest.raises(ConfigError, match="node_7"):
        ask(ref, Reconfigure("node_7", parallel_size=4))
    operator.go_on.set()
    eventually(lambda: ended(heard)[2:] == ["completed"])
    assert bag(lines(bench.output)) == bag(ROWS)
    ref.stop()
    listener.stop()
    eventually(is_gone)


class Stopping:
    """Ends the run at once, until it is told not to."""

    name = "copy"
    is_on = True

    def process_item(self, item: Any, ctx: Any) -> Any:
        if self.is_on:
            raise StopRun("enough")
        return dict(item)


class Launched(UnifiedPipeline):
    """Its launches take until they are let go of: the first one at its end, the others at their beginning."""

    def prepare(self) -> Launched:
        self.is_over, self.is_launching, self.go_on = (threading.Event() for _ in range(3))
        return self

    def _launch(self, order: Any, host: Any) -> Any:
        if not self.is_over.is_set():
            run = super()._launch(order, host)
            run.wait(PATIENCE_SECONDS)
            self.is_over.set()
            self.go_on.wait(PATIENCE_SECONDS)
            return run
        self.is_launching.set()
        self.go_on.wait(PATIENCE_SECONDS)
        return super()._launch(order, host)


def launched(bench: Bench, operator: Any) -> Launched:
    made = Launched(
        [operator],
        f"jsonl://{bench.input}",
        f"jsonl://{bench.output}",
        base_path=str(bench.folder / "tmp"),
        results_dir=str(bench.results),
        log_file=None,
    )
    return made.prepare().create("a")


def test_a_run_that_ends_while_it_is_launched_has_not_ended_before(bench: Bench) -> None:
    """The next one cannot begin between the two: orders would go to the wrong one of them."""
    bench.give(numbered(len(ROWS)))
    operator, heard = Stopping(), list[Any]()
    pipeline = launched(bench, operator)
    ref, listener = pipeline.actor(), Listener.start(heard)
    ref.tell(Subscribe(listener, (PipelineFinished,)))
    ref.tell(Run())
    assert pipeline.is_over.wait(PATIENCE_SECONDS)
    with pytest.raises(PipelineBusyError, match="under way"):
        ask(ref, Resume("a"))
    assert not heard
    pipeline.go_on.set()
    eventually(lambda: ended(heard) == ["stopped"])
    operator.is_on = False
    ask(ref, Resume("a"))
    eventually(lambda: ended(heard) == ["stopped", "completed"])
    assert bag(lines(bench.output)) == bag(ROWS)
    ref.stop()
    listener.stop()
    eventually(is_gone)


def test_orders_that_come_while_a_run_is_launched_are_for_that_run(bench: Bench) -> None:
    """Nothing is lost, and nothing changes its place: paused, unpaused, paused, cancelled; and answered."""
    bench.give(numbered(len(ROWS)))
    pipeline = launched(bench, Held())
    pipeline.is_over.set()
    ref = pipeline.actor()
    asked = ref.ask(Run(), block=False)
    assert pipeline.is_launching.wait(PATIENCE_SECONDS)
    orders = [ref.ask(order, block=False) for order in (Pause(), Unpause(), Pause())]
    ref.tell(Cancel("then"))
    assert ask(ref, GetStatus()).status is Status.PENDING  # answered meanwhile
    pipeline.go_on.set()
    assert asked.get(timeout=PATIENCE_SECONDS).pipeline_id == "a"
    assert [answer.get(timeout=PATIENCE_SECONDS).paused for answer in orders] == [True, False, True]
    eventually(lambda: ask(ref, GetStatus()).status is Status.CANCELED)
    assert ask(ref, GetStatus()).reason == "then"
    ref.stop()
    eventually(is_gone)


def test_orders_that_come_while_a_run_is_launched_are_answered_when_the_host_is_stopped(bench: Bench) -> None:
    """Nobody waits for ever."""
    bench.give(numbered(len(ROWS)))
    pipeline = launched(bench, Held())
    pipeline.is_over.set()
    ref = pipeline.actor()
    asked = ref.ask(Run(), block=False)
    assert pipeline.is_launching.wait(PATIENCE_SECONDS)
    order = ref.ask(Pause(), block=False)
    ref.stop(block=False)
    pipeline.go_on.set()
    with pytest.raises(pykka.ActorDeadError):
        order.get(timeout=PATIENCE_SECONDS)
    with pytest.raises(pykka.ActorDeadError):
        asked.get(timeout=PATIENCE_SECONDS)
    eventually(is_gone)
    assert bench.run_state("a")["status"] == "canceled"


def test_what_is_no_order_is_refused_and_the_run_goes_on(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """M29, M30: before a run and while it goes; and a stopped host says that it has ended."""
    bench.give(numbered(len(ROWS)))
    operator = Held()
    pipeline = bench.pipeline([operator]).create("a")
    ref = pipeline.actor()
    for is_running in (False, True):
        if is_running:
            ask(ref, Run())
            ref.tell(Run())
            with pytest.raises(PipelineBusyError, match="under way"):
                ask(ref, Run())
        for message in ({"secret": "hunter2"}, Resume, PipelineFinished("a", "failed")):
            ref.tell(message)
            with pytest.raises(UnknownMessageError) as caught:
                ask(ref, message)
            assert "hunter2" not in str(caught.value) + caplog.text
    operator.go_on.set()
    report = pipeline.wait(PATIENCE_SECONDS)
    assert report.status is Status.COMPLETED
    ref.stop()
    for kind in (RunEndedError, pykka.ActorDeadError):
        with pytest.raises(kind, match="has ended"):
            ask(ref, Resume("a"))
    eventually(is_gone)


def test_stopping_it_cancels_the_run_and_saves_it(bench: Bench) -> None:
    """F2: nothing of ours is left, and the run can be resumed by another."""
    bench.give(numbered(len(ROWS)))
    threads = set(threading.enumerate())
    operator = Held()
    ref = bench.pipeline([operator]).create("a").actor()
    ref.tell(Run())
    ref.stop()
    assert bench.run_state("a")["status"] == "canceled"
    eventually(lambda: set(threading.enumerate()) <= threads)
    assert bench.run_state("a")["reason"] == "the pipeline's host was stopped"
    operator.go_on.set()
    bench.pipeline([operator]).resume("a").run()
    assert bag(lines(bench.output)) == bag(ROWS)
