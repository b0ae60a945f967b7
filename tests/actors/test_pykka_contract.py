"""What we rely on in Pykka's internals: an upgrade that breaks it fails here, and says what to look at (H10)."""

from __future__ import annotations

import inspect
import threading
from importlib.metadata import version
from typing import Any

import pykka
import pytest
from pykka import _actor, _envelope, _ref, messages

from llm_datagen.actors.stage import Stage

from ..kit.support import PATIENCE_SECONDS


class Inbox:
    """An inbox that writes down what is done with it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.envelopes: list[_envelope.Envelope[Any]] = []
        self.filled = threading.Semaphore(0)

    def put(self, envelope: _envelope.Envelope[Any]) -> None:
        self.done.append("put")
        self.envelopes.append(envelope)
        self.filled.release()

    def get(self) -> _envelope.Envelope[Any]:
        self.done.append("get")
        self.filled.acquire()
        return self.envelopes.pop(0)

    def empty(self) -> bool:
        self.done.append("empty")
        return not self.envelopes


class Traced(pykka.ThreadingActor):
    """A plain Pykka actor that writes down which hooks are called."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []

    @staticmethod
    def _create_actor_inbox() -> Inbox:
        return Inbox()

    def _start_actor_loop(self) -> None:
        self._actor_loop()  # in this thread

    def _actor_loop_setup(self) -> None:
        self.called.append("setup")
        super()._actor_loop_setup()

    def _actor_loop_running(self) -> None:
        self.called.append("running")
        super()._actor_loop_running()

    def _actor_loop_teardown(self) -> None:
        self.called.append("teardown")
        super()._actor_loop_teardown()

    def on_start(self) -> None:
        self.called.append("on_start")
        for message in ("one", "two"):
            self.actor_ref.tell(message)
        self.asked = self.actor_ref.ask("three", block=False)
        self.actor_ref.tell(messages._ActorStop())
        self.late = self.actor_ref.ask("late", block=False)
        self.late_stop = self.actor_ref.stop(block=False)

    def on_receive(self, message: Any) -> Any:
        self.called.append(f"on_receive {message}")
        return f"reply to {message}"

    def on_stop(self) -> None:
        self.called.append("on_stop")


def test_pykka_is_of_a_version_that_was_read() -> None:
    """H10: the hazards were read from the source of 4.5."""
    assert version("pykka").startswith("4.5.")


def test_the_loop_has_the_three_parts_that_the_stage_overrides() -> None:
    """H7, H10: setup, running, teardown; `on_start`, `on_receive`, `on_stop` within."""
    actor = Traced()
    pykka.ActorRegistry.register(actor.actor_ref)
    actor._start_actor_loop()
    assert actor.called == [
        "setup",
        "on_start",
        "running",
        "on_receive one",
        "on_receive two",
        "on_receive three",
        "on_stop",
        "teardown",
    ]
    assert actor.asked.get(timeout=0) == "reply to three"
    with pytest.raises(pykka.ActorDeadError):
        actor.late.get(timeout=0)
    assert actor.late_stop.get(timeout=0) is True
    assert pykka.ActorRegistry.get_all() == []
    for name in (
        "_actor_loop",
        "_actor_loop_setup",
        "_actor_loop_running",
        "_actor_loop_teardown",
        "_start_actor_loop",
    ):
        assert list(inspect.signature(getattr(pykka.ThreadingActor, name)).parameters) == ["self"]
        assert name in vars(Stage) or name in ("_actor_loop_setup", "_actor_loop_running")


def test_the_running_part_only_gets_and_looks_at_actor_stopped() -> None:
    """H1, H6: so that timers can live in `get`, and `end()` can stop the loop by the event."""
    actor = Traced()
    inbox = actor.actor_inbox
    assert isinstance(inbox, Inbox)
    inbox.put(_envelope.Envelope("one"))
    actor.on_receive = lambda message: actor.actor_stopped.set()  # type: ignore[method-assign]
    inbox.done.clear()
    actor._actor_loop_running()
    assert inbox.done == ["get"]


