"""The operator that asks a language model about every row."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from llm_datagen.config import check_count, check_seconds, check_whole
from llm_datagen.errors import ConfigError
from llm_datagen.llm.callers import build_caller
from llm_datagen.llm.chat import ChatAnswer, ChatCaller, ChatRequest
from llm_datagen.llm.client import Endpoint, checked_key
from llm_datagen.llm.errors import LLMAnswerError, LLMError
from llm_datagen.llm.journal import JournaledCaller
from llm_datagen.llm.limiter import checked_limits
from llm_datagen.llm.prompts import Prompt, fields_of, row_label
from llm_datagen.llm.schemas import answer_format
from llm_datagen.operators import BaseOperator, INodeContext, Row

DEFAULT_BASE_URL = "https://api.openai.com/v1"
_RESERVED = ("model", "messages", "response_format", "stream", "n")


class LLMOperator(BaseOperator):
    """Asks a model about every row, and adds its answer to the row as columns.

    One call a row (or `n`), through any endpoint that speaks OpenAI's chat completions. All arguments are plain data,
    so that a pipeline can be written in YAML. An instance serves one node at a time.

    Args:
        prompt: a Jinja2 template; the fields of the row are its variables (a row that is not an object is
            ``data``). A name that the row lacks is an error.
        model: the model's name, as the endpoint knows it.
        base_url: where the endpoint is; else the environment variable ``OPENAI_BASE_URL``, else OpenAI.
        api_key: the key; else the environment variable ``OPENAI_API_KEY``, else none is sent. It is never logged.
        output: a column name for a text answer; or a JSON schema (dict), a pydantic model class, or
            ``"module:Name"`` of one of them, for an answer whose fields become columns. A field of the row that has
            the name of a column is replaced in the new row.
        system: a template of the system message.
        examples: solved rows that are shown to the model first: ``{"item": {…}, "answer": …}`` each, with a text
            or an object as `output` asks for.
        params: more fields of the request, such as ``{"temperature": 0, "max_tokens": 200}``.
        n: how many answers are wanted to every row. With more than one, each becomes a row of its own; when one of them
            fails, the row fails.
        timeout: seconds that one try of a call may take in all.
        max_retries: how often a call is made again that failed in passing: HTTP 408, 409, 425, 429 and 5xx, no
            connection, no answer in time, a body that is damaged. ``Retry-After`` is kept to.
        retry_wait: seconds that the first pause takes at most; it doubles with each one, up to 60 seconds.
        requests_per_minute: how many calls the endpoint allows within any minute; None: as many as are wanted.
            Nodes and pipelines of this process with the same endpoint, key and model share the limit.
        tokens_per_minute: how many tokens it allows, of prompts and answers together, in the same way.
        max_repairs: how often the model is asked again, with its answer and what is wrong with it, after an answer that
            does not fit `output`.
        cache: the path of a journal: a file that keeps every answer before the row goes on, so that an equal request
            is never paid for again, in this run or in another. Nodes and processes may share it.
        name: the operator's identity in the image.

    Raises:
        ConfigError: at construction, on a wrong argument.
    """

    def __init__(
        self,
        prompt: str,
        *,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        output: Any = "answer",
        system: str | None = None,
        examples: Sequence[Mapping[str, Any]] = (),
        params: Mapping[str, Any] | None = None,
        n: int = 1,
        timeout: float = 120.0,
        max_retries: int = 5,
        retry_wait: float = 1.0,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        max_repairs: int = 1,
        cache: str | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(model, str) or not model:
            raise ConfigError(f"model must be the name of a model, not {model!r}")
        self.model = model
        self.endpoint = Endpoint(base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_BASE_URL)
        self.timeout = check_seconds("timeout", timeout)
        self._n = check_count("n", n)
        self._max_retries = check_whole("max_retries", max_retries)
        self._retry_wait = check_seconds("retry_wait", retry_wait)
        self._limits = checked_limits(requests_per_minute, tokens_per_minute)
        self._max_repairs = check_whole("max_repairs", max_repairs)
        if cache is not None and (not isinstance(cache, str) or not cache):
            raise ConfigError(f"cache must be the path of a file, not {cache!r}")
        self.cache = cache
        if name:
            self.name = name
        self._api_key = checked_key(api_key)
        self._prompt = Prompt(prompt)
        self._system = None if system is None else Prompt(system, label="system message")
        self._format = answer_format(output)
        self._fields = {**_checked_params(params), **self._format.request_fields()}
        self._examples = [message for example in examples for message in self._example(example)]
        self._caller: ChatCaller | None = None
        self._journal: JournaledCaller | None = None

    def __repr__(self) -> str:
        columns = ", ".join(self._format.columns)
        return f"LLMOperator(model={self.model!r}, endpoint={self.endpoint.label!r}, columns={columns!r})"

    async def setup(self) -> None:
        """Open the caller. Called on the event loop of the node.

        Raises:
            LLMError: when another node is using this instance.
            JournalError: when the file of `cache` cannot be used.
        """
        if self._caller is not None:
            raise LLMError(f"{self!r} is in use by another node: give each node an instance of its own")
        key = self._api_key or checked_key(os.environ.get("OPENAI_API_KEY"))
        self._caller = build_caller(
            endpoint=self.endpoint,
            api_key=key,
            model=self.model,
            limits=self._limits,
            timeout=self.timeout,
            max_retries=self._max_retries,
            retry_wait=self._retry_wait,
        )
        if self.cache is not None:
            self._caller = self._journal = JournaledCaller(self._caller, self.cache)
        try:
            await self._caller.open()
        except BaseException:
            self._caller = self._journal = None
            raise

    async def teardown(self) -> None:
        """Close the caller and its connections."""
        caller, self._caller = self._caller, None
        self._journal = None
        if caller is not None:
            await caller.close()

    async def process_item(self, item: Any, ctx: INodeContext) -> Row | list[Row]:
        """Return the row with the answer's columns added; a list of such rows when `n` is more than 1.

        Raises:
            PromptError: when the prompt cannot be made of this row.
            LLMRequestError: when the endpoint did not answer.
            LLMAnswerError: when the answer cannot be used.
            JournalError: when the answer cannot be kept, or what was kept cannot be read.
        """
        if self._caller is None:
            raise LLMError(f"{self!r} was called before setup(): run it in a node")
        messages = self._messages(item)
        if self._n == 1:
            return await self._sample(self._caller, messages, item, 0, ctx)
        # All are waited for when one fails: what is in flight is paid for, and its usage counts.
        results = await asyncio.gather(
            *(self._sample(self._caller, messages, item, number, ctx) for number in range(self._n)),
            return_exceptions=True,
        )
        rows = [result for result in results if not isinstance(result, BaseException)]
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return rows

    async def _sample(
        self, caller: ChatCaller, messages: list[dict[str, str]], item: Any, number: int, ctx: INodeContext
    ) -> Row:
        asked: list[ChatRequest] = []
        try:
            return await self._answered(caller, messages, item, number, ctx, asked)
        except LLMAnswerError:
            if self._journal is not None:  # else every later try of the row would get these answers again
                for request in asked:
                    await self._journal.discard(request)
            raise

    async def _answered(
        self,
        caller: ChatCaller,
        messages: list[dict[str, str]],
        item: Any,
        number: int,
        ctx: INodeContext,
        asked: list[ChatRequest],
    ) -> Row:
        while True:
            request = ChatRequest(
                messages=messages,
                params=self._fields,
                model=self.model,
                sample=number,
                row=row_label(item),
                ctx=ctx,
            )
            answer = await caller.complete(request)
            asked.append(request)
            # Reported before the answer is looked at: what cannot be used was paid for as well.
            used = {"cached": 1} if answer.is_cached else {"requests": 1, **answer.usage}
            ctx.report_usage({"provider": self.endpoint.host, "model": self.model, **used})
            text = self._text(answer, item)
            try:
                return {**fields_of(item), **self._format.parse(text)}
            except ValueError as error:
                if len(asked) > self._max_repairs:
                    reason = answer.finish_reason
                    after = f" after {len(asked)} answers" if len(asked) > 1 else ""
                    raise LLMAnswerError(
                        f"the answer of {self._where(item)} cannot be used{after}: {error} (finish_reason {reason!r}); "
                        "change the prompt or the output",
                        finish_reason=reason,
                        answer=text,
                    ) from error
                messages = [*messages, *_repair(text, error)]

    def _messages(self, item: Any) -> list[dict[str, str]]:
        messages = [*self._examples, _message("user", self._prompt.render(item))]
        if self._system is not None:
            messages.insert(0, _message("system", self._system.render(item)))
        return messages

    def _text(self, answer: ChatAnswer, item: Any) -> str:
        reason, text, where = answer.finish_reason, answer.text, self._where(item)
        if reason == "length":
            problem = (
                f"the answer of {where} was cut off at the token limit: raise max_tokens in params, or ask for less"
            )
        elif reason == "content_filter":
            problem = f"the answer of {where} was withheld by the content filter: change or drop the row"
        elif text is None:
            problem = f"{where} sent no text (finish_reason {reason!r}): check params"
        else:
            return text
        raise LLMAnswerError(problem, finish_reason=reason, answer=text)

    def _where(self, item: Any) -> str:
        return f"{self.model} at {self.endpoint.label}, {row_label(item)}"

    def _example(self, example: Mapping[str, Any]) -> list[dict[str, str]]:
        if not isinstance(example, Mapping) or set(example) != {"item", "answer"}:
            raise ConfigError(f"an example must be a dict of 'item' and 'answer', not {example!r}")
        answer = example["answer"]
        text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        try:
            self._format.parse(text)
            return [_message("user", self._prompt.render(example["item"])), _message("assistant", text)]
        except (ValueError, LLMError) as error:
            raise ConfigError(f"the example {example!r} does not fit the operator: {error}") from error


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _repair(text: str, problem: ValueError) -> list[dict[str, str]]:
    """Return the messages that ask for a better answer than `text`."""
    ask = _message(
        "user", f"This answer cannot be used: {problem}. Answer again, with nothing but the corrected answer."
    )
    # Endpoints refuse a message without content.
    return [_message("assistant", text), ask] if text.strip() else [ask]


def _checked_params(params: Mapping[str, Any] | None) -> dict[str, Any]:
    if params is not None and not isinstance(params, Mapping):
        raise ConfigError(f"params must be a dict, not {params!r}")
    result = dict(params or {})
    for key in _RESERVED:
        if key in result:
            raise ConfigError(f"params may not hold {key!r}: the operator sets it")
    try:
        orjson.dumps(result)
    except orjson.JSONEncodeError as error:
        raise ConfigError(f"params must be JSON data: {error}") from error
    return result
