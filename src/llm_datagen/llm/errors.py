"""What can go wrong with a call to a model. A failed call is never data: one of these is raised."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from llm_datagen.errors import DatagenError, FatalError
from llm_datagen.errors.deprecation import old_names
from llm_datagen.llm.types import RateLimits


class LLMError(DatagenError):
    """The root of the errors of this package. Its messages name the endpoint and the row, never the key."""


class PromptError(LLMError):
    """Raised when the prompt of a row cannot be made, such as when it names a field that the row lacks."""


class ColumnExistsError(LLMError):
    """Raised when the answer would overwrite a column that the row has already. No call is made then."""


class LLMRequestError(LLMError):
    """Raised when a request got no answer: no connection, a timeout, an HTTP error, a body of another kind.

    Attributes:
        status: the HTTP status, or None when there was no response.
        body: the beginning of the response, without the key.
        may_pass: whether the same request may succeed later.
        retry_after: seconds that the endpoint asks to wait before that; None when it does not say.
        follows_outage: whether the call had waited before for an endpoint that was down.
        is_free: whether it is certain that it costs nothing: it was refused, or never reached the endpoint.
        left: what it said is left of its limits; None when it said nothing.
        amounts_to: the HTTP status that the failure amounts to, where the body says it better than the status: 429 for
            a rate limit that is sent as 403; else `status`. 200: the endpoint works, and this call got no answer.
        usage: the token counts of a call that was served, and whose answer is none; empty when not said.
        is_served: whether the endpoint began to answer (HTTP 200), so that the call counts.
        broke_off: whether the answer began, and did not come to its end.
        is_local: whether this machine is the reason, such as too many open files; that shows nothing of the endpoint.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        body: str = "",
        may_pass: bool = False,
        retry_after: float | None = None,
        is_free: bool = False,
        left: RateLimits | None = None,
        amounts_to: int | None = None,
        usage: Mapping[str, int] | None = None,
        is_served: bool = False,
        broke_off: bool = False,
        is_local: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        self.may_pass = may_pass
        self.retry_after = retry_after
        self.is_free = is_free
        self.left = left
        self.amounts_to = status if amounts_to is None else amounts_to
        self.usage: Mapping[str, int] = usage or {}
        self.is_served = is_served
        self.broke_off = broke_off
        self.is_local = is_local
        self.follows_outage = False

    @property
    def has_come(self) -> bool:
        """Whether an answer came as a whole, and cannot be used."""
        return self.is_served and self.status == HTTPStatus.OK and not self.broke_off


class OutageError(LLMRequestError, FatalError):
    """Raised when no endpoint has answered for `outage_after` seconds: the run fails, and a resume goes on with it."""


class EndpointRefusedError(LLMRequestError, FatalError):
    """Raised when the endpoint refuses every call, such as with a wrong key, URL or model, or a used-up quota."""


class DimensionError(LLMRequestError, FatalError):
    """Raised when the vectors of a model have another length than was asked for: the run fails, as every row would."""


class LocalResourceError(LLMRequestError, FatalError):
    """Raised when this machine has no files or ports left for calls, and none came free: the run fails, and no row."""


class BudgetError(LLMError, FatalError):
    """Raised when what a run spends cannot be written down, or read. No call is made then: it might be one too many."""


class BatchError(LLMError, FatalError):
    """Raised when jobs of a batch API cannot go on: the job log cannot be used, or they belong to another endpoint.

    The run fails, and no row does. A resume goes on with what the job log has.
    """


class GrantsError(LLMError, FatalError):
    """Raised when a shared budget or limit cannot be used: the service refuses this run, or cannot keep its file."""


class LLMCancelledError(LLMError):
    """Raised when a call was waiting, and the run is cancelled: its row is not done, and a resume does it."""


class LLMAnswerError(LLMError):
    """Raised when the model answered, and the answer cannot be used: cut off, withheld, or not to the schema.

    The beginning of the answer is a note of the exception: it stands in the traceback that a dead letter holds, and not
    in the message, which is logged.

    Attributes:
        finish_reason: why the model stopped, as the endpoint put it.
        answer: what the model said; None when it sent no text.
    """

    def __init__(self, message: str, *, finish_reason: str | None = None, answer: str | None = None) -> None:
        super().__init__(message)
        self.finish_reason = finish_reason
        self.answer = answer
        if answer is not None:
            shown = answer if len(answer) <= _NOTE_CHARS else f"{answer[:_NOTE_CHARS]}…"
            self.add_note(f"The answer, {len(answer)} characters:\n{shown}")


class ToolError(LLMError):
    """Raised when a tool that the model called failed, and ``on_tool_error="fail"``. The cause is the tool's error."""


class ToolLimitError(ToolError):
    """Raised when the model still calls tools, and the row has used up its rounds, its time or its money for that.

    What was answered stays in the cache: with a higher bound, the row goes on where it was given up.
    """


class ToolsStuckError(ToolError, FatalError):
    """Raised when many calls of tools never end, so that there would be ever more threads: the run fails."""


class McpServerError(ToolError, FatalError):
    """Raised when an MCP server does not start, lacks a tool that may be used, or dies too often: the run fails."""


class CacheError(LLMError, FatalError):
    """Raised when the file of the cache cannot be opened, read or written, or is something else.

    The run fails, and no row does: what cannot be stored would be paid for again.
    """


_NOTE_CHARS = 4000


if not TYPE_CHECKING:
    __getattr__ = old_names(__name__, {"JournalError": "CacheError"})
