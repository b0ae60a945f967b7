"""The stage: exactly one report, whatever happens; nobody stays blocked; nobody else is touched (H3, H4, H7-H16)."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pykka
import pytest
from pykka.messages import ProxyGetAttr

from llm_datagen.actors.mailbox import Mailbox
from llm_datagen.actors.refs import ActorEndedError
from llm_datagen.actors.stage import Stage, join, tell
from llm_datagen.errors import FailureRecord, UnknownMessageError
from llm_datagen.messages import Cancel, Committed, Demand, StageEnded, StageOutcome, StatusChanged

from ..kit.actors import DeadDesk, Desk, Load, SteppingClock, aside, error_of, put, result_of
from ..kit.support import PATIENCE_SECONDS

SECRET = "the-password-in-a-row"


class Gone(BaseException):
    """Neither an Exception nor one of those that everyone knows."""


class NoTextError(Exception):
    """Cannot even say what it is."""

    def __str__(self) -> str:
        raise ValueError("no text")


ERRORS = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, Gone, NoTextError]


class Probe(Stage):
    """A stage that does what its messages say: a function is called, anything else is returned."""

    def __init__(
        self,
        supervisor: Any,
        begin: Callable[[], None] | None = None,
        release: Callable[[], None] | None = None,
        drop: Callable[[Any], None] | None = None,
    ) -> None:
        super().__init__("probe", "node_7", supervisor)
        self._on_begin = begin
        self._on_release = release
        self._on_drop = drop
        self.released_in: list[threading.Thread] = []
        self.dropped: list[Any] = []

    def begin(self) -> None:
        if self._on_begin is not None:
            self._on_begin()

    def handle(self, message: Any) -> Any:
        return message(self) if callable(message) else message

    def release(self) -> None:
        self.released_in.append(threading.current_thread())
        if self._on_release is not None:
            self._on_release()

    def drop(self, message: Any) -> None:
        self.dropped.append(message)
        if self._on_drop is not None:
            self._on_drop(message)


class Foreign(pykka.ThreadingActor):
    """Somebody else's actor in the same process."""

    def on_receive(self, message: Any) -> Any:
        return message


@pytest.fixture
def foreign() -> Iterator[pykka.ActorRef[Foreign]]:
    """Somebody else's actor; it must be alive at the end of the test."""
    ref = Foreign.start()
    yield ref
    is_alive = ref.is_alive()
    ref.stop(timeout=PATIENCE_SECONDS)
    assert is_alive, "somebody else's actor was stopped"


@pytest.fixture
def desk() -> Desk:
    return Desk()


def raising(kind: type[BaseException]) -> Callable[..., Any]:
    """Return a function that raises."""

    def fail(*_: Any) -> None:
        raise kind("on purpose")

    return fail


def stage_of(ref: pykka.ActorRef[Probe]) -> Probe:
    """Return the actor behind a ref."""
    actor = ref._actor_weakref()
    assert actor is not None
    return actor


def the_report(desk: Desk, ref: pykka.ActorRef[Any]) -> StageEnded:
    """Wait for the end of a stage; return its one report, and check that it is dead to everyone."""
    desk.wait_for(StageEnded)
    assert join(ref, PATIENCE_SECONDS)
    (ended,) = desk.messages
    assert isinstance(ended, StageEnded)
    assert not ref.is_alive()
    assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is None
    with pytest.raises(pykka.ActorDeadError):
        put(ref.actor_inbox, "too late")  # type: ignore[arg-type]
    assert (ended.role, ended.node_id) == ("probe", "node_7")
    return ended


class Parked:
    """A message that holds up a stage until it is let go, and then ends it as told."""

    def __init__(self, then: Callable[[Probe], Any]) -> None:
        self.is_here = threading.Event()
        self.let_go = threading.Event()
        self._then = then

    def __call__(self, stage: Probe) -> Any:
        self.is_here.set()
        assert self.let_go.wait(PATIENCE_SECONDS)
        return self._then(stage)


# --- exactly one report --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ERRORS)
def test_a_failing_begin_is_reported_once(
    desk: Desk, foreign: pykka.ActorRef[Foreign], kind: type[BaseException]
) -> None:
    """H7, H10: Pykka calls neither hook then, and a BaseException there leaves a zombie, alive and registered."""
    ref = Probe.start(desk, begin=raising(kind))
    ended = the_report(desk, ref)
    assert ended.outcome is StageOutcome.FAILED
    assert isinstance(ended.error, kind)
    assert ended.failure is not None
    assert ended.failure.kind == kind.__name__


