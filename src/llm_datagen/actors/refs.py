"""Refs of our actors: Pykka's, with an error of ours for a message to an actor that has ended."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, overload

import pykka
from pykka._envelope import Envelope

from llm_datagen.errors import RunEndedError

A = TypeVar("A", bound=pykka.Actor)


class ActorEndedError(RunEndedError, pykka.ActorDeadError):
    """A `RunEndedError` for those who know Pykka, too."""


class StageRef(pykka.ActorRef[A]):
    """The ref of a stage."""

    def tell(self, message: Any) -> None:
        """Send a message without waiting for the reply.

        Raises:
            RunEndedError: when the actor has ended; a `pykka.ActorDeadError`, too.
        """
        self._put(Envelope(message))

    @overload
    def ask(self, message: Any, *, block: Literal[False], timeout: float | None = None) -> pykka.Future[Any]: ...

    @overload
    def ask(self, message: Any, *, block: Literal[True], timeout: float | None = None) -> Any: ...

    @overload
    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any | pykka.Future[Any]: ...

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any | pykka.Future[Any]:
        """Send a message and wait for the reply.

        Args:
            message: the message.
            block: whether to wait; else the reply is a future.
            timeout: seconds to wait at most; None waits as long as it takes.

        Raises:
            RunEndedError: when the actor has ended; a `pykka.ActorDeadError`, too.
            UnknownMessageError: when the actor does not understand the message.
            pykka.Timeout: when the time is over first.
        """
        reply: pykka.Future[Any] = pykka.ThreadingFuture()
        self._put(Envelope(message, reply_to=reply))
        return reply.get(timeout=timeout) if block else reply

    def _put(self, envelope: Envelope[Any]) -> None:
        if self.is_alive():
            self.actor_inbox.put(envelope)
        else:
            refuse(envelope)


def refuse(envelope: Envelope[Any]) -> None:
    """Answer a message that nobody will handle.

    Raises:
        ActorEndedError: when there is no reply to fail.
    """
    error = ActorEndedError(
        "the run has ended, or its actor was stopped, and the message was not handled; resume() the pipeline to go on, "
        "or keep an actor for all its runs (pipeline.actor())"
    )
    if envelope.reply_to is None:
        raise error
    envelope.reply_to.set_exception((type(error), error, None))
