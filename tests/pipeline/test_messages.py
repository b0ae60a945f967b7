"""Other actors watch and control a run by messages (M30)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pykka
import pytest

from llm_datagen import (
    ConfigError,
    DatagenError,
    NodeFailedError,
    PipelineBusyError,
    PipelineStatus,
    Status,
    UnknownMessageError,
)
from llm_datagen.messages import (
    Cancel,
    GetStatus,
    NodeFailed,
    NodeFinished,
    NodeProgressed,
    NodeStarted,
    Pause,
    PipelineFinished,
    Reconfigure,
    Resume,
    Run,
    StageEnded,
    StageOutcome,
    StatusChanged,
    Subscribe,
    UsageReported,
)

from ..kit.support import PATIENCE_SECONDS, Bench, eventually, lines, nothing_left, numbered, until_cancelled
from .listening import Listener


class Deaf:
    """A subscriber that cannot be told anything."""

    def tell(self, message: object) -> None:
        raise SystemExit("on purpose")


class Blocked:
    """An operator that waits until the test lets it go."""

    name = "blocked"

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.here = threading.Event()
        self.go_on = threading.Event()

    def process_item(self, item: Any, ctx: Any) -> Any:
        ctx.report_usage({"model": "m", "tokens": 1})
        if item["n"] >= self.at:
            self.here.set()
            self.go_on.wait(PATIENCE_SECONDS)
        return item


def status_of(ref: pykka.ActorRef[Any]) -> PipelineStatus:
    """Ask a pipeline how it is."""
    status = ref.ask(GetStatus(), timeout=PATIENCE_SECONDS)
    assert isinstance(status, PipelineStatus)
    return status


def of(heard: list[Any], kind: type) -> list[Any]:
    return [message for message in heard if isinstance(message, kind)]


@pytest.mark.parametrize("streaming", [True, False])
def test_status_is_answered_at_once_while_every_worker_is_blocked(bench: Bench, streaming: bool) -> None:
    """M30, DESIGN: actors never block; worker threads do."""
    bench.give(numbered(100))
    operator = Blocked(at=30)
    pipeline = bench.pipeline(
        [operator, lambda item: item], streaming=streaming, parallel_size=3, writer_config={"queue_size": 5}
    ).create("a")
    ref = pipeline.start()
    operator.here.wait(PATIENCE_SECONDS)
    eventually(lambda: status_of(ref).status is Status.RUNNING)
    status = status_of(ref)  # while the operator stands still
    assert isinstance(status, PipelineStatus)
    assert (status.pipeline_id, status.status) == ("a", Status.RUNNING)
    assert [node.node_id for node in status.nodes] == ["node_0", "node_1"]
    try:
        eventually(lambda: status_of(ref).nodes[0].rows_in >= 10)
    finally:
        operator.go_on.set()
    pipeline.wait(PATIENCE_SECONDS)
    assert not ref.is_alive()
    with pytest.raises(pykka.ActorDeadError):
        ref.ask(GetStatus(), timeout=PATIENCE_SECONDS)


def test_subscribers_hear_of_everything_and_the_dead_are_forgotten(bench: Bench) -> None:
    """M30: NodeProgressed, UsageReported, PipelineFinished …, to any ref; who has stopped disturbs nobody."""
    bench.give(numbered(100))
    operator = Blocked(at=50)
    heard: list[Any] = []
    listener = Listener.start(heard)
    dead = Listener.start([])
    dead.stop()
    pipeline = bench.pipeline([operator, lambda item: item], streaming=True, parallel_size=2).create("a")
    ref = pipeline.start()
    for subscriber in (dead, listener, Deaf()):
        ref.tell(Subscribe(subscriber))
    operator.here.wait(PATIENCE_SECONDS)
    operator.go_on.set()
    pipeline.wait(PATIENCE_SECONDS)
    eventually(lambda: of(heard, PipelineFinished))
    listener.stop()
    (end,) = of(heard, PipelineFinished)
    assert (end.pipeline_id, end.status, end.failure, end.error) == ("a", "completed", None, None)
    assert heard[-1] is end
    done = [event.done for event in of(heard, NodeProgressed) if event.node_id == "node_1"]
    assert done[-1] == 100
    assert done == sorted(done)
    assert sum(event.metrics["tokens"] for event in of(heard, UsageReported)) <= 100
    assert {event.node_id for event in of(heard, NodeFinished) if event.success} == {"node_0", "node_1"}
    assert len(of(heard, NodeStarted)) <= 2


def test_subscribers_hear_of_a_failure_with_its_error(bench: Bench) -> None:
    """M30: NodeFailed carries the node, the record, the error and the items; rows are not in its repr."""
    bench.give([{"n": 1, "secret": "hunter2"}])
    go_on = threading.Event()
    trouble = ValueError("bad")

    def work(item: Any) -> Any:
        go_on.wait(PATIENCE_SECONDS)
        raise trouble

    heard: list[Any] = []
    listener = Listener.start(heard)
    pipeline = bench.pipeline([work]).create("a")
    ref = pipeline.start()
    ref.tell(Subscribe(listener))
    eventually(lambda: status_of(ref).status == Status.RUNNING)
    go_on.set()
    with pytest.raises(NodeFailedError):
        pipeline.wait(PATIENCE_SECONDS)
    eventually(lambda: of(heard, PipelineFinished))
    listener.stop()
    (failed,) = of(heard, NodeFailed)
    assert (failed.node_id, failed.failure.kind, failed.failure.text, failed.error) == (
        "node_0",
        "ValueError",
        "bad",
        trouble,
    )
    assert failed.items == [{"n": 1, "secret": "hunter2", "_i": 0}]
    assert of(heard, PipelineFinished)[0].error is trouble
    assert "hunter2" not in repr(heard)


def test_a_cancel_message_stops_the_run_and_its_reason_is_kept(bench: Bench) -> None:
    """M30, M7: `ref.tell(Cancel(reason))`: the reason is in the status, the report, the run state and the log."""
    bench.give(numbered(5000))
    operator = Blocked()
    pipeline = bench.pipeline([operator], parallel_size=2).create("a")
    ref = pipeline.start()
    operator.here.wait(PATIENCE_SECONDS)
    ref.tell(Cancel("budget is spent"))
    eventually(lambda: status_of(ref).status == Status.CANCELING)
    assert status_of(ref).reason == "budget is spent"
    operator.go_on.set()
    report = pipeline.wait(PATIENCE_SECONDS)
    assert (report.status, report.reason) == (Status.CANCELED, "budget is spent")
    assert bench.run_state("a")["reason"] == "budget is spent"
    (line,) = [line for line in bench.log_lines() if line["event"] == "[Cancel]"]
    assert line["reason"] == "budget is spent"
    assert 0 < len(lines(bench.output)) < 5000
    operator.at = 5000
    pipeline.resume("a").run()
    assert len(lines(bench.output)) == 5000
    assert bench.run_state("a")["reason"] == ""


def test_a_subscriber_may_cancel_the_run_it_watches(bench: Bench) -> None:
    """M30: an actor that acts on what it hears: here, one that stops a run that has used up its budget."""
    bench.give(numbered(20_000))
    spent = 0.0

    class Accountant(pykka.ThreadingActor):
        def __init__(self, pipeline: pykka.ActorRef[Any]) -> None:
            super().__init__()
            self.pipeline = pipeline

        def on_receive(self, message: Any) -> Any:
            nonlocal spent
            if isinstance(message, UsageReported):
                spent += message.metrics["tokens"]
                if spent >= 500:
                    self.pipeline.tell(Cancel("500 tokens"))
                    self.stop()

    def work(item: Any, ctx: Any) -> Any:
        ctx.report_usage({"model": "m", "tokens": 1})
        if item["n"] == 10_000:  # the run is not over before it is cancelled
            until_cancelled(ctx)
        return item

    pipeline = bench.pipeline([work, lambda item: item], streaming=True).create("a")
    ref = pipeline.start()
    accountant = Accountant.start(ref)
    ref.tell(Subscribe(accountant))
    report = pipeline.wait(PATIENCE_SECONDS)
    assert (report.status, report.reason) == (Status.CANCELED, "500 tokens")
    assert report.rows_in < 20_000


@pytest.mark.parametrize(
    "order",
    [
        lambda: Cancel(5),  # type: ignore[arg-type]
        lambda: Resume(None),  # type: ignore[arg-type]
        lambda: Reconfigure(["node_0"], parallel_size=2),  # type: ignore[arg-type]
        lambda: Subscribe("me"),
        lambda: Subscribe(Deaf(), PipelineFinished),  # type: ignore[arg-type]
        lambda: Subscribe(Deaf(), ("PipelineFinished",)),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_an_order_is_refused_where_it_is_made(order: Callable[[], object]) -> None:
    """M30: no slip of whoever sends messages ends a run of hours."""
    with pytest.raises(ConfigError, match="must be"):
        order()


class Odd(type):
    """A kind of classes that nothing can be compared with."""

    def __instancecheck__(cls, instance: object) -> bool:
        raise ValueError("on purpose")


def test_a_subscriber_whose_kinds_fail_is_forgotten_and_the_run_ends_well(bench: Bench) -> None:
    """F2: they are foreign code."""
    bench.give(numbered(20))
    pipeline = bench.pipeline([lambda item: item]).create("a")
    with nothing_left():
        pipeline.start().tell(Subscribe(Deaf(), (Odd("Kind", (), {}),)))
        report = pipeline.wait(PATIENCE_SECONDS)
    assert report is not None
    assert report.status is Status.COMPLETED


def test_what_is_no_order_is_refused_and_the_run_goes_on(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """M29, M30: an error to whoever asks, a warning for a tell, neither with the content; nothing is changed."""
    bench.give(numbered(50))
    operator = Blocked()
    pipeline = bench.pipeline([operator]).create("a")
    ref = pipeline.start()
    operator.here.wait(PATIENCE_SECONDS)
    eventually(lambda: status_of(ref).status is Status.RUNNING)
    before = status_of(ref)
    refused: list[tuple[Any, type[DatagenError], str]] = [
        ({"secret": "hunter2"}, UnknownMessageError, "a dict"),
        (Cancel, UnknownMessageError, "the class Cancel"),
        (StatusChanged("hunter2"), UnknownMessageError, "its status must be PipelineStatus"),  # type: ignore[arg-type]
        (StageEnded("node_0", "hunter", StageOutcome.FINISHED), UnknownMessageError, "only the supervisor's"),
        (Resume("a"), PipelineBusyError, "run 'a' is running already"),
        (Run(), PipelineBusyError, "run 'a' is running already"),
    ]
    for message, error, text in refused:
        caplog.clear()
        ref.tell(message)
        with pytest.raises(error, match=text) as caught:
            ref.ask(message, timeout=PATIENCE_SECONDS)
        assert "hunter2" not in str(caught.value)
        assert [text in record.getMessage() for record in caplog.records if record.name == "llm_datagen"] == [True]
        assert "hunter2" not in caplog.text
    with pytest.raises(UnknownMessageError):
        ref.proxy().role.get(timeout=PATIENCE_SECONDS)
    assert status_of(ref) == before
    operator.go_on.set()
    report = pipeline.wait(PATIENCE_SECONDS)
    assert report.status is Status.COMPLETED
    assert len(lines(bench.output)) == 50
    for message in (Cancel(), Pause(), Resume("a"), Run(), GetStatus(), "what"):
        for kind in (DatagenError, pykka.ActorDeadError):
            with pytest.raises(kind, match="has ended"):
                ref.tell(message)
            with pytest.raises(kind, match="has ended"):
                ref.ask(message, timeout=PATIENCE_SECONDS)
    assert ref.stop() is False