@pytest.mark.parametrize("kind", ERRORS)
def test_a_failure_on_a_tell_is_reported_once(
    desk: Desk, foreign: pykka.ActorRef[Foreign], kind: type[BaseException]
) -> None:
    """H7, H9, H11: also when it is SystemExit, for which Pykka stops every actor of the process."""
    ref = Probe.start(desk)
    stage = stage_of(ref)
    ref.tell(raising(kind))
    ended = the_report(desk, ref)
    assert ended.outcome is StageOutcome.FAILED
    assert isinstance(ended.error, kind)
    assert len(stage.released_in) == 1


@pytest.mark.parametrize("kind", ERRORS)
def test_a_failure_on_an_ask_is_the_answer_and_ends_the_stage(
    desk: Desk, foreign: pykka.ActorRef[Foreign], kind: type[BaseException]
) -> None:
    """H8: the asker gets a record, neither an exception nor silence; and the failed stage does not live on."""
    ref = Probe.start(desk)
    answer = ref.ask(raising(kind), timeout=PATIENCE_SECONDS)
    assert isinstance(answer, FailureRecord)
    assert answer.kind == kind.__name__
    assert the_report(desk, ref).failure == answer


@pytest.mark.parametrize("kind", ERRORS)
def test_a_failing_release_is_reported_once(
    desk: Desk, foreign: pykka.ActorRef[Foreign], kind: type[BaseException]
) -> None:
    """H7: Pykka swallows a failing `on_stop`; here it outweighs the end that seemed to be a good one."""
    ref = Probe.start(desk, release=raising(kind))
    ref.tell(lambda stage: stage.end(StageOutcome.FINISHED))
    ended = the_report(desk, ref)
    assert ended.outcome is StageOutcome.FAILED
    assert isinstance(ended.error, kind)


@pytest.mark.parametrize("kind", ERRORS)
def test_a_failing_drop_keeps_neither_the_rest_nor_the_release_from_being_done(
    desk: Desk, foreign: pykka.ActorRef[Foreign], kind: type[BaseException]
) -> None:
    """H10: every step of the end is taken, whatever becomes of the others."""
    ref = Probe.start(desk, drop=raising(kind))
    stage = stage_of(ref)
    parked = Parked(lambda stage: stage.end(StageOutcome.FINISHED))
    ref.tell(parked)
    assert parked.is_here.wait(PATIENCE_SECONDS)
    ref.tell(Load(1, "a"))
    ref.tell(Load(1, "b"))
    reply = ref.ask("asked", block=False)
    parked.let_go.set()
    assert the_report(desk, ref).outcome is StageOutcome.FAILED
    assert stage.dropped == ["asked", Load(1, "a"), Load(1, "b")]
    assert len(stage.released_in) == 1
    with pytest.raises(pykka.ActorDeadError):
        reply.get(timeout=0)


def test_a_mailbox_that_fails_ends_the_stage_in_order(desk: Desk, foreign: pykka.ActorRef[Foreign]) -> None:
    """H10: what is raised outside of every hook, such as MemoryError, still releases and reports."""
    ref = Probe.start(desk)
    stage = stage_of(ref)

    def break_mailbox(stage: Probe) -> None:
        def fail() -> Any:
            raise MemoryError

        stage.mailbox.get = fail  # type: ignore[method-assign]

    ref.tell(break_mailbox)
    ended = the_report(desk, ref)
    assert ended.outcome is StageOutcome.FAILED
    assert isinstance(ended.error, MemoryError)
    assert len(stage.released_in) == 1


def test_the_first_failure_is_the_one_that_is_reported(desk: Desk) -> None:
    """F1: what fails after it, at the end, does not replace it."""
    ref = Probe.start(desk, release=raising(OSError))
    ref.tell(raising(ValueError))
    assert isinstance(the_report(desk, ref).error, ValueError)


