"""The stages of a run: the first failure is the cause, nobody is left behind, strangers do no harm (F1, F2, H9-H15)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pykka
import pytest

from llm_datagen import BaseOperator, UnifiedNode
from llm_datagen.actors.stage import join
from llm_datagen.errors import DatagenError, NodeFailedError, StreamBusyError, UnknownMessageError
from llm_datagen.messages import Cancel, GetStatus, PipelineFinished, StageEnded, StageOutcome, Subscribe, UsageReported
from llm_datagen.pipeline import run as run_module
from llm_datagen.pipeline.run import Run
from llm_datagen.runs.hooks import DefaultPipelineHooks
from llm_datagen.runs.run_report import RunReport
from llm_datagen.runs.status import PipelineStatus, Status

from ..executors.helpers import threads_of
from ..kit.actors import Desk, DiskFullError, FailingStorage, Log, aside, error_of, result_of, stream_on
from ..kit.support import PATIENCE_SECONDS, Bench, eventually, lines, numbered


def alive(role: str) -> list[threading.Thread]:
    """Return the threads of the stages of a role."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"datagen-{role}")]


def status_of(ref: pykka.ActorRef[Any]) -> Status:
    """Ask a pipeline for its status."""
    status = ref.ask(GetStatus(), block=True, timeout=PATIENCE_SECONDS)
    assert isinstance(status, PipelineStatus)
    return status.status


class Gate(BaseOperator):
    """Lets every row through, once it is open."""

    def __init__(self) -> None:
        self.is_here = threading.Event()
        self.is_open = threading.Event()
        self.calls = 0

    def process_item(self, item: Any, ctx: Any) -> Any:
        self.calls += 1
        self.is_here.set()
        assert self.is_open.wait(PATIENCE_SECONDS)
        return item


class Ready(BaseOperator):
    """Does not take long."""

    def process_item(self, item: Any, ctx: Any) -> Any:
        return item


# --- the cause -----------------------------------------------------------------------------------------------------


def test_a_disk_that_fails_is_the_cause_even_when_its_writer_reports_last() -> None:
    """F1: workers find the writer dead, so the node stops, and says so first; that is a consequence, no cause."""
    storage = FailingStorage()
    source, output = stream_on(storage, "in.jsonl"), stream_on(storage)
    storage.replace("in.jsonl", b'{"n":1}\n' * 50, sync=False)
    node = UnifiedNode("n", 2, follow_input=False, writer_config={"fsync": "never"})
    opened = node.bind_io(source, output).set_operator(Ready()).plan()
    storage.on_close = lambda: eventually(lambda: not alive("node-n")) and None
    storage.is_full = True
    run = Run([opened], pipeline_id="", streaming=True, folder=None, run_state={}, hooks=None, log=Log())
    run.start()
    assert run.wait(PATIENCE_SECONDS)
    with pytest.raises(NodeFailedError) as caught:
        run.raise_failure()
    assert isinstance(caught.value.__cause__, DiskFullError)
    storage.on_close = None


@pytest.mark.parametrize("role", ["reader", "node", "writer"])
def test_a_stage_that_was_stopped_from_outside_is_the_cause(bench: Bench, role: str) -> None:
    """F1, H2: nobody here asked for it, so the run has not completed, and nothing is sealed."""
    gate = Gate()
    bench.give(numbered(50))
    pipeline = bench.pipeline([gate]).create("p")
    pipeline.start()
    assert gate.is_here.wait(PATIENCE_SECONDS)
    stage = next(ref for ref in pykka.ActorRegistry.get_all() if ref.actor_class.__name__.lower() == f"{role}actor")
    stage.stop(block=False)
    eventually(lambda: not stage.is_alive())
    gate.is_open.set()
    with pytest.raises(NodeFailedError, match=f"the {role} of node node_0 was stopped from outside"):
        pipeline.wait(PATIENCE_SECONDS)
    assert pipeline.status == Status.FAILED
    assert not bench.is_sealed()
    assert pipeline.resume("p").run().rows_out == 50


