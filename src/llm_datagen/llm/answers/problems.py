"""Why an answer is not data, whatever its text is."""

from __future__ import annotations

from llm_datagen.llm.finish_reasons import Ending
from llm_datagen.llm.types import ChatAnswer


def problem_of(answer: ChatAnswer, *, has_tools: bool) -> str | None:
    """Return what is wrong with an answer, and what to do, to follow "the answer of …"; None when it is data.

    Args:
        answer: what came back.
        has_tools: whether the request offered tools, so that an answer may end with a call of one.
    """
    reason, ending = answer.finish_reason, answer.ends
    refusal = answer.extras.get("refusal")
    if refusal or ending is Ending.REFUSED:
        reason_given = f": {refusal}" if refusal else ""
        return f"is a refusal by the model (finish_reason {reason!r}){reason_given}; change or drop the row"
    match ending:
        case Ending.CUT_OFF:
            return "was cut off at the token limit: raise max_tokens in params, or ask for less"
        case Ending.WITHHELD:
            return f"was withheld by the content filter (finish_reason {reason!r}): change or drop the row"
        case Ending.FAILED:
            return f"broke off (finish_reason {reason!r}): try the row again"
        case Ending.UNKNOWN:
            return (
                f"ended with finish_reason {reason!r}, which may be half an answer: if it is a whole one, give an "
                "adapter whose finished_words hold that word"
            )
        case Ending.TOOL if not has_tools:
            return f"ended by calling a tool that nobody offered (finish_reason {reason!r}): check prompt and params"
    if answer.text is None and ending is Ending.TOOL:
        return f"has no text (finish_reason {reason!r}): name a column for the calls, extra_columns={{'tool_calls': …}}"
    if answer.text is None:
        return f"has no text (finish_reason {reason!r}): check params"
    return None