@pytest.mark.parametrize("outcome", [StageOutcome.FINISHED, StageOutcome.STOPPED])
def test_the_first_end_decides(desk: Desk, outcome: StageOutcome) -> None:
    """H7: exactly one terminal report."""

    def end_twice(stage: Probe) -> None:
        stage.end(outcome)
        stage.end(StageOutcome.STOPPED)
        stage.end(StageOutcome.FINISHED)

    ref = Probe.start(desk)
    ref.tell(end_twice)
    assert the_report(desk, ref).outcome is outcome


def test_a_stage_that_fails_after_it_has_said_that_it_is_done_has_failed(desk: Desk) -> None:
    """H7: no failure is swallowed."""

    def end_and_fail(stage: Probe) -> None:
        stage.end(StageOutcome.FINISHED)
        raise ValueError("after all")

    ref = Probe.start(desk)
    ref.tell(end_and_fail)
    assert the_report(desk, ref).outcome is StageOutcome.FAILED


def test_a_stage_may_end_before_its_first_message(desk: Desk) -> None:
    """H7: such as a reader of nothing."""

    class Short(Probe):
        def begin(self) -> None:
            self.end(StageOutcome.FINISHED)

    ref = Short.start(desk)
    assert the_report(desk, ref).outcome is StageOutcome.FINISHED


def test_pykkas_stop_means_abort(desk: Desk) -> None:
    """H2: it overtakes data; the report says stopped, and the files are closed by then."""
    ref = Probe.start(desk)
    stage = stage_of(ref)
    assert ref.stop(timeout=PATIENCE_SECONDS)
    ended = the_report(desk, ref)
    assert ended.outcome is StageOutcome.STOPPED
    assert ended.failure is None
    assert stage.released_in == [ref.actor_inbox.thread]  # type: ignore[attr-defined]
    assert not ref.stop(timeout=PATIENCE_SECONDS)


def test_a_stage_is_released_before_its_boss_hears_of_the_end(desk: Desk) -> None:
    """H14: when the report is there, nothing is left to be done."""
    seen: list[list[Any]] = []
    ref = Probe.start(desk, release=lambda: seen.append(list(desk.messages)))
    ref.tell(lambda stage: stage.end(StageOutcome.FINISHED))
    the_report(desk, ref)
    assert seen == [[]]


def test_a_boss_that_is_dead_is_no_failure() -> None:
    """H3: nobody is there to be told."""
    ref = Probe.start(DeadDesk())
    ref.stop(timeout=PATIENCE_SECONDS)
    assert join(ref, PATIENCE_SECONDS)


@pytest.mark.usefixtures("restless")
def test_stop_failure_and_end_may_race(foreign: pykka.ActorRef[Foreign]) -> None:
    """H4, H7: whoever is first, there is one report, every ask is answered, and nobody is blocked."""
    for _ in range(60):
        desk = Desk()
        ref = Probe.start(desk)
        stage = stage_of(ref)
        stage.mailbox.bound(1)
        start = threading.Barrier(5)

        def tell_it(*messages: Any, start: threading.Barrier = start, ref: pykka.ActorRef[Any] = ref) -> bool:
            start.wait()
            return all(tell(ref, message) for message in messages)

        def stop_it(start: threading.Barrier = start, ref: pykka.ActorRef[Any] = ref) -> bool:
            start.wait()
            return bool(ref.stop(timeout=PATIENCE_SECONDS))

        def ask_it(start: threading.Barrier = start, ref: pykka.ActorRef[Any] = ref) -> Any:
            start.wait()
            try:
                return ref.ask("question", timeout=PATIENCE_SECONDS)
            except pykka.ActorDeadError:
                return "question"

        everyone = [
            aside(tell_it, raising(SystemExit)),
            aside(tell_it, lambda stage: stage.end(StageOutcome.FINISHED)),
            aside(tell_it, Load(1), Load(1), Load(2)),
            aside(stop_it),
            aside(ask_it),
        ]
        for one in everyone:
            result_of(one)
        assert result_of(everyone[-1]) == "question"
        ended = the_report(desk, ref)
        assert (ended.outcome is StageOutcome.FAILED) == (ended.failure is not None)
        assert len(stage.released_in) == 1


