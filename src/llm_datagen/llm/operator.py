"""The operator that asks a language model about every row."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_datagen.config import check_choice, check_count, check_flag, check_local_path, check_seconds, check_whole
from llm_datagen.config.constructor import refuses_unknown
from llm_datagen.llm.answers.ask import Asker
from llm_datagen.llm.answers.call_log import CallLog, checked_keep_calls
from llm_datagen.llm.answers.columns import ExtraColumns, check_free, with_columns
from llm_datagen.llm.answers.formats import answer_format
from llm_datagen.llm.answers.provenance import META_FIELD, earlier_meta, provenance
from llm_datagen.llm.cache.cassette import CASSETTE_VARIABLE
from llm_datagen.llm.cache.scope import CacheBy, row_key
from llm_datagen.llm.cost.budget import Budget
from llm_datagen.llm.cost.prices import Prices
from llm_datagen.llm.endpoints import Endpoint, budget_of, checked_params, endpoints_of, identity_of, limits_of
from llm_datagen.llm.errors import LLMError
from llm_datagen.llm.fingerprint import identity_parts
from llm_datagen.llm.http.body import MAX_RESPONSE_BYTES
from llm_datagen.llm.http.structured import checked_mode
from llm_datagen.llm.http.structured_modes import Mode
from llm_datagen.llm.pool.pool import Strategy, check_outage_after
from llm_datagen.llm.prompts.images import checked_image_root
from llm_datagen.llm.prompts.messages import Conversation
from llm_datagen.llm.prompts.template import fields_of, row_label
from llm_datagen.llm.prompts.values import Null
from llm_datagen.llm.stack import StackSettings, build_stack
from llm_datagen.llm.transport import Transport
from llm_datagen.llm.types import ChatRequest
from llm_datagen.operators import BaseOperator, INodeContext, Row
from llm_datagen.operators.fingerprint import parts_of


@refuses_unknown
class LLMOperator(BaseOperator):
    """Asks a model about every row, and adds its answer to the row as columns.

    One call per row (or `n`), through any endpoint that speaks OpenAI's chat completions, or another API by an adapter.
    All arguments are plain data, so that a pipeline can be written in YAML. An instance serves one node at a time.

    Args:
        prompt: a Jinja2 template; the fields of the row are its variables (a row that is not an object is
            ``data``). A name that the row lacks is an error. Or a list of messages: ``{"role": …, "content":
            template}``, perhaps with ``"images": [templates]``; ``{"placeholder": field}`` stands for the messages
            that the row holds in a field.
        model: the model's name, as the endpoint knows it.
        base_url: where the endpoint is; else the environment variable ``OPENAI_BASE_URL``, else OpenAI (or those
            of the adapter).
        api_key: the key; else the environment variable ``OPENAI_API_KEY`` (or the adapter's), else none is sent. It
            is never logged.
        api_key_env: another environment variable that holds the key.
        adapter: the API that the endpoint speaks: ``"openai"`` (chat completions), ``"openai-responses"``,
            ``"azure"``, ``"azure-deployments"``, ``"anthropic"``, ``"gemini"``, ``"bedrock"``, ``"mistral"``,
            ``"ollama"`` or ``"vllm"``; or a `ChatAdapter`: an instance, a class, or ``"module:Name"``.
        endpoints: a pool in place of `model`, `base_url` and the key: an `Endpoint` each, or a dict such as
            ``{"model": "m", "base_url": "https://…/v1", "api_key_env": "KEY_2", "weight": 3}``. After a
            transient error, a try goes to another endpoint at once.
        strategy: how the pool chooses: ``weighted``, each gets its share of the calls; ``ordered``, the first one that
            answers.
        outage_after: seconds that no endpoint may answer before the run fails; 0: it fails at once. Until then calls
            wait, and no row fails by it.
        output: a column name for a text answer; or a JSON schema (dict), a pydantic model class, or
            ``"module:Name"`` of one of them, for an answer whose fields become columns. A list of objects, such as
            ``list[Model]``, becomes a row of each.
        extra_columns: columns of what comes besides the text: ``{"reasoning": column}`` (a text, also from a
            think block, which is removed from the answer then), ``"tool_calls"`` (the
            calls, as the endpoint sent them) and ``"logprobs"``; None in a row whose answer has none.
        system: a template of the system message.
        examples: solved rows that are shown to the model first: ``{"item": {…}, "answer": …}`` each, with a text
            or an object as `output` asks for.
        images: templates of images that go with a `prompt` of one template: every line that comes out is an http(s)
            URL, a data URL, or the path of a PNG, JPEG, GIF or WebP file in `image_root`, which is read and sent.
        image_root: the folder that files of images must lie in; relative paths begin there. ``"/"`` allows every file.
            None: rows may name no files.
        null: what a template writes for a null of the row: nothing (``"empty"``), or the row fails (``"error"``).
        params: more fields of the request, such as ``{"temperature": 0, "max_tokens": 200}``.
        n: how many answers are wanted per row. With more than one, each becomes a row of its own; when one of them
            fails, the row fails.
        timeout: seconds that one try of a call may take in all.
        max_response_bytes: the longest body of an answer, unpacked; a longer one is not read to its end, and fails.
        max_retries: how often a call is repeated after a transient error: HTTP 408, 409, 425, 429 and 5xx, no
            connection, no answer in time, a damaged body. ``Retry-After`` is respected.
        retry_wait: seconds that the first pause takes at most; it doubles with each one, up to 60 seconds.
        requests_per_minute: how many calls the endpoint allows within any minute; None: as many as are wanted.
            Nodes and pipelines of this process with the same endpoint, key and model share the limit.
        tokens_per_minute: how many tokens it allows, of prompts and answers together, in the same way.
        structured: how JSON is asked for: ``"json_schema"``, ``"json_object"``, ``"tool"`` or ``"prompt"``; None: by
            the first of these that the endpoint does not refuse by name.
        lenient: whether JSON is read out of what a model puts around it, such as prose and fences. Nothing is guessed.
        max_repairs: how often the model is asked again, with its answer and what is wrong with it, after an answer that
            does not fit `output`.
        cache: the path of a file that stores every answer before the row goes on, so that an equal request is never
            paid for again, in this run or in another. Nodes and processes may share it.
        cache_by: what an answer is cached by: ``"request"``: rows with equal prompts share one; ``"row"``: each row, by
            its id and fields, has its own, as generation wants it.
        overwrite_columns: whether an answer may overwrite a column of the row; else such a row is refused.
        prices: US dollars per million tokens, as `Prices` or ``{"input": 0.15, "output": 0.6}``; else what
            genai-prices knows of the model at its endpoint. Where neither says, the cost is unknown.
        budget: what the run may spend in all: a `Budget`, or ``{"usd": 5.0, "tokens": 2_000_000}``. At the cap the run
            ends in good order; resumed with a higher one, it goes on. Needs ``max_tokens`` in `params`. All operators
            of a run that have a budget count together.
        meta: whether the row gets a column ``_meta`` that says where its answer comes from, by the node's id: model,
            endpoint, tokens, cost, seconds, attempts, a hash of the prompt.
        keep_calls: whether prompts and answers are kept in the folder of the run, packed, so that the page of a run and
            ``llm-datagen trace --calls`` show them: True: up to 1,024 MB of each node; a number: up to so many MB.
            What is beyond that, the oldest, is removed. Of images that are sent as data, only type and checksum.
        name: the operator's identity in the run state.

    Raises:
        ConfigError: at construction, on a wrong argument.
        PromptError, LLMRequestError, LLMAnswerError: by a call; the row fails, and the node's `on_error` decides.
        OutageError, EndpointRefusedError, CacheError, BudgetError: by a call or `setup`; the run fails.
    """

    def __init__(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        model: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        api_key_env: str | None = None,
        adapter: Any = "openai",
        endpoints: Sequence[Endpoint | Mapping[str, Any]] | None = None,
        strategy: Strategy = "weighted",
        outage_after: float = 600.0,
        output: Any = "answer",
        extra_columns: Mapping[str, str] | None = None,
        system: str | None = None,
        examples: Sequence[Mapping[str, Any]] = (),
        images: Sequence[str] = (),
        image_root: str | None = None,
        null: Null = "empty",
        params: Mapping[str, Any] | None = None,
        n: int = 1,
        timeout: float = 120.0,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        max_retries: int = 5,
        retry_wait: float = 0.5,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        structured: Mode | None = None,
        lenient: bool = True,
        max_repairs: int = 1,
        cache: str | None = None,
        cache_by: CacheBy = "request",
        overwrite_columns: bool = False,
        prices: Prices | Mapping[str, float] | None = None,
        budget: Budget | Mapping[str, float] | None = None,
        meta: bool = False,
        keep_calls: bool | int = True,
        name: str | None = None,
    ) -> None:
        self.endpoints = endpoints_of(
            endpoints,
            model=model,
            base_url=base_url,
            api_key=api_key,
            api_key_env=api_key_env,
            adapter=adapter,
            prices=prices,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
        self.model = identity_of(self.endpoints)
        self.limits = limits_of(self.endpoints)
        self._n = check_count("n", n)
        self._max_repairs = check_whole("max_repairs", max_repairs)
        self.cache = cache
        self._cache_by: CacheBy = check_choice("cache_by", cache_by, CacheBy)
        self._overwrites = check_flag("overwrite_columns", overwrite_columns)
        self._has_meta = check_flag("meta", meta)
        if name:
            self.name = name
        self._format = answer_format(output, lenient=check_flag("lenient", lenient))
        self._extras = ExtraColumns(extra_columns, self._format.columns)
        self._conversation = Conversation(
            prompt,
            system=system,
            examples=examples,
            images=images,
            null=check_choice("null", null, Null),
            image_root=checked_image_root(image_root),
            answers=self._format,
        )
        self._fields = {**checked_params(params), **self._format.request_fields()}
        self._settings = StackSettings(
            strategy=check_choice("strategy", strategy, Strategy),
            max_retries=check_whole("max_retries", max_retries),
            retry_wait=check_seconds("retry_wait", retry_wait),
            outage_after=check_outage_after(outage_after),
            timeout=check_seconds("timeout", timeout),
            max_response_bytes=check_count("max_response_bytes", max_response_bytes),
            cache=None if cache is None else Path(check_local_path("cache", cache)).absolute(),
            structured=checked_mode(
                structured,
                [each.address.adapter for each in self.endpoints],
                has_schema="response_format" in self._fields,
                has_tools="tools" in self._fields,
            ),
        )
        self.budget = budget_of(self.endpoints, budget, self._fields)
        self._call_log = CallLog(checked_keep_calls(keep_calls))
        self._transport: Transport | None = None
        self._asker: Asker | None = None
        texts = {"prompt": prompt, "system": system, "examples": examples, "images": images}
        self._identity = identity_parts(
            {**texts, "params": params, "n": n, "meta": meta, "null": null, "extra_columns": extra_columns},
            self.endpoints,
            output,
            init=LLMOperator.__init__,
        )
        self._own = frozenset(vars(self)) | {"_own"}

    def __repr__(self) -> str:
        columns = ", ".join(self._format.columns)
        labels = ", ".join(each.address.label for each in self.endpoints)
        return f"LLMOperator(model={self.model!r}, endpoint={labels!r}, columns={columns!r})"

    def fingerprint(self) -> Mapping[str, str | None]:
        """Return what the answers depend on, and the code and attributes of a subclass.

        Where an endpoint is, keys, limits, times, retries, prices, budgets and caches do not count: a model may move to
        another host within a run.
        """
        return {**self._identity, **self._conversation.files(), **parts_of(self, above=LLMOperator, without=self._own)}

    def kept_files(self) -> dict[str, str]:
        """Return the file of the cache, and the cassette that the environment names, if it does."""
        files = {"cache": self._settings.cache, "cassette": os.environ.get(CASSETTE_VARIABLE)}
        return {what: str(path) for what, path in files.items() if path}

    async def setup(self) -> None:
        """Open the layers of a call. Called on the event loop of the node.

        Raises:
            LLMError: when another node is using this instance.
            ConfigError: when the environment variable of `api_key_env` is not set.
            CacheError: when the file of `cache` cannot be used.
        """
        if self._transport is not None:
            raise LLMError(f"{self!r} is in use by another node: give each node an instance of its own")
        transport, cache = build_stack(self.endpoints, self._settings, self.budget)
        self._transport = transport
        try:
            await transport.open()
        except BaseException:
            self._transport = None
            raise
        self._asker = Asker(
            transport,
            self._format,
            max_repairs=self._max_repairs,
            extras=self._extras,
            cache=cache,
            call_log=self._call_log,
        )

    async def teardown(self) -> None:
        """Close the layers of a call, with their connections and files."""
        transport, self._transport = self._transport, None
        self._asker = None
        await self._call_log.close()
        if transport is not None:
            await transport.close()

    async def process_item(self, item: Any, ctx: INodeContext) -> Row | list[Row]:
        """Return the row with the answer's columns added.

        Returns:
            The row; a list of rows when `n` is more than 1, or an answer is a list.

        Raises:
            PromptError: when the prompt cannot be made of this row.
            ColumnExistsError: when the row has a column of the answer already.
            LLMRequestError: when the endpoint did not answer.
            OutageError: when no endpoint answered anybody for `outage_after`; the run fails.
            EndpointRefusedError: when the endpoints refuse every call; the run fails.
            LLMAnswerError: when the answer cannot be used.
            CacheError: when the answer cannot be stored, or a stored one cannot be read.
            StopRun: when the budget has no room for the call.
            BudgetError: when what is spent cannot be written down.
        """
        if self._asker is None:
            raise LLMError(f"{self!r} was called before setup(): run it in a node")
        fields = fields_of(item)
        if not self._overwrites:
            check_free((*self._format.columns, *self._extras.columns), fields)
        meta = earlier_meta(item) if self._has_meta else {}
        asker, request = self._asker, await self._request(item, ctx)
        rows = []
        for answered in await asker.ask_samples(request, self._n):
            own = provenance(request, answered.answers, answered.parsed) if self._has_meta else None
            for answer in answered.parsed.rows:
                columns = {**answer, **self._extras.of(answered.answers[-1])}  # also what the schema does not name
                row = with_columns(fields, columns, overwrites=self._overwrites)
                if own is not None:
                    row[META_FIELD] = {**meta, ctx.node_id: own}
                rows.append(row)
        return rows if self._n > 1 or self._format.is_list else rows[0]

    async def _request(self, item: Any, ctx: INodeContext | None) -> ChatRequest:
        return ChatRequest(
            messages=await self._conversation.messages(item),
            params=self._fields,
            model=self.model,
            cache_scope=row_key(fields_of(item)) if self._cache_by == "row" else "",
            row=row_label(item),
            ctx=ctx,
        )
