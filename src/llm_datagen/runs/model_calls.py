"""Calls to models, told to who listens to their run, while they are made: for traces. Plain data.

Nobody listens unless told so (`listen`), and then only to runs of this process: what makes calls asks `listener_of`
once for each call, which is one look into an empty dictionary.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """A try of a call to a model, before it is sent.

    Attributes:
        pipeline_id: the run.
        node_id: the node that asks.
        row: how errors name the row.
        host: the host that is asked.
        port: its port; None when not known.
        model: the model that is asked.
        params: the other fields of the request, such as ``temperature``.
        messages: the messages, as chat completions have them.
        operation: what is asked for: ``chat``, ``embeddings`` (each message is a text) or ``rerank`` (a query, and
            documents).
    """

    pipeline_id: str
    node_id: str
    row: str
    host: str
    port: int | None
    model: str
    params: Mapping[str, Any] = field(repr=False)
    messages: Sequence[Mapping[str, Any]] = field(repr=False)
    operation: str = "chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """What came back.

    Attributes:
        model: the model that answered.
        text: the answer; None when there is no text.
        finish_reason: why the model stopped, in the word of the endpoint; None when not said.
        ending: what that makes of the answer, in a word of ours: "finished", "tool", "cut_off" and the other values of
            `llm.finish_reasons.Ending`.
        usage: token counts that are believed: ``prompt_tokens``, ``completion_tokens``, and the parts of these,
            ``cached_tokens``, ``cache_write_tokens`` and ``reasoning_tokens``; only what there is.
    """

    model: str
    text: str | None = field(repr=False)
    finish_reason: str | None
    ending: str
    usage: Mapping[str, int]


class OpenCall(AbstractContextManager[Any], Protocol):
    """A call that is being made. Its block is the call; an exception that leaves it is what the call failed of."""

    def answered(self, answer: ModelAnswer) -> None:
        """Note the answer."""

    def failed(self, kind: str, usage: Mapping[str, int]) -> None:
        """Note what it failed of, before the exception leaves the block.

        Args:
            kind: the HTTP status, or else the name of the error.
            usage: the token counts of a call that was served all the same; empty when not said.
        """


class CallListener(Protocol):
    """Is told of calls, on the threads and event loops that make them: it must be quick, and must not raise."""

    def call(self, call: ModelCall) -> OpenCall:
        """Return what is entered while a call is made."""


_listeners: dict[str, CallListener] = {}
_changing = threading.Lock()


def listen(pipeline_id: str, listener: CallListener) -> None:
    """Have `listener` told of all calls of a run in this process, from now on. One listens to a run: the last one."""
    with _changing:
        _listeners[pipeline_id] = listener


def stop_listening(pipeline_id: str, listener: CallListener) -> None:
    """Have `listener` told of no more calls of a run, if it is who listens."""
    with _changing:
        if _listeners.get(pipeline_id) is listener:
            del _listeners[pipeline_id]


def listener_of(pipeline_id: str) -> CallListener | None:
    """Return who listens to a run; None when nobody does. Any thread may ask."""
    return _listeners.get(pipeline_id)
