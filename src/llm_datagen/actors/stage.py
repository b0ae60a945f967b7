"""The stage: what all our actors have in common, which is how they live and how they end.

Guarantees, whatever happens to it:

* It gives exactly one terminal report (`StageEnded`) to its parent: finished, stopped or failed. Never two, never none.
* A message that it does not understand, or that is not as its class says, is refused, and changes nothing: an error to
  whoever asks, else a warning.
* No exception leaves it. What a handler raises becomes a frozen `FailureRecord`, and the stage ends.
* Before its last message queue is drained, its mailbox is closed: no put stays blocked, and no ask waits for an
  answer that will not come.
* `release()` is called once, in its own thread, before the report: files are closed when the parent gets the report.

Subclasses write `begin`, `handle` and `release`, and call `end` when they are done. Pykka's own stop means abort.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any, Never, NoReturn, Protocol

import pykka
from pykka._envelope import Envelope
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop

from llm_datagen.actors.clock import Clock
from llm_datagen.actors.mailbox import Mailbox
from llm_datagen.actors.message_check import wrong_field
from llm_datagen.actors.refs import ActorEndedError, StageRef
from llm_datagen.errors import DatagenError, FailureRecord, UnknownMessageError
from llm_datagen.errors.advice import a_kind
from llm_datagen.messages import StageEnded, StageOutcome
from llm_datagen.streams.storage.waiting import Interrupted

_numbers = itertools.count()


class Recipient(Protocol):
    """Whoever can be told something: an actor's ref, or what stands for one."""

    def tell(self, message: Any) -> None:
        """Send a message without waiting."""


class Refusal(Exception):  # noqa: N818 - it is no failure of the actor
    """Raised by a handler that refuses a message, and has changed nothing.

    Args:
        error: what is raised to the caller of an ask.
    """

    def __init__(self, error: DatagenError) -> None:
        super().__init__(str(error))
        self.error = error


