"""Asks for an answer that can be used; after one that cannot, asks for a repair of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from yarl import URL

from llm_datagen.llm.answers.call_log import CallLog
from llm_datagen.llm.answers.columns import ExtraColumns
from llm_datagen.llm.answers.reading import split_thoughts
from llm_datagen.llm.cache.response_cache import CacheLayer, Call
from llm_datagen.llm.errors import LLMAnswerError, LLMRequestError
from llm_datagen.llm.finish_reasons import Ending
from llm_datagen.llm.prompts.messages import repair
from llm_datagen.llm.transport import Transport
from llm_datagen.llm.types import AnswerFormat, ChatAnswer, ChatRequest, Parsed


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a request.

    Attributes:
        parsed: what the answer becomes.
        answers: all answers; those before the last one had to be repaired.
    """

    parsed: Parsed
    answers: list[ChatAnswer]


class Asker:
    """Asks, and reads the answers.

    Args:
        transport: makes the calls.
        answers: what an answer must look like.
        max_repairs: how often the model is asked again after an answer that does not look so.
        extras: what else of an answer becomes columns: then an answer may be a call of a tool, without a text; and a
            think block is removed from the text, and counts as what the endpoint sent as reasoning.
        cache: the layer of `transport` that stores answers; None for none.
        call_log: where calls are written down; None: nowhere.
    """

    def __init__(
        self,
        transport: Transport,
        answers: AnswerFormat,
        *,
        max_repairs: int,
        extras: ExtraColumns | None = None,
        cache: CacheLayer | None = None,
        call_log: CallLog | None = None,
    ) -> None:
        self._call_log = call_log
        self._transport = transport
        self._cache = cache
        self._answers = answers
        self._max_repairs = max_repairs
        self._takes_tool_calls = extras is not None and extras.takes_tool_calls
        self._takes_reasoning = extras is not None and extras.takes_reasoning

    async def ask_samples(self, request: ChatRequest, n: int) -> list[Answered]:
        """Return `n` answers to a request. When one fails, the others are waited for: they are paid for, and count.

        Raises:
            LLMError: see `ask`.
        """
        if n == 1:
            return [await self.ask(request)]
        samples = [replace(request, sample=number) for number in range(n)]
        found = await asyncio.gather(*map(self.ask, samples), return_exceptions=True)
        return [_raised(each) for each in found]

    async def ask(self, request: ChatRequest) -> Answered:
        """Return the answer, as rows, and what it took.

        Raises:
            LLMRequestError: when the endpoint did not answer.
            LLMAnswerError: when the last answer cannot be used. What the cache has of the row is forgotten then.
            CacheError: when the answer cannot be stored, or a stored one cannot be read.
        """
        asked: list[Call] = []
        error: BaseException | None = None
        try:
            parsed, thoughts = await self._usable(request, asked)
        except LLMAnswerError as unusable:
            error = unusable
            if self._cache is not None:  # else every later try of the row would get these again
                await self._cache.discard(asked)
            raise
        except LLMRequestError as refused:
            error = refused
            raise
        finally:
            if self._call_log is not None and (asked or error is not None):
                await self._call_log.note(request, asked, error)
        answers = [answer for _, answer in asked]
        if self._cache is not None and len(asked) > 1 and not answers[-1].is_cached:
            # A repair is found by what it repairs. A row with the same prompt may have failed, and discarded that.
            await self._cache.store(asked[:-1])
        if thoughts is not None:
            last = answers[-1]
            both = [part for part in (last.extras.get("reasoning"), thoughts) if part]
            answers[-1] = replace(last, extras={**last.extras, "reasoning": "\n\n".join(both)})
        return Answered(parsed, answers)

    async def _usable(self, request: ChatRequest, asked: list[Call]) -> tuple[Parsed, str | None]:
        """Return what the answer becomes, and the think block that was removed from it."""
        while True:
            answer = await self._transport.complete(request)
            asked.append((request, answer))
            if answer.is_cached:  # what was paid for is reported where it is paid
                _report(request, answer)
            is_call = self._takes_tool_calls and request.has_tools and answer.ends is Ending.TOOL
            if is_call and not (answer.text or "").strip():
                return Parsed([dict.fromkeys(self._answers.columns)]), None
            text, thoughts = _text(request, answer), None
            try:
                if self._takes_reasoning:
                    thoughts, text = split_thoughts(text)
                return self._answers.parse(text), thoughts
            except ValueError as error:
                if len(asked) > self._max_repairs:
                    reason = answer.finish_reason
                    after = f" after {len(asked)} answers" if len(asked) > 1 else ""
                    raise LLMAnswerError(
                        f"the answer of {_where(request, answer)} cannot be used{after}: {error} "
                        f"(finish_reason {reason!r}); change the prompt or the output",
                        finish_reason=reason,
                        answer=text,
                    ) from error
                request = replace(request, messages=[*request.messages, *repair(text, error)])


def _raised(found: Answered | BaseException) -> Answered:
    if isinstance(found, BaseException):
        raise found
    return found


def _report(request: ChatRequest, answer: ChatAnswer) -> None:
    """Report that an answer came from the cache, under the provider and the model that answered."""
    if request.ctx is not None:
        request.ctx.report_usage({"provider": URL(answer.endpoint).host, "model": answer.model, "cached": 1})


def _text(request: ChatRequest, answer: ChatAnswer) -> str:
    """Return the text of an answer that is whole; none at all is an empty one.

    Raises:
        LLMAnswerError: when it is not whole.
    """
    problem = problem_of(answer, has_tools=request.has_tools)
    if problem:
        raise LLMAnswerError(
            f"the answer of {_where(request, answer)} {problem}", finish_reason=answer.finish_reason, answer=answer.text
        )
    return answer.text or ""


def _where(request: ChatRequest, answer: ChatAnswer) -> str:
    return f"{answer.model} at {answer.endpoint}, {request.row}"


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
    return None
