"""What can go wrong with a call to a model. A failed call is never data: one of these is raised."""

from __future__ import annotations

from llm_datagen.errors import DatagenError


class LLMError(DatagenError):
    """The root of the errors of this package. Its messages name the endpoint and the row, never the key."""


class PromptError(LLMError):
    """Raised when the prompt of a row cannot be made, such as when it names a field that the row lacks."""


class LLMRequestError(LLMError):
    """Raised when a request got no answer: no connection, a timeout, an HTTP error, a body of another kind.

    Attributes:
        status: the HTTP status, or None when there was no response.
        body: the beginning of the response, without the key.
        may_pass: whether the same request may succeed later.
        retry_after: seconds that the endpoint asks to wait before that; None when it does not say.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        body: str = "",
        may_pass: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        self.may_pass = may_pass
        self.retry_after = retry_after


class LLMAnswerError(LLMError):
    """Raised when the model answered, and the answer cannot be used: cut off, withheld, or not to the schema.

    Attributes:
        finish_reason: why the model stopped, as the endpoint put it.
    """

    def __init__(self, message: str, *, finish_reason: str | None = None) -> None:
        super().__init__(message)
        self.finish_reason = finish_reason


class JournalError(LLMError):
    """Raised when the file that keeps answers cannot be opened, read or written, or is something else."""