# --- who waits for it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fail", "end", "stop"])
def test_peers_that_are_blocked_are_freed_before_the_stage_lets_go_of_its_files(desk: Desk, how: str) -> None:
    """H3: the mailbox is closed first. A release that takes long, or waits for those peers, cannot deadlock."""
    may_release, releasing = threading.Event(), threading.Event()

    def release() -> None:
        releasing.set()
        assert may_release.wait(PATIENCE_SECONDS)

    waiting = threading.Semaphore(0)
    ref = Probe.start(desk, release=release)
    stage_of(ref).mailbox.bound(1, lambda waited, _: waiting.release() if waited is None else None)
    ends = {"fail": raising(ValueError), "end": lambda stage: stage.end(StageOutcome.FINISHED), "stop": lambda _: None}
    parked = Parked(ends[how])
    ref.tell(parked)
    ref.tell(Load(1))
    peers = [aside(ref.tell, Load(1)) for _ in range(4)]
    for _ in peers:
        assert waiting.acquire(timeout=PATIENCE_SECONDS)
    if how == "stop":
        ref.stop(block=False)
    parked.let_go.set()

    assert [type(error_of(peer)) for peer in peers] == [ActorEndedError] * 4
    assert releasing.wait(PATIENCE_SECONDS)
    assert not tell(ref, "anything")
    assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is None
    assert desk.messages == []
    may_release.set()
    the_report(desk, ref)


def test_asks_that_wait_in_the_mailbox_are_answered(desk: Desk) -> None:
    """H3, H4: with an error, or, to a stop, with yes; later ones at once."""
    ref = Probe.start(desk)
    stage = stage_of(ref)
    parked = Parked(lambda stage: stage.end(StageOutcome.FINISHED))
    ref.tell(parked)
    assert parked.is_here.wait(PATIENCE_SECONDS)
    asks = [ref.ask("a question", block=False), ref.ask(Load(1), block=False)]
    stop = ref.stop(block=False)
    ref.tell(Load(2))
    parked.let_go.set()
    the_report(desk, ref)

    for ask in asks:
        with pytest.raises(pykka.ActorDeadError):
            ask.get(timeout=0)
    assert stop.get(timeout=0) is True
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("late", timeout=0)
    assert ref.stop(timeout=0) is False
    dropped = [message for message in stage.dropped if not type(message).__name__.startswith("_")]
    assert dropped == ["a question", Load(1), Load(2)], "what is dropped is taken note of, also when it was an ask"


def test_end_of_data_behind_a_stop_is_dropped(desk: Desk) -> None:
    """H2, H4: nothing counts as handled that was not."""
    ref = Probe.start(desk)
    stage = stage_of(ref)
    parked = Parked(lambda _: None)
    ref.tell(parked)
    assert parked.is_here.wait(PATIENCE_SECONDS)
    ref.tell(Load(0, "the end"))
    ref.stop(block=False)
    parked.let_go.set()
    assert the_report(desk, ref).outcome is StageOutcome.STOPPED
    assert stage.dropped == [Load(0, "the end")]


# --- starting ------------------------------------------------------------------------------------------------------


