"""Why a model stopped, and what that makes of its answer: only one that came to its own end is data."""

from __future__ import annotations

from enum import StrEnum


class Ending(StrEnum):
    """What the end of an answer makes of it."""

    FINISHED = "finished"
    """The model came to the end of what it had to say: the answer is data."""
    TOOL = "tool"
    """It ended by calling a tool."""
    CUT_OFF = "cut_off"
    """It was cut off at a limit of tokens."""
    WITHHELD = "withheld"
    """A filter of the endpoint held it back, or a part of it."""
    REFUSED = "refused"
    """The model would not answer."""
    FAILED = "failed"
    """The endpoint failed while it answered: the call may be made again."""
    UNKNOWN = "unknown"
    """Nobody here knows the word."""


_WORDS = {
    Ending.FINISHED: ("stop", "stop_sequence", "end_turn", "eos", "eos_token", "complete"),
    Ending.TOOL: ("tool_calls", "tool_call", "tool_use", "function_call"),
    Ending.CUT_OFF: (
        "length",
        "max_tokens",
        "max_output_tokens",
        "max_length",
        "model_length",
        "model_context_window_exceeded",
        "context_length_exceeded",
    ),
    Ending.WITHHELD: (
        "content_filter",
        "content_filtered",
        "safety",
        "recitation",
        "blocklist",
        "prohibited_content",
        "spii",
        "sensitive",
        "image_safety",
        "guardrail_intervened",
    ),
    Ending.REFUSED: ("refusal",),
    Ending.FAILED: (
        "error",
        "abort",
        "aborted",
        "failed",
        "cancelled",
        "canceled",
        "timeout",
        "network_error",
        "server_error",
        "internal_error",
        "insufficient_system_resource",
    ),
}
_ENDINGS = {word: ending for ending, words in _WORDS.items() for word in words}


def ending_of(finish_reason: str | None) -> Ending:
    """Return what a reason to stop means, as the APIs of models put it, in any case of letters, and with blanks around.

    Args:
        finish_reason: the word; None when the endpoint sent none, as some servers do with an answer that is whole.
    """
    return Ending.FINISHED if finish_reason is None else _ENDINGS.get(plain_word(finish_reason), Ending.UNKNOWN)


def plain_word(finish_reason: str) -> str:
    """Return a reason to stop as it is compared."""
    return finish_reason.strip().lower()
