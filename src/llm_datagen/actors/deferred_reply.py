"""Deferred replies: an actor that was asked something goes on, and the reply is set when it is known.

Pykka sets the reply as soon as a message was handled. Here the reply is taken off the envelope first, so that nobody
waits but the one who asked.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import pykka
from pykka._envelope import Envelope

from llm_datagen.actors.mailbox import Mailbox


def defer_reply(mailbox: Mailbox) -> Future[Any]:
    """Return the reply to the message that is being handled: resolve it or fail it, once, from any thread.

    The caller of an ask gets the result, or has the exception raised. A tell has no caller. Called by the actor's own
    thread, as are the others.
    """
    reply: Future[Any] = Future()
    envelope = take(mailbox)
    if envelope.reply_to is not None:
        caller = envelope.reply_to
        reply.add_done_callback(lambda done: _pass_on(done, caller))
    return reply


def take(mailbox: Mailbox) -> Envelope[Any]:
    """Return the message that is being handled, to be put again: the caller of an ask is answered then."""
    envelope = mailbox.current
    assert envelope is not None
    reply, envelope.reply_to = envelope.reply_to, None
    return Envelope(envelope.message, reply_to=reply)


def forward(mailbox: Mailbox, ref: pykka.ActorRef[Any]) -> None:
    """Hand the message that is being handled to another actor, which answers it in place of this one."""
    with contextlib.suppress(pykka.ActorDeadError):  # it has ended: the caller was told so
        ref.actor_inbox.put(take(mailbox))


def _pass_on(done: Future[Any], reply: pykka.Future[Any]) -> None:
    error = done.exception()
    if error is None:
        reply.set(done.result())
    else:
        reply.set_exception((type(error), error, None))


def when_all(futures: Sequence[Future[None]], call: Callable[[], None]) -> None:
    """Have `call` called once, when the last of `futures` is resolved, in that thread; at once if all are."""
    lock = threading.Lock()
    left = len(futures)

    def one_less(_: Future[None]) -> None:
        nonlocal left
        with lock:
            left -= 1
            is_last = not left
        if is_last:
            call()

    for future in futures:
        future.add_done_callback(one_less)
    if not futures:
        call()