def test_a_stage_whose_thread_cannot_start_is_dead_and_not_registered(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H10, H14: whoever started it gets the error; whoever has the ref finds it dead, and joins nothing."""
    refs: list[pykka.ActorRef[Any]] = []

    class Early(Probe):
        def __init__(self, supervisor: Any) -> None:
            super().__init__(supervisor)
            refs.append(self.actor_ref)

    def cannot(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot)
        with pytest.raises(RuntimeError, match="can't start"):
            Early.start(desk)
    (ref,) = refs
    assert not ref.is_alive()
    assert pykka.ActorRegistry.get_all() == []
    assert not tell(ref, Load(1))
    assert join(ref, 0)
    with pytest.raises(pykka.ActorDeadError):
        put(ref.actor_inbox, Load(1))  # type: ignore[arg-type]


def test_join_says_whether_the_thread_has_ended(desk: Desk) -> None:
    """H14: Pykka's stop answers before the thread has ended."""
    may_release = threading.Event()

    def release() -> None:
        assert may_release.wait(PATIENCE_SECONDS)

    ref = Probe.start(desk, release=release)
    assert ref.stop(timeout=PATIENCE_SECONDS)
    assert not join(ref, 0.001)
    may_release.set()
    assert join(ref, PATIENCE_SECONDS)
    assert join(ref, 0)


def test_the_thread_is_no_daemon_and_says_what_it_is(desk: Desk) -> None:
    """H13: a run is not cut off half-way when the main thread ends; stack dumps can be read."""
    ref = Probe.start(desk)
    thread = ref.actor_inbox.thread  # type: ignore[attr-defined]
    assert thread.name == "datagen-probe-node_7"
    assert not thread.daemon
    ref.stop()


# --- what is said --------------------------------------------------------------------------------------------------


def test_an_unexpected_message_is_not_shown_to_anyone(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """H15: Pykka logs unexpected messages whole; they may be rows. Refused, they change nothing: the stage lives."""
    caplog.set_level(logging.DEBUG)

    class Plain(Stage):
        pass

    ref = Plain.start("probe", "node_7", desk)
    for message in ({"text": SECRET}, [SECRET], SECRET, Cancel, ProxyGetAttr(("role",))):
        kind = "the class Cancel" if message is Cancel else type(message).__name__
        caplog.clear()
        ref.tell(message)
        with pytest.raises(UnknownMessageError, match=kind) as caught:
            ref.ask(message, timeout=PATIENCE_SECONDS)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        (said,) = [record for record in caplog.records if record.name == "llm_datagen"]
        assert said.levelname == "WARNING"
        assert kind in said.getMessage()
        assert "probe node_7" in said.getMessage()
        assert SECRET not in caplog.text
    with pytest.raises(UnknownMessageError):
        ref.proxy().end(StageOutcome.FAILED).get(timeout=PATIENCE_SECONDS)
    assert ref.is_alive()
    assert desk.messages == []
    ref.stop()
    assert the_report(desk, ref).outcome is StageOutcome.STOPPED


def test_a_message_that_is_not_as_its_class_says_is_refused_and_changes_nothing(desk: Desk) -> None:
    """Whoever has a ref may slip: a type checker would have said so."""
    ref = Probe.start(desk)
    for message, what in (
        (Demand("ten"), "its rows must be int"),  # type: ignore[arg-type]
        (Committed(None), "its limit must be int"),  # type: ignore[arg-type]
        (object.__new__(Cancel), "its reason must be str"),
        (StatusChanged("done"), "its status must be PipelineStatus"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UnknownMessageError, match=what):
            ref.ask(message, timeout=PATIENCE_SECONDS)
    assert ref.is_alive()
    ref.stop()
    assert the_report(desk, ref).outcome is StageOutcome.STOPPED


def test_a_failing_stage_says_nothing_to_pykkas_log(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """H15: the parent is the channel for failures; nobody sees the logger `pykka`, and it must not hold rows."""
    caplog.set_level(logging.INFO, "pykka")
    ref = Probe.start(desk, begin=lambda: None, release=raising(ValueError))
    ref.ask(raising(KeyError), timeout=PATIENCE_SECONDS)
    the_report(desk, ref)
    assert caplog.records == []


def test_a_record_of_a_failure_keeps_no_frame_alive() -> None:
    """H16: text only; also when the exception has no text, or one that no file can hold."""
    record = FailureRecord.of(NoTextError())
    assert record.kind == "NoTextError"
    assert "cannot be had" in record.text
    assert FailureRecord.of(ValueError("a lone \ud800 surrogate")).text == "a lone \\ud800 surrogate"
    assert FailureRecord.of(ValueError("¿plain?")).text == "¿plain?"


# --- time ----------------------------------------------------------------------------------------------------------


def test_a_stage_is_woken_by_its_clock(clock: SteppingClock, desk: Desk) -> None:
    """H6: timers and messages, without a sleep that would make it deaf."""
    ref = Probe.start(desk)
    seen: list[str] = []
    ref.tell(lambda stage: stage.mailbox.wake_after(2, lambda _: seen.append("woken")))
    assert clock.settle(ref) == 2
    assert ref.ask("still there", timeout=PATIENCE_SECONDS) == "still there"
    clock.step(ref, 1.999)
    assert seen == []
    clock.step(ref, 0.001)
    assert seen == ["woken"]
    ref.stop()


def test_a_clock_can_be_handed_in(desk: Desk) -> None:
    """H6: for tests of whoever writes stages."""
    clock = SteppingClock()
    stage = Stage("probe", "node_7", desk, clock)
    assert stage.clock is clock
    assert isinstance(stage.actor_inbox, Mailbox)