class Stage(pykka.ThreadingActor):
    """An actor that ends with exactly one report.

    Args:
        role: what it is, for reports and thread names: "reader", "node", "writer", "supervisor" …
        node_id: the node that it belongs to, or an empty string.
        parent: who gets the report.
        clock: what its timers go by; the machine's own clock unless given.
    """

    use_daemon_thread = False

    def __init__(
        self, role: str, node_id: str = "", parent: Recipient | None = None, clock: Clock | None = None
    ) -> None:
        super().__init__()
        self._actor_ref = StageRef(self)
        if clock is not None:
            self.mailbox.clock = clock
        self.role = role
        self.node_id = node_id
        self._parent = parent
        self._outcome: StageOutcome | None = None
        self._failure: FailureRecord | None = None
        self._error: BaseException | None = None

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        return Mailbox()

    @property
    def mailbox(self) -> Mailbox:
        """The stage's mailbox."""
        inbox = self.actor_inbox
        assert isinstance(inbox, Mailbox)
        return inbox

    @property
    def clock(self) -> Clock:
        """What the stage's timers go by."""
        return self.mailbox.clock

    # What subclasses write. All of it runs in the stage's own thread.

    def begin(self) -> None:
        """Get ready: called once, before the first message."""

    def handle(self, message: Any) -> Any:
        """Handle a message; the result is the reply, if one was asked for."""
        refuse_unknown(message)

    def release(self) -> None:
        """Let go of everything: called once, after the last message, however the stage ended."""

    def interrupted(self) -> None:
        """End, as it was cancelled while it waited for a store or a hub, and what it wanted there has not come."""
        self.end(StageOutcome.STOPPED)

    def drop(self, message: Any) -> None:
        """Drop a message that was in the mailbox when the stage ended, and is not handled."""

    # What subclasses call.

    def end(self, outcome: StageOutcome) -> None:
        """End the stage after the current message. The first call decides the outcome."""
        if self._outcome is None:
            self._outcome = outcome
        self.actor_stopped.set()

    def fail(self, error: BaseException) -> None:
        """End the stage as failed by `error`. The first failure counts, and outweighs any other outcome."""
        if self._failure is None:
            self._outcome, self._error = StageOutcome.FAILED, error
            self._failure = FailureRecord.of(error)
        self.actor_stopped.set()

    # Pykka's side.

    def _start_actor_loop(self) -> None:
        name = f"datagen-{self.role}-{self.node_id or next(_numbers)}"
        thread = threading.Thread(target=self._actor_loop, name=name, daemon=self.use_daemon_thread)
        self.mailbox.thread = thread  # before it starts: whoever has the ref may join
        try:
            thread.start()
        except BaseException:
            self.mailbox.thread = None
            self._close()
            raise

    def _actor_loop(self) -> None:
        self.mailbox.interrupt.use()
        try:
            self._actor_loop_setup()
            self._actor_loop_running()
        except BaseException as error:  # noqa: BLE001 - not even a bug may leave a zombie
            self.fail(error)
        try:
            self._actor_loop_teardown()
        finally:
            self._report()

    def _actor_loop_teardown(self) -> None:
        self._close()
        while not self.mailbox.empty():
            self._attempt(self._dismiss, self.mailbox.get())
        self._attempt(self.release)

    def _close(self) -> None:
        """Be dead, to everyone: not alive, not registered, and no thread blocked."""
        self.actor_stopped.set()
        pykka.ActorRegistry.unregister(self.actor_ref)
        self.mailbox.close()

    def _dismiss(self, envelope: Envelope[Any]) -> None:
        if envelope.reply_to is not None:
            if isinstance(envelope.message, _ActorStop):
                envelope.reply_to.set(None)
                return
            error = ActorEndedError(f"{self.role} {self.node_id} ended before handling the message")
            envelope.reply_to.set_exception((type(error), error, None))
        self.drop(envelope.message)

    def _attempt(self, step: Callable[..., None], *args: Any) -> None:
        """Take a step of the end: if it fails, the others are taken nevertheless."""
        try:
            step(*args)
        except Interrupted:
            self.interrupted()
        except BaseException as error:  # noqa: BLE001
            self.fail(error)

    def on_start(self) -> None:
        """Run `begin`, once, in the stage's thread."""
        try:
            self.begin()
        except Interrupted:
            self.interrupted()
        except BaseException as error:  # noqa: BLE001
            self.fail(error)

    def on_receive(self, message: Any) -> Any:
        """Run `handle`, in the stage's thread. A failure ends the stage and is the reply to an ask."""
        try:
            if wrong := wrong_field(message):
                raise Refusal(_unknown(message, wrong))
            return self.handle(message)
        except Refusal as refusal:
            self._refuse(refusal.error)
        except Interrupted:
            self.interrupted()
        except BaseException as error:  # noqa: BLE001
            self.fail(error)
            return FailureRecord.of(error)

    def _handle_receive(self, message: Any) -> Any:
        if isinstance(message, ProxyCall | ProxyGetAttr | ProxySetAttr):  # they would reach around `handle`
            self._refuse(_unknown(message))
            return None
        return super()._handle_receive(message)

    def _refuse(self, error: DatagenError) -> None:
        """Raise `error` to the caller of an ask; for a tell, log it as a warning."""
        envelope = self.mailbox.current
        if envelope is not None and envelope.reply_to is not None:
            reply, envelope.reply_to = envelope.reply_to, None
            reply.set_exception((type(error), error, None))
        else:
            who = f"{self.role} {self.node_id}".strip()
            logging.getLogger("llm_datagen").warning("%s refuses a message, and goes on: %s", who, error)

    def on_stop(self) -> None:
        """Note that the stage was aborted: Pykka's stop came before its own end."""
        if self._outcome is None:
            self._outcome = StageOutcome.STOPPED

    def _report(self) -> None:
        if self._parent is not None:
            ended = StageEnded(
                node_id=self.node_id,
                role=self.role,
                outcome=self._outcome or StageOutcome.STOPPED,
                failure=self._failure,
                error=self._error,
            )
            with contextlib.suppress(pykka.ActorDeadError):
                self._parent.tell(ended)


def join(ref: pykka.ActorRef[Any], timeout: float) -> bool:
    """Wait until the thread of a stage has ended; return whether it has. Never called from that thread.

    Args:
        ref: a stage's ref.
        timeout: seconds.
    """
    inbox = ref.actor_inbox
    assert isinstance(inbox, Mailbox)
    if inbox.thread is not None:
        inbox.thread.join(timeout)
        return not inbox.thread.is_alive()
    return True


def hurry(ref: pykka.ActorRef[Any], seconds: float) -> None:
    """Let a stage wait no longer for a store or a hub; see `Interrupt.hurry`. Any thread may call it."""
    inbox = ref.actor_inbox
    assert isinstance(inbox, Mailbox)
    inbox.interrupt.hurry(seconds)


def refuse_unknown(message: Never) -> NoReturn:
    """Refuse a message that an actor does not know; for type checkers, `typing.assert_never`.

    That one's error shows the message, and it may be a row (H15).
    """
    raise Refusal(_unknown(message))


def _unknown(message: object, wrong: str = "") -> UnknownMessageError:
    what = f"the class {message.__name__}" if isinstance(message, type) else a_kind(type(message))
    because = f" ({wrong})" if wrong else ""
    return UnknownMessageError(
        f"the actor does not understand {what}{because}; send one of its commands, such as Cancel(), from "
        "llm_datagen.messages"
    )


def tell(ref: Recipient | None, message: Any) -> bool:
    """Tell `ref` something unless it has ended already; return whether it was told."""
    if ref is None:
        return False
    try:
        ref.tell(message)
    except pykka.ActorDeadError:
        return False
    return True
