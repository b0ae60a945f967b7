"""What a call to a model is: its request, its answer, and what else the folders of this package share. Plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from llm_datagen.llm.finish_reasons import Ending, ending_of
from llm_datagen.operators import INodeContext

OWN_TURN = "own_turn"
"""What an API wants back of its own with calls of tools, such as signed thoughts: among the extras of an answer
``{"api": …, "turn": …}``, and in a message of an assistant the same with the ``model`` that wrote it."""
Operation = Literal["chat", "embeddings", "rerank"]
"""What a model is asked for: an answer; a vector for each text; a score for each document."""
RESULTS: Mapping[Operation, str] = {"embeddings": "embeddings", "rerank": "scores"}
"""What comes back in place of a text, by the names of `ChatAnswer.extras`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What is left of a limit of an endpoint.

    Attributes:
        remaining: requests, or tokens.
        limit: how many there are when nothing is used; None when not said.
        reset: seconds until then.
    """

    remaining: int
    limit: int | None = None
    reset: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """What a response said of the endpoint's limits.

    Attributes:
        requests: what is left of them; None when not said.
        tokens: what is left of them; None when not said.
    """

    requests: Quota | None = None
    tokens: Quota | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """The beginning that the messages of all rows have in common.

    Attributes:
        messages: how many whole messages.
        chars: how many characters of the text of the next one.
        key: stands for the beginning.
    """

    messages: int
    chars: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One call that is wanted.

    Attributes:
        messages: the messages, as chat completions have them. Of embeddings, each is a text by itself; of a rerank, the
            first is the query, and the others are documents.
        params: the other fields of the request, without ``model`` and ``messages``.
        model: the model's name; a pool puts another one in its place when it asks another.
        sample: the number of this answer among those that are wanted of the same messages, from 0.
        choices: how many answers the endpoint is asked for at once, see `ChatAnswer.others`.
        cache_scope: what else its answer is cached by, such as a row; empty: equal requests share one answer.
        row: how errors name the row.
        ctx: the context of the node, for usage and log lines.
        prefix: the beginning that the endpoint is to cache; None: it is not told.
        is_probe: whether it finds out if an endpoint is back, so that it is sent while the circuit breaker is open.
        operation: what is asked for.
        call_key: what stands for the call where it is a row of a job, also in a later process; else empty.
    """

    messages: Sequence[Mapping[str, Any]] = field(repr=False)
    params: Mapping[str, Any]
    model: str
    sample: int = 0
    choices: int = 1
    cache_scope: str = field(default="", repr=False)
    row: str = ""
    ctx: INodeContext | None = field(default=None, repr=False)
    prefix: Prefix | None = field(default=None, repr=False)
    is_probe: bool = False
    operation: Operation = "chat"
    call_key: bytes = field(default=b"", repr=False)

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
        extras: what came besides the text, as JSON data: ``reasoning`` (a text), ``refusal`` (a text), ``tool_calls``
            (a list, as the endpoint sent it), ``logprobs``, and `OWN_TURN`; only what there is. ``embeddings`` has the
            vectors of the texts, ``scores`` those of the documents, in the order of the request: lists of numbers.
        usage: token counts: ``prompt_tokens``, ``completion_tokens``, ``total_tokens``, ``cached_tokens`` and
            ``cache_write_tokens`` (those of the prompt that came from the endpoint's cache, and went into it), and
            ``reasoning_tokens`` (those of the answer that are thoughts).
        model: the model that was asked.
        endpoint: the URL that answered.
        seconds: from the request to the last byte, of the try that succeeded.
        attempts: tries, with the one that succeeded.
        cost: US dollars; None when no price is known.
        left: what the endpoint said is left of its limits; None when it said nothing.
        is_cached: whether it comes from the cache, and cost nothing now.
        saved: US dollars that it cost when it was made, if it comes from the cache; None when that is not known.
        response_model: the model that answered, in the word of the endpoint, where that is not `model`: a dated
            version of it, or what a router chose; else None.
        others: the further answers to a request for several. Usage and cost of this one are those of all.
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
    others: Sequence[ChatAnswer] = field(default=(), repr=False)

    @property
    def in_words(self) -> str | None:
        """The text; of vectors, how many and how long they are; of scores, these."""
        if "embeddings" in self.extras:
            vectors = self.extras["embeddings"]
            return f"{len(vectors)} vector{'s' if len(vectors) > 1 else ''} of {len(vectors[0]):,} numbers"
        if "scores" in self.extras:
            return f"scores {', '.join(f'{score:g}' for score in self.extras['scores'])}"
        return self.text

    @property
    def ends(self) -> Ending:
        """What its end makes of it. What an earlier version cached is judged by today's words."""
        if self.ending is None:
            return ending_of(self.finish_reason)
        return self.ending if isinstance(self.ending, Ending) else Ending(self.ending)


class Parsed(NamedTuple):
    """What an answer becomes.

    Attributes:
        rows: the columns of each row.
        is_repaired: whether something had to be removed, or replaced, before it could be read.
    """

    rows: list[dict[str, Any]]
    is_repaired: bool = False


class AnswerFormat(Protocol):
    """Turns the text of an answer into columns."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that an answer fills."""

    @property
    def is_list(self) -> bool:
        """Whether an answer is a list of rows."""

    def request_fields(self) -> dict[str, Any]:
        """Return what the request says about the format."""

    def as_sent(self, answer: Any) -> Any:
        """Return an answer as the model is to write it."""

    def parse(self, text: str) -> Parsed:
        """Return the rows.

        Raises:
            ValueError: saying what is wrong, without the answer itself.
        """