def test_the_inbox_is_made_by_a_static_factory_and_copied_by_the_ref() -> None:
    """H1: so it must be ours from the start; it cannot be replaced later."""
    assert isinstance(inspect.getattr_static(pykka.ThreadingActor, "_create_actor_inbox"), staticmethod)
    assert isinstance(inspect.getattr_static(Stage, "_create_actor_inbox"), staticmethod)
    actor = Traced()
    assert actor.actor_ref.actor_inbox is actor.actor_inbox
    assert actor.actor_ref.actor_stopped is actor.actor_stopped
    assert actor.actor_ref.is_alive()
    actor.actor_stopped.set()
    assert not actor.actor_ref.is_alive()
    asked_of_it = {name for name in vars(_actor.ActorInbox) if not name.startswith("_")}
    assert asked_of_it == {"put", "get", "empty"}


def test_an_envelope_has_a_message_and_perhaps_a_reply() -> None:
    """H3: what `close()` must answer."""
    assert _envelope.Envelope.__slots__ == ["message", "reply_to"]
    envelope = _envelope.Envelope("message")
    assert envelope.reply_to is None
    reply: pykka.Future[Any] = pykka.ThreadingFuture()
    assert _envelope.Envelope("message", reply_to=reply).reply_to is reply
    error = pykka.ActorDeadError("dead")
    reply.set_exception((pykka.ActorDeadError, error, None))
    with pytest.raises(pykka.ActorDeadError) as caught:
        reply.get(timeout=0)
    assert caught.value is error


def test_refs_send_by_put_after_a_look_whether_the_actor_is_alive() -> None:
    """H2, H3: tell, ask and stop are a put each; stop is a message like any other."""
    actor = Traced()
    inbox = actor.actor_inbox
    assert isinstance(inbox, Inbox)
    ref = actor.actor_ref
    ref.tell("told")
    future = ref.ask("asked", block=False)
    ref.stop(block=False)
    actor.stop()
    assert inbox.done == ["put"] * 4
    told, asked, stop, own_stop = inbox.envelopes
    assert (told.message, told.reply_to) == ("told", None)
    assert asked.reply_to is future
    assert isinstance(stop.message, messages._ActorStop)
    assert stop.reply_to is not None
    assert isinstance(own_stop.message, messages._ActorStop)
    actor.actor_stopped.set()
    with pytest.raises(pykka.ActorDeadError):
        ref.tell("late")
    assert ref.stop(timeout=0) is False
    assert len(inbox.envelopes) == 4
    assert "actor_inbox.put" in inspect.getsource(_ref.ActorRef.tell)


def test_the_registry_forgets_an_actor_as_often_as_it_is_told_to() -> None:
    """H11: the stage unregisters itself at each of its ends."""
    actor = Traced()
    pykka.ActorRegistry.register(actor.actor_ref)
    pykka.ActorRegistry.unregister(actor.actor_ref)
    pykka.ActorRegistry.unregister(actor.actor_ref)
    assert pykka.ActorRegistry.get_all() == []


def test_start_registers_before_it_starts_the_loop() -> None:
    """H10: so a loop that cannot be started must unregister."""
    seen: list[int] = []

    class Early(Traced):
        def _start_actor_loop(self) -> None:
            seen.append(len(pykka.ActorRegistry.get_all()))
            pykka.ActorRegistry.unregister(self.actor_ref)

    Early.start()
    assert seen == [1]


@pytest.mark.integration
def test_a_base_exception_stops_every_actor_of_the_process() -> None:
    """H9: still so; this is why none ever leaves `on_receive` of a stage."""

    class Plain(pykka.ThreadingActor):
        def on_receive(self, message: Any) -> Any:
            raise SystemExit

    bystander, bomb = Plain.start(), Plain.start()
    bomb.tell("boom")
    assert bystander.actor_stopped.wait(PATIENCE_SECONDS)
    assert bomb.actor_stopped.wait(PATIENCE_SECONDS)
