"""What a call to a model is, and who makes one: the protocol that everything between operator and network implements.

A *caller* takes a request and returns an answer. Callers are put around one another, each with one concern: answers
that were paid for already (the cache), tries again, limits, and at the bottom HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llm_datagen.llm.finish_reasons import Ending, ending_of
from llm_datagen.llm.limits.headers import RateLimits
from llm_datagen.operators import INodeContext


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One call that is wanted.

    Attributes:
        messages: the messages, as chat completions have them.
        params: the other fields of the request, without ``model`` and ``messages``.
        model: the model's name; a pool puts another one in its place when it asks another.
        sample: the number of this answer among those that are wanted of the same messages, from 0.
        cache_scope: what its answer is kept by beside all this, such as a row; empty: equal requests have one answer.
        row: how errors name the row.
        ctx: the context of the node, for usage and log lines.
    """

    messages: Sequence[Mapping[str, Any]] = field(repr=False)
    params: Mapping[str, Any]
    model: str
    sample: int = 0
    cache_scope: str = field(default="", repr=False)
    row: str = ""
    ctx: INodeContext | None = field(default=None, repr=False)

    @property
    def has_tools(self) -> bool:
        """Whether it offers tools, so that an answer may end with a call of one."""
        return bool(self.params.get("tools") or self.params.get("functions"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """What came back from a call.

    Attributes:
        text: the answer; None when the endpoint sent none.
        finish_reason: why the model stopped, such as ``stop`` or ``length``, in the word of the endpoint; None when not
            said.
        ending: what that makes of the answer; None: what the word means in general.
        extras: what came beside the text, as JSON data: ``reasoning`` (a text), ``refusal`` (a text), ``tool_calls``
            (a list, as the endpoint sent it), ``logprobs``; only what there is.
        usage: token counts: ``prompt_tokens``, ``completion_tokens``, ``total_tokens``, ``cached_tokens`` and
            ``cache_write_tokens`` (those of the prompt that came from the endpoint's cache, and went into it).
        model: the model that was asked.
        endpoint: the URL that answered.
        seconds: from the request to the last byte, of the try that succeeded.
        attempts: tries, with the one that succeeded.
        cost: US dollars; None when no price is known.
        left: what the endpoint said is left of its limits; None when it said nothing, and above `LimitLayer`.
        is_cached: whether it comes from the cache, and cost nothing now.
        saved: US dollars that it cost when it was made, if it comes from the cache; None when that is not known.
        response_model: the model that answered, in the word of the endpoint, where that is not `model`: a dated
            version of it, or what a router chose; else None.
    """

    text: str | None = field(repr=False)
    finish_reason: str | None = None
    ending: Ending | None = None
    extras: Mapping[str, Any] = field(default_factory=dict, repr=False)
    usage: Mapping[str, int] = field(default_factory=dict)
    model: str = ""
    endpoint: str = ""
    seconds: float = 0.0
    attempts: int = 1
    cost: float | None = None
    left: RateLimits | None = None
    is_cached: bool = False
    saved: float | None = None
    response_model: str | None = None

    @property
    def ends(self) -> Ending:
        """What its end makes of it. What was kept by an earlier version of this library is judged by today's words."""
        return ending_of(self.finish_reason) if self.ending is None else Ending(self.ending)


class Transport(Protocol):
    """Makes calls. All methods run on the event loop of the node."""

    async def open(self) -> None:
        """Get ready. Called once, before the first call."""

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make a call.

        Raises:
            LLMError: when there is no answer.
        """

    async def close(self) -> None:
        """Let go of connections and files. Called once, after the last call; may be called more than once."""