@pytest.mark.parametrize("role", ["supervisor", "pipeline"])
def test_a_run_whose_head_was_stopped_from_outside_ends_as_failed(bench: Bench, role: str) -> None:
    """F2, H11: nobody is left behind, and it can be resumed."""
    gate = Gate()
    bench.give(numbered(50))
    pipeline = bench.pipeline([gate, Ready()], streaming=True).create("p")
    pipeline.start()
    assert gate.is_here.wait(PATIENCE_SECONDS)
    head = next(ref for ref in pykka.ActorRegistry.get_all() if ref.actor_class.__name__.lower() == f"{role}actor")
    head.stop(block=False)
    gate.is_open.set()
    with pytest.raises(NodeFailedError, match="stopped from outside"):
        pipeline.wait(PATIENCE_SECONDS)
    # The stages may have been done already when the word reached them.
    assert pipeline.status in {Status.FAILED, Status.CANCELED, Status.COMPLETED}
    assert pipeline.resume("p").run().rows_out == 50


def test_a_call_that_outlives_its_run_keeps_its_stream(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """F2, S1: when the end cannot wait any longer, nobody else gets the stream before its writer has let go of it."""
    gate = Gate()
    bench.give(numbered(5))
    pipeline = bench.pipeline([gate]).create("p")
    ref = pipeline.start()
    assert gate.is_here.wait(PATIENCE_SECONDS)
    stages = [one for one in pykka.ActorRegistry.get_all() if one is not ref]
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "LAST_WAIT_SECONDS", 0.01)
        ref.stop(block=False)
        with pytest.raises(NodeFailedError, match="stopped from outside"):
            pipeline.wait(PATIENCE_SECONDS)
    with pytest.raises(StreamBusyError):
        pipeline.resume("p")
    gate.is_open.set()
    assert all(join(one, PATIENCE_SECONDS) for one in stages)
    assert pipeline.resume("p").run().rows_out == 5


def test_a_run_ends_when_somebody_stops_all_actors_of_the_process(bench: Bench) -> None:
    """H11: `stop_all` is somebody else's; the run ends, and says that it has not completed."""
    gate = Gate()
    bench.give(numbered(50))
    pipeline = bench.pipeline([gate]).create("p")
    pipeline.start()
    assert gate.is_here.wait(PATIENCE_SECONDS)
    stopping = aside(pykka.ActorRegistry.stop_all)
    gate.is_open.set()
    result_of(stopping)
    with pytest.raises(NodeFailedError, match="stopped from outside"):
        pipeline.wait(PATIENCE_SECONDS)
    assert pipeline.resume("p").run().rows_out == 50


def test_an_error_without_a_text_fails_the_run_and_does_not_hang_it(bench: Bench) -> None:
    """H9, H16: the record of a failure can always be made; else the node would wait for its task for ever."""

    class NoTextError(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    def fail(item: Any) -> Any:
        raise NoTextError

    bench.give(numbered(3))
    pipeline = bench.pipeline([fail]).create("p")
    with pytest.raises(NodeFailedError) as caught:
        pipeline.run()
    assert isinstance(caught.value.__cause__, NoTextError)


def test_an_error_with_a_text_that_no_file_can_hold_fails_the_run_as_itself(bench: Bench) -> None:
    """F1: it is in the run state and in the log, and neither fails of it."""

    def fail(item: Any) -> Any:
        raise ValueError("a lone \ud800 surrogate")

    bench.give(numbered(3))
    pipeline = bench.pipeline([fail]).create("p")
    with pytest.raises(NodeFailedError) as caught:
        pipeline.run()
    assert isinstance(caught.value.__cause__, ValueError)
    assert "\\ud800" in bench.run_state("p")["error"]


# --- threads that cannot be started ----------------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "role",
    ["pipeline", "hooks", "supervisor", "writer-node_0", "node-node_0", "reader-node_0", "worker-node_0", "loop"],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_thread_that_cannot_be_started_fails_the_run_and_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, role: str, streaming: bool
) -> None:
    """F2: whichever it is: the stages that were started already end, files are closed, the run can be resumed."""

    class Later(BaseOperator):
        async def process_item(self, item: Any, ctx: Any) -> Any:
            return item

    start = threading.Thread.start

    def start_some(thread: threading.Thread) -> None:
        if thread.name.startswith(f"datagen-{role}"):
            raise RuntimeError("can't start new thread")
        start(thread)

    bench.give(numbered(20))
    pipeline = bench.pipeline([Ready(), Later()], streaming=streaming, hooks=DefaultPipelineHooks()).create("p")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_some)
        with pytest.raises((RuntimeError, NodeFailedError)):
            pipeline.run()
    assert not bench.is_sealed()
    assert pipeline.resume("p").run().rows_out == 20


