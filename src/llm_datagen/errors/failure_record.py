"""An exception as plain text: what a message, a dead letter and the run state hold of it."""

from __future__ import annotations

from dataclasses import dataclass

from llm_datagen.errors.tracebacks import trace_of

KEPT_CHARS = 64 * 1024
"""Characters that are kept of an exception's text, and of its traceback, in a dead letter."""

SHOWN_CHARS = 2_000
"""Characters of it that a message, the run state and the log show."""


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """What is left of an exception once it has crossed an actor boundary.

    Plain text only, so that it can be logged, stored and sent without keeping any frame alive. As a string, it is
    short enough for a message: its text is cut at `SHOWN_CHARS`.

    Attributes:
        kind: the exception's class name.
        text: its message, cut at `KEPT_CHARS`; then its end says so, and how long it was.
        trace: its formatted traceback, cut likewise, in its middle.
    """

    kind: str
    text: str
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> FailureRecord:
        """Return the record of `error`."""
        try:
            text = str(error)
        except Exception as second:  # noqa: BLE001 - an exception of foreign code may not even have a text
            text = f"<its text cannot be had: {type(second).__name__}>"
        return cls(kind=type(error).__name__, text=_cut(_storable(text)), trace=_cut_middle(_storable(trace_of(error))))

    @property
    def is_cut(self) -> bool:
        """Whether more was said than is kept."""
        return len(self.text) > KEPT_CHARS or len(self.trace) > KEPT_CHARS

    def __str__(self) -> str:
        return f"{self.kind}: {_cut(self.text, SHOWN_CHARS)}"


def _storable(text: str) -> str:
    """Return `text` without lone surrogates, which no file can hold."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _cut(text: str, chars: int = KEPT_CHARS) -> str:
    """Return `text`, or its beginning with a word on how long it was."""
    return text if len(text) <= chars else f"{text[:chars]}… (cut: it has {len(text)} characters)"


def _cut_middle(text: str) -> str:
    """Return `text`, or its beginning and its end: of a traceback, the calls and the last line."""
    if len(text) <= KEPT_CHARS:
        return text
    half = KEPT_CHARS // 2
    return f"{text[:half]}\n… (cut: it has {len(text)} characters) …\n{text[-half:]}"
