"""Asks for one answer that can be used: again, with what is wrong with it, after one that cannot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from yarl import URL

from llm_datagen.llm.answers.problems import problem_of
from llm_datagen.llm.answers.schemas import AnswerFormat
from llm_datagen.llm.chat import ChatAnswer, ChatCaller, ChatRequest
from llm_datagen.llm.errors import LLMAnswerError
from llm_datagen.llm.kept.journal import Call, JournaledCaller
from llm_datagen.llm.kept.watching import WatchedCaller
from llm_datagen.llm.prompting.conversation import repair


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a request.

    Attributes:
        columns: what the answer becomes.
        answers: all answers; those before the last one had to be repaired.
    """

    columns: dict[str, Any]
    answers: list[ChatAnswer]


class Asker:
    """Asks, and reads the answers.

    Args:
        caller: makes the calls.
        answers: what an answer must look like.
        max_repairs: how often the model is asked again after an answer that does not look so.
    """

    def __init__(self, caller: ChatCaller, answers: AnswerFormat, *, max_repairs: int) -> None:
        self._caller = caller
        self._answers = answers
        self._max_repairs = max_repairs

    async def ask(self, request: ChatRequest) -> Asked:
        """Return the answer, as columns, and what it took.

        Raises:
            LLMRequestError: when the endpoint did not answer.
            LLMAnswerError: when the last answer cannot be used. What the journal kept of the row is forgotten then.
            JournalError: when the answer cannot be kept, or what was kept cannot be read.
        """
        asked: list[Call] = []
        journal = self._caller if isinstance(self._caller, JournaledCaller | WatchedCaller) else None
        try:
            columns = await self._usable(request, asked)
        except LLMAnswerError:
            if journal is not None:  # else every later try of the row would get these again
                await journal.discard(asked)
            raise
        answers = [answer for _, answer in asked]
        if journal is not None and len(asked) > 1 and not answers[-1].is_cached:
            # A repair is found by what it repairs. A row with the same prompt may have failed, and discarded that.
            await journal.keep(asked[:-1])
        return Asked(columns, answers)

    async def _usable(self, request: ChatRequest, asked: list[Call]) -> dict[str, Any]:
        while True:
            answer = await self._caller.complete(request)
            asked.append((request, answer))
            if answer.is_cached:  # what was paid for is reported where it is paid
                _report(request, answer)
            text = _text(request, answer)
            try:
                return self._answers.parse(text)
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


def _report(request: ChatRequest, answer: ChatAnswer) -> None:
    """Report that an answer came from the journal, under the provider and the model that answered."""
    if request.ctx is not None:
        request.ctx.report_usage({"provider": URL(answer.endpoint).host, "model": answer.model, "cached": 1})


def _text(request: ChatRequest, answer: ChatAnswer) -> str:
    """Return the text of an answer that is whole.

    Raises:
        LLMAnswerError: when it is not, or there is none.
    """
    problem = problem_of(answer, has_tools=request.has_tools)
    if problem:
        raise LLMAnswerError(
            f"the answer of {_where(request, answer)} {problem}", finish_reason=answer.finish_reason, answer=answer.text
        )
    assert answer.text is not None
    return answer.text


def _where(request: ChatRequest, answer: ChatAnswer) -> str:
    return f"{answer.model} at {answer.endpoint}, {request.row}"
