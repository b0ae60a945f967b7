"""Asks for an answer that can be used; after one that cannot, asks for a repair of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from llm_datagen.llm.answers.call_log import CallLog
from llm_datagen.llm.answers.columns import ExtraColumns
from llm_datagen.llm.answers.reading import split_thoughts
from llm_datagen.llm.cache.response_cache import CacheLayer, Call, Outcome
from llm_datagen.llm.errors import LLMAnswerError, LLMRequestError, ToolError
from llm_datagen.llm.finish_reasons import Ending
from llm_datagen.llm.http.address import host_of
from llm_datagen.llm.prompts.messages import repair
from llm_datagen.llm.sampling.together import Together
from llm_datagen.llm.tool_calls import Message, assistant_message, plain_messages
from llm_datagen.llm.transport import Transport
from llm_datagen.llm.types import AnswerFormat, ChatAnswer, ChatRequest, Parsed

if TYPE_CHECKING:
    from llm_datagen.llm.batch.layers import JobsLayer


class Answered(NamedTuple):
    """What came of a request.

    Attributes:
        parsed: what the answer becomes.
        answers: all answers; those before the last one had to be repaired, or called tools.
        request: the last request.
        text: what was read; None when the answer calls tools instead.
        tool_calls: calls of tools that were executed.
    """

    parsed: Parsed
    answers: list[ChatAnswer]
    request: ChatRequest
    text: str | None
    tool_calls: int = 0

    def messages(self) -> list[Message]:
        """Return the conversation, with the answer.

        Raises:
            LLMAnswerError: when the answer calls tools, and does not say which.
        """
        return plain_messages([*self.request.messages, assistant_message(self.answers[-1], self.text)])


class Rounds(Protocol):
    """The rounds in which a row uses tools."""

    @property
    def calls(self) -> int:
        """Calls of tools that were executed."""

    async def next(self, request: ChatRequest, answer: ChatAnswer) -> ChatRequest | None:
        """Return the request that follows an answer which calls tools; None when it calls none.

        Raises:
            LLMError: when the row fails by it.
        """


@dataclass(slots=True)
class _Progress:
    """How far a row has come.

    Attributes:
        request: the one that comes next, or came last.
        came: what came of it, if it was asked already.
        calls: what was asked, and answered.
        unusable: those of them whose answer had to be repaired, or cannot be used.
        repairs_at: which messages of `request` ask for a repair.
    """

    request: ChatRequest
    came: Outcome | None = None
    calls: list[Call] = field(default_factory=list)
    unusable: list[Call] = field(default_factory=list)
    repairs_at: list[int] = field(default_factory=list)


class Asker:
    """Asks, and reads the answers.

    Args:
        transport: makes the calls.
        answers: what an answer must look like.
        max_repairs: how often the model is asked again after an answer that does not look so.
        extras: what else of an answer becomes columns: then an answer may be a call of a tool, without a text; and a
            think block is removed from the text, and counts as what the endpoint sent as reasoning.
        cache: the layer of `transport` that stores answers; None for none.
        jobs: the layer of `transport` whose calls are rows of jobs; None: they are plain.
        call_log: where calls are written down; None: nowhere.
        together: asks for the samples of a row by one request; None: each is a request.
        begin_rounds: begins the rounds in which a row uses tools; None: calls of tools are not executed.
    """

    def __init__(
        self,
        transport: Transport,
        answers: AnswerFormat,
        *,
        max_repairs: int,
        extras: ExtraColumns | None = None,
        cache: CacheLayer | None = None,
        jobs: JobsLayer | None = None,
        call_log: CallLog | None = None,
        together: Together | None = None,
        begin_rounds: Callable[[], Rounds] | None = None,
    ) -> None:
        self._together = together
        self._begin_rounds = begin_rounds
        self._call_log = call_log
        self._transport = transport
        self._cache = cache
        self._jobs = jobs
        self._answers = answers
        self._max_repairs = max_repairs
        self._takes_tool_calls = extras is not None and extras.takes_tool_calls
        self._takes_reasoning = extras is not None and extras.takes_reasoning

    async def ask_samples(self, samples: Sequence[ChatRequest]) -> list[Answered]:
        """Return the answers to a row's requests. When one fails, the others are waited for: they are paid for.

        Raises:
            LLMError: see `ask`.
        """
        if len(samples) == 1:
            return [await self.ask(samples[0])]
        first: Sequence[Outcome | None] = [None] * len(samples)
        if self._together is not None:
            first = await self._together.ask(samples)
        found = await asyncio.gather(*map(self.ask, samples, first), return_exceptions=True)
        return [_raised(each) for each in found]

    async def ask(self, request: ChatRequest, first: Outcome | None = None) -> Answered:
        """Return the answer, as rows, and what it took.

        Args:
            request: what is asked.
            first: what came of it, if it was asked already.

        Raises:
            LLMRequestError: when the endpoint did not answer.
            LLMAnswerError: when the last answer cannot be used. What the cache has of such is forgotten then.
            ToolError: when a tool failed, or the row may use no more of them.
            CacheError: when the answer cannot be stored, or a stored one cannot be read.
        """
        progress = _Progress(request, first)
        rounds = None if self._begin_rounds is None else self._begin_rounds()
        error: BaseException | None = None
        try:
            parsed, text, thoughts = await self._usable(progress, rounds)
        except LLMAnswerError as unusable:
            error = unusable
            if self._cache is not None:  # else every later try of the row would get these again
                await self._cache.discard(progress.unusable)
            if self._jobs is not None:
                self._jobs.discard([each for each, _ in progress.unusable])
            raise
        except (LLMRequestError, ToolError) as refused:
            error = refused
            raise
        except BaseException as stopped:
            if progress.calls:  # of a row that was asked nothing yet, there is nothing to write down
                error = stopped
            raise
        finally:
            if self._call_log is not None and (progress.calls or error is not None):
                await self._log(progress, rounds, error, self._call_log)
        answers = [answer for _, answer in progress.calls]
        if self._cache is not None and progress.unusable and not answers[-1].is_cached:
            # A repair is found by what it repairs. A row with the same prompt may have failed, and discarded that.
            await self._cache.store(progress.unusable)
        if thoughts is not None:
            last = answers[-1]
            both = [part for part in (last.extras.get("reasoning"), thoughts) if part]
            answers[-1] = replace(last, extras={**last.extras, "reasoning": "\n\n".join(both)})
        return Answered(parsed, answers, progress.request, text, rounds.calls if rounds is not None else 0)

    @staticmethod
    async def _log(progress: _Progress, rounds: Rounds | None, error: BaseException | None, log: CallLog) -> None:
        """Write down the row's calls, with the whole conversation."""
        await log.note(
            progress.request,
            progress.calls,
            error,
            repaired=progress.unusable[: len(progress.repairs_at)],
            repairs_at=progress.repairs_at,
            tool_calls=0 if rounds is None else rounds.calls,
        )

    async def _usable(self, progress: _Progress, rounds: Rounds | None) -> tuple[Parsed, str | None, str | None]:
        """Return what the answer becomes, its text, and the think block that was removed from it."""
        while True:
            request = progress.request
            if isinstance(progress.came, BaseException):
                raise progress.came
            answer, progress.came = progress.came or await self._transport.complete(request), None
            call = (request, answer)
            progress.calls.append(call)
            if answer.is_cached:  # what was paid for is reported where it is paid
                report_cached(request, answer)
            progress.unusable.append(call)  # until it turns out to be of use
            if rounds is not None and (following := await rounds.next(request, answer)) is not None:
                progress.unusable.pop()
                progress.request = following
                continue
            is_call = self._takes_tool_calls and request.has_tools and answer.ends is Ending.TOOL
            if is_call and not (answer.text or "").strip():
                progress.unusable.pop()
                return Parsed([dict.fromkeys(self._answers.columns)]), None, None
            text, thoughts = _text(request, answer), None
            try:
                if self._takes_reasoning:
                    thoughts, text = split_thoughts(text)
                parsed = self._answers.parse(text)
            except ValueError as error:
                if len(progress.unusable) > self._max_repairs:
                    reason = answer.finish_reason
                    number = len(progress.unusable)
                    after = f" after {number} answers" if number > 1 else ""
                    raise LLMAnswerError(
                        f"the answer of {_where(request, answer)} cannot be used{after}: {error} "
                        f"(finish_reason {reason!r}); change the prompt or the output",
                        finish_reason=reason,
                        answer=text,
                    ) from error
                progress.request = replace(request, messages=[*request.messages, *repair(text, error)])
                progress.repairs_at.append(len(progress.request.messages) - 1)
                continue
            progress.unusable.pop()
            return parsed, text, thoughts


def _raised(found: Answered | BaseException) -> Answered:
    if isinstance(found, BaseException):
        raise found
    return found


def report_cached(request: ChatRequest, answer: ChatAnswer) -> None:
    """Report that an answer came from the cache, under the provider and the model that answered."""
    if request.ctx is not None:
        request.ctx.report_usage({"provider": host_of(answer.endpoint), "model": answer.model, "cached": 1})


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
    if ending is Ending.FINISHED and not refusal:
        return None
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
