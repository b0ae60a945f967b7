"""The rounds of a row: the calls of an answer are executed, and the model is asked again with what they returned.

A call whose arguments do not fit, and one of a tool that there is not, is answered with what is wrong. So is one that
fails, unless the row is to fail then. What ends the run, or leaves out the row, is passed on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from llm_datagen.errors import FatalError, StopRun
from llm_datagen.llm.errors import LLMAnswerError, LLMCancelledError, ToolError, ToolLimitError
from llm_datagen.llm.finish_reasons import Ending
from llm_datagen.llm.run_commands import run_command
from llm_datagen.llm.tool_calls import arguments_of, assistant_message, calls_tools
from llm_datagen.llm.tools.function import ArgumentsError
from llm_datagen.llm.tools.options import Tools
from llm_datagen.llm.tools.results import ResultError, result_text
from llm_datagen.llm.tools.threads import TookTooLongError
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.llm.waits import Waits
from llm_datagen.operators import INodeContext
from llm_datagen.streams.formats.json_text import without_lone_surrogates
from llm_datagen.streams.rows import Rejected

_PASSED_ON = (FatalError, StopRun, Rejected, LLMCancelledError)
_SHOWN_CHARS = 2000
"""Characters of an error that the model is told, at most."""


class CallableTool(Protocol):
    """A tool, however it is called."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def timeout(self) -> float | None:
        """Seconds that a call may take; None: as for all."""

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what it is called with.

        Raises:
            ArgumentsError: when it does not fit.
        """

    async def call(
        self, arguments: dict[str, Any], ctx: INodeContext | None, seconds: float, begun: Callable[[], None]
    ) -> Any:
        """Return its result.

        Args:
            arguments: of `arguments`.
            ctx: the context of the node.
            seconds: how long it may take.
            begun: called when it begins, if it has to wait before.

        Raises:
            TookTooLongError: when it takes longer.
        """


class FailureLog:
    """Says once of each tool, and each kind of error, that it failed, where only the model is told."""

    def __init__(self) -> None:
        self._said: set[tuple[str, type[BaseException]]] = set()

    def note(self, name: str, error: BaseException, request: ChatRequest) -> None:
        """Note that a tool failed; the words of its error may hold data of the row, and are not logged."""
        kind = type(error)
        if request.ctx is None or (name, kind) in self._said:
            return
        self._said.add((name, kind))
        what = "took too long" if isinstance(error, TookTooLongError) else f"failed with {kind.__name__}"
        row_id = request.row.removeprefix("row ") if request.row.startswith("row ") else "ROW"
        trace = run_command("trace", request.ctx, arguments=[row_id], options=["--calls"])
        request.ctx.log(
            f"{request.row}: the tool {name} {what}; the model is told, and the row goes on, as on_tool_error='tell' "
            f"says. {trace} shows the error; said once",
            level="warning",
        )


class RowRounds:
    """The rounds of one row.

    Args:
        tools: the tools, by their names.
        limits: how far the row may go.
        waits: wait while the run is paused.
        failures: says that a tool failed.
        times_answers: whether the seconds of answers count.

    Attributes:
        calls: calls that were executed.
    """

    def __init__(
        self,
        tools: Mapping[str, CallableTool],
        limits: Tools,
        waits: Waits,
        failures: FailureLog,
        *,
        times_answers: bool,
    ) -> None:
        self._tools = tools
        self._waits = waits
        self._failures = failures
        self._times_answers = times_answers
        self._limits = limits
        self._rounds = 0
        self._seconds = 0.0
        self._usd = 0.0
        self.calls = 0

    async def next(self, request: ChatRequest, answer: ChatAnswer) -> ChatRequest | None:
        """Execute the calls of an answer, and return the request that follows; None when it calls no tool.

        Raises:
            ToolLimitError: when the row has gone as far as it may.
            ToolError: when a tool failed, and the row is to fail then.
            LLMAnswerError: when the answer does not say what it calls.
            LLMCancelledError: when the run was paused, and is cancelled.
            FatalError, StopRun, Rejected: when a tool raises it.
        """
        if self._times_answers:
            self._seconds += answer.seconds
        self._usd += (answer.saved if answer.is_cached else answer.cost) or 0.0
        if not calls_tools(answer):
            if answer.ends is Ending.TOOL and "refusal" not in answer.extras:
                raise LLMAnswerError(
                    f"the answer of {answer.model} at {answer.endpoint}, {request.row}, ended by calling a tool, and "
                    "has no call",
                    finish_reason=answer.finish_reason,
                    answer=answer.text,
                )
            return None
        message = assistant_message(answer, answer.text or None, before=self.calls)
        self._check_limits(request)
        await self._waits.while_paused(request)
        self._rounds += 1
        self.calls += len(message["tool_calls"])
        results, seconds = await self._results(message["tool_calls"], request)
        self._seconds += seconds
        params = {name: value for name, value in request.params.items() if name != "tool_choice"}
        return replace(request, params=params, messages=[*request.messages, message, *results])

    def _check_limits(self, request: ChatRequest) -> None:
        limits = self._limits
        if self._rounds >= limits.max_rounds:
            raise self._given_up(
                request, f"the model called tools in {self._rounds} rounds, and calls them again", "max_rounds"
            )
        if self._seconds >= limits.max_seconds:
            raise self._too_late(request)
        if limits.max_usd is not None and self._usd >= limits.max_usd:
            raise self._given_up(request, f"its answers cost {self._usd:.6g} US dollars", "max_usd")

    def _given_up(self, request: ChatRequest, why: str, bound: str) -> ToolLimitError:
        limit = getattr(self._limits, bound)
        return ToolLimitError(
            f"{request.row} is given up after {self.calls} calls of tools: {why} ({bound}={limit:g}); raise {bound} in "
            "tools, or change the prompt"
        )

    def _too_late(self, request: ChatRequest) -> ToolLimitError:
        return self._given_up(request, "its answers and tools took as long as they may", "max_seconds")

    async def _results(
        self, calls: Sequence[Mapping[str, Any]], request: ChatRequest
    ) -> tuple[list[dict[str, Any]], float]:
        """Return the messages of the results, in the order of the calls, and the seconds that all took together."""
        if self._limits.parallel:
            # All are waited for, also when one ends the run: what a tool does should not be left half done.
            ended = await asyncio.gather(*(self._result(call, request) for call in calls), return_exceptions=True)
            errors = [each for each in ended if isinstance(each, BaseException)]
            if errors:
                raise next((error for error in errors if isinstance(error, _PASSED_ON)), errors[0])
            results = [each for each in ended if not isinstance(each, BaseException)]
            seconds = max((each.seconds for each in results), default=0.0)
        else:
            results = [await self._result(call, request) for call in calls]
            seconds = sum(each.seconds for each in results)
        messages = [
            {"role": "tool", "tool_call_id": call["id"], "content": each.text}
            for call, each in zip(calls, results, strict=True)
        ]
        return messages, seconds

    async def _result(self, call: Mapping[str, Any], request: ChatRequest) -> _Result:
        name, given = call["function"]["name"], arguments_of(call)
        tool = self._tools.get(name)
        if tool is None:
            return _Result(_told(f"there is no tool {name!r}; there are: {', '.join(self._tools)}"))
        if given is None:
            return _Result(_told("the arguments are no JSON object, or are nested too deeply"))
        try:
            arguments = tool.arguments(given)
        except ArgumentsError as error:
            return _Result(_told(f"the arguments do not fit: {error}"))
        watch = _Watch()
        text = await self._executed(tool, arguments, request, watch.begin)
        return _Result(text, watch.seconds())

    async def _executed(
        self, tool: CallableTool, arguments: dict[str, Any], request: ChatRequest, begun: Callable[[], None]
    ) -> str:
        """Return what a tool returns, as text, or what the model is told of its error."""
        name = tool.name
        left = self._limits.max_seconds - self._seconds
        seconds = min(tool.timeout or self._limits.timeout, left)
        try:
            result = await tool.call(arguments, request.ctx, seconds, begun)
            return result_text(result, self._limits.max_result_bytes)
        except _PASSED_ON:
            raise
        except TookTooLongError as error:
            if seconds == left:
                raise self._too_late(request) from None
            return self._failed(name, f"it took longer than {seconds:g} seconds", error, request)
        except ResultError as error:
            return self._failed(name, str(error), error, request)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return self._failed(name, "it was cancelled", error, request)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a tool is foreign code
            return self._failed(name, without_lone_surrogates(_words(error)), error, request)

    def _failed(self, name: str, why: str, error: BaseException, request: ChatRequest) -> str:
        """Return what the model is told."""
        if self._limits.on_tool_error == "fail":
            raise ToolError(f"{request.row}: the tool {name} failed: {why}") from error
        self._failures.note(name, error, request)
        return _told(why)


class _Result(NamedTuple):
    """What the model is told of a call, and how many seconds its tool took."""

    text: str
    seconds: float = 0.0


class _Watch:
    """How long a call takes, from when it begins."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._at = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._at


def _words(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception of foreign code may not even have a text
        text = "an error without a text"
    return f"{type(error).__name__}: {text}"


def _told(why: str) -> str:
    why = without_lone_surrogates(why)
    return f"Error: {why if len(why) <= _SHOWN_CHARS else why[:_SHOWN_CHARS] + '…'}"