# --- strangers -----------------------------------------------------------------------------------------------------


class Rude:
    """A subscriber that cannot be told anything."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind
        self.told = 0

    def tell(self, message: Any) -> None:
        self.told += 1
        raise self.kind("on purpose")


@pytest.mark.parametrize("kind", [ValueError, SystemExit, pykka.ActorDeadError])
def test_a_subscriber_that_raises_is_forgotten(bench: Bench, kind: type[BaseException]) -> None:
    """M30: it is foreign code; it must not take the run with it, and the others are told."""
    gate, rude, desk = Gate(), Rude(kind), Desk()
    bench.give(numbered(10))
    pipeline = bench.pipeline([gate]).create("p")
    ref = pipeline.start()
    for subscriber in (rude, desk):
        ref.tell(Subscribe(subscriber))
    gate.is_open.set()
    report = pipeline.wait(PATIENCE_SECONDS)
    assert isinstance(report, RunReport)
    assert report.rows_out == 10
    assert rude.told == 1
    assert [finished.status for finished in desk.of(PipelineFinished)] == ["completed"]


def test_a_message_that_nobody_knows_shows_no_row(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """H15, M28: whoever it was sent to, neither the log nor the run state has it."""
    bench.give(numbered(10))
    for number, kind in enumerate(("WriterActor", "NodeActor", "ReaderActor", "SupervisorActor", "PipelineActor")):
        gate = Gate()
        bench.output.unlink(missing_ok=True)
        pipeline = bench.pipeline([gate], output_uri=f"jsonl://{bench.folder}/out{number}.jsonl").create(f"p{number}")
        pipeline.start()
        assert gate.is_here.wait(PATIENCE_SECONDS)
        stranger = next(ref for ref in pykka.ActorRegistry.get_all() if ref.actor_class.__name__ == kind)
        stranger.tell({"text": "the-secret-row"})
        for message in ({"text": "the-secret-row"}, StageEnded("nope", "nope", StageOutcome.FAILED)):
            with pytest.raises(UnknownMessageError) as caught:
                stranger.ask(message, timeout=PATIENCE_SECONDS)
            assert "the-secret-row" not in str(caught.value)
        gate.is_open.set()
        report = pipeline.wait(PATIENCE_SECONDS)
        assert report.status is Status.COMPLETED, f"a message to the {kind} has changed something"
        assert "the-secret-row" not in repr(bench.run_state(f"p{number}"))
    assert "the-secret-row" not in bench.log.read_text()
    assert "the-secret-row" not in caplog.text


def test_the_pipeline_answers_at_once_whatever_runs(bench: Bench) -> None:
    """M30, H12: also when the operator and the hooks are stuck."""
    is_here, stuck = threading.Event(), threading.Event()

    def until_cancelled(item: Any, ctx: Any) -> Any:
        is_here.set()
        eventually(ctx.is_cancelled)
        return item

    class Stuck(DefaultPipelineHooks):
        def on_node_start(self, *_: Any) -> None:
            assert stuck.wait(PATIENCE_SECONDS)

    bench.give(numbered(10))
    pipeline = bench.pipeline([until_cancelled], hooks=Stuck()).create("p")
    ref = pipeline.start()
    assert is_here.wait(PATIENCE_SECONDS)
    eventually(lambda: status_of(ref) == Status.RUNNING)  # its report may be slower than the first row
    ref.tell(Cancel("enough"))
    stuck.set()
    report = pipeline.wait(PATIENCE_SECONDS)
    assert (report.status, report.reason) == (Status.CANCELED, "enough")
    with pytest.raises(pykka.ActorDeadError):
        ref.ask(GetStatus(), timeout=PATIENCE_SECONDS)


def test_cancel_may_come_before_anything_has_begun(bench: Bench) -> None:
    """M7: and more than once, from several threads."""
    bench.give(numbered(10))
    pipeline = bench.pipeline([Ready()], streaming=True).create("p")
    ref = pipeline.start()
    for future in [aside(pipeline.cancel, "now") for _ in range(4)]:
        result_of(future)
    report = pipeline.wait(PATIENCE_SECONDS)
    assert report.status in {Status.CANCELED, Status.COMPLETED}
    assert not ref.is_alive()
    pipeline.cancel("late")


# --- operators that misbehave ----------------------------------------------------------------------------------------


def exits(item: Any) -> Any:
    """Leave the process, as it believes."""
    raise SystemExit(3)


async def exits_later(item: Any) -> Any:
    """Leave the process, as it believes."""
    raise SystemExit(3)


@pytest.mark.parametrize("operator", [exits, exits_later])
def test_an_operator_that_calls_sys_exit_fails_its_run_and_nothing_else(
    bench: Bench, operator: Callable[[Any], Any]
) -> None:
    """H9, H11: with Pykka alone it stops every actor of the process, and the run would hang."""

    class Bystander(pykka.ThreadingActor):
        def on_receive(self, message: Any) -> Any:
            return message

    bystander = Bystander.start()
    bench.give(numbered(10))
    with pytest.raises(NodeFailedError) as caught:
        bench.pipeline([operator]).create("p").run()
    assert isinstance(caught.value.__cause__, SystemExit)
    assert bystander.ask("there?", timeout=PATIENCE_SECONDS) == "there?"
    bystander.stop()


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_setup_that_fails_is_the_cause_and_no_teardown_follows(
    bench: Bench, kind: type[BaseException], is_async: bool
) -> None:
    """F1, H10: in begin; the loop of an async operator does not die of it and leave everyone waiting."""
    torn_down: list[int] = []

    class Plain(Ready):
        def setup(self) -> None:
            raise kind("no model")

        def teardown(self) -> None:
            torn_down.append(1)

    class Later(BaseOperator):
        async def setup(self) -> None:
            raise kind("no model")

        async def teardown(self) -> None:
            torn_down.append(1)

        async def process_item(self, item: Any, ctx: Any) -> Any:
            return item

    bench.give(numbered(10))
    with pytest.raises(NodeFailedError) as caught:
        bench.pipeline([Later() if is_async else Plain()]).create("p").run()
    assert isinstance(caught.value.__cause__, kind)
    assert torn_down == []


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_teardown_that_fails_is_logged_and_undoes_nothing(
    bench: Bench, kind: type[BaseException], is_async: bool
) -> None:
    """H7: the rows are done and sealed."""

    class Plain(Ready):
        def teardown(self) -> None:
            raise kind("cannot close")

    class Later(BaseOperator):
        async def teardown(self) -> None:
            raise kind("cannot close")

        async def process_item(self, item: Any, ctx: Any) -> Any:
            return item

    bench.give(numbered(10))
    report = bench.pipeline([Later() if is_async else Plain()]).create("p").run()
    assert report.status == Status.COMPLETED
    assert bench.is_sealed()
    assert [line["event"] for line in bench.log_lines()].count("[Teardown Failed]") == 1


def test_usage_that_json_does_not_know_does_not_fail_the_run(bench: Bench) -> None:
    """M13, M27: it is summed and saved in the run state."""

    class Float64(float):
        """As that of NumPy."""

    def use(item: Any, ctx: Any) -> Any:
        ctx.report_usage({"seconds": Float64(0.5), "tokens": 2})
        return item

    desk = Desk()
    bench.give(numbered(4))
    pipeline = bench.pipeline([use]).create("p")
    ref = pipeline.start()
    ref.tell(Subscribe(desk))
    report = pipeline.wait(PATIENCE_SECONDS)
    assert report.usage == [{"provider": "", "model": "", "seconds": 2.0, "tokens": 8}]
    assert all(isinstance(told, UsageReported) for told in desk.of(UsageReported))
    assert bench.run_state("p")["nodes"][0]["usage"] == report.usage


def test_a_file_that_cannot_be_closed_keeps_nothing_else_open(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """F2: the lock is let go of, and the log closed, whatever becomes of the other steps of the end."""
    from llm_datagen.streams.sink import Sink

    bench.give(numbered(4))
    pipeline = bench.pipeline([exits, Ready()]).create("p")
    close = Sink.close

    def close_badly(sink: Sink) -> None:
        close(sink)
        raise OSError("cannot close")

    with monkeypatch.context() as patch:
        patch.setattr(Sink, "close", close_badly)
        with pytest.raises(NodeFailedError):
            pipeline.run()
    assert pipeline.resume("p").status == Status.RESUMING


def test_the_thread_that_waits_may_be_another_one(bench: Bench) -> None:
    """M5: start() here, wait() there, and several times; each gets the report, or the failure."""
    gate = Gate()
    bench.give(numbered(10))
    pipeline = bench.pipeline([gate]).create("p")
    pipeline.start()
    waiting = [aside(pipeline.wait) for _ in range(3)]
    with pytest.raises(TimeoutError, match=r"run 'p' still goes on after 0\.01 s"):
        pipeline.wait(0.01)
    gate.is_open.set()
    for one in waiting:
        report = result_of(one)
        assert report is not None
        assert report.rows_out == 10
    assert len(lines(bench.output)) == 10
    with pytest.raises(DatagenError):
        pipeline.start()
    assert error_of(aside(pipeline.run)) is not None


@pytest.mark.sampled(1)
@pytest.mark.process
@pytest.mark.parametrize(
    ("executor", "is_async"), [("thread", False), ("thread", True), ("process", False)]
)  # async operators have no processes
def test_a_setup_that_hangs_ends_with_cancel_and_grace(bench: Bench, executor: str, is_async: bool) -> None:
    """H13: the node hears of the cancel; what hangs is left behind, or killed, and the run can be resumed."""
    may_end, began = bench.folder / "may_end", bench.folder / "began"

    class Plain(BaseOperator):
        def setup(self) -> None:
            began.touch()
            while not may_end.exists():
                time.sleep(0.01)

        def process_item(self, item: Any, ctx: Any) -> Any:
            return item

    class Later(BaseOperator):
        async def setup(self) -> None:
            began.touch()
            while not may_end.exists():
                await asyncio.sleep(0.01)

        async def process_item(self, item: Any, ctx: Any) -> Any:
            return item

    bench.give(numbered(3))
    operator = Later() if is_async else Plain()
    pipeline = bench.pipeline([operator], grace=0.01, executor="auto" if is_async else executor).create("p")
    pipeline.start()
    eventually(began.exists)
    pipeline.cancel()
    report = pipeline.wait(PATIENCE_SECONDS)
    assert report.status is Status.CANCELED
    may_end.touch()
    eventually(lambda: threads_of("") == [])
    assert bench.pipeline([operator], executor="auto" if is_async else executor).resume("p").run().rows_out == 3
