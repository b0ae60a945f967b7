"""The operator that asks a language model about every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.config import check_choice, check_flag, check_whole
from llm_datagen.config.constructor import refuses_unknown
from llm_datagen.llm.answers.ask import Answered, Asker
from llm_datagen.llm.answers.columns import ExtraColumns
from llm_datagen.llm.answers.formats import answer_format
from llm_datagen.llm.answers.provenance import provenance
from llm_datagen.llm.batch.options import Batch, checked_batch
from llm_datagen.llm.cache.scope import CacheBy
from llm_datagen.llm.cost.budget import Budget
from llm_datagen.llm.cost.prices import Prices
from llm_datagen.llm.endpoints import Endpoint, checked_params, prefix_for, refuse_with_engine, stream_of
from llm_datagen.llm.engines.options import Engine
from llm_datagen.llm.errors import LLMError
from llm_datagen.llm.fingerprint import identity_parts
from llm_datagen.llm.given_endpoints import endpoints_of
from llm_datagen.llm.http.body import MAX_RESPONSE_BYTES
from llm_datagen.llm.http.streaming.options import Stream
from llm_datagen.llm.http.structured import checked_mode
from llm_datagen.llm.http.structured_modes import Mode
from llm_datagen.llm.model_operator import ModelOperator
from llm_datagen.llm.pool.pool import Strategy
from llm_datagen.llm.prompts.images import checked_image_root
from llm_datagen.llm.prompts.messages import Conversation
from llm_datagen.llm.prompts.values import Null
from llm_datagen.llm.sampling.params import Params
from llm_datagen.llm.sampling.row_requests import RowRequests
from llm_datagen.llm.sampling.seeds import checked_seed
from llm_datagen.llm.stack import StackSettings
from llm_datagen.llm.tools.given import toolbox_of
from llm_datagen.llm.tools.options import Tools
from llm_datagen.llm.types import ChatRequest
from llm_datagen.operators import INodeContext, Row
from llm_datagen.operators.fingerprint import parts_of


@refuses_unknown
class LLMOperator(ModelOperator):
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
            ``"ollama"`` or ``"vllm"``; ``"litellm"`` for every other one; or a `ChatAdapter`: an instance, a class, or
            ``"module:Name"``.
        engine: runs the model on this machine, in processes of its own, in place of an endpoint: ``"llama"`` (a GGUF
            file), ``"transformers"`` or ``"vllm"``; or an `Engine`, or a dict with its attributes. `model` is the path
            of the model then.
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
            calls, as the endpoint sent them) and ``"logprobs"``; None in a row whose answer has none. And
            ``"messages"``: the whole conversation, with the answer, calls of `tools` and their results; of images
            that are sent as data, only type and checksum.
        system: a template of the system message.
        examples: solved rows that are shown to the model first: ``{"item": {…}, "answer": …}`` each, with a text
            or an object as `output` asks for.
        images: templates of images that go with a `prompt` of one template: every line that comes out is an http(s)
            URL, a data URL, or the path of a PNG, JPEG, GIF or WebP file in `image_root`, which is read and sent.
        image_root: the folder that files of images must lie in; relative paths begin there. ``"/"`` allows every file.
            None: rows may name no files.
        null: what a template writes for a null of the row: nothing (``"empty"``), or the row fails (``"error"``).
        tools: what the model may use before it answers: functions, ``"module:name"`` of functions, `Tool`, or the
            tools of an `McpServer`; or `Tools`, for bounds of rounds, seconds and dollars. The operator calls them,
            and asks again with the results. A row whose process dies is done again, and so are its calls of tools.
        params: more fields of the request, such as ``{"temperature": 0, "max_tokens": 200}``. A text that is a template
            is made of each row: ``{"temperature": "{{ t }}"}``, where a number stays a number.
        seed: of the answers, where the API takes one: every sample of every row gets its own, by the row's id, so that
            a resume asks the same.
        prompt_cache: whether the endpoint is told which beginning of the prompts all rows have in common (the system
            message, the examples, the text before the first variable), so that it takes it from its cache.
        n: how many answers are wanted per row. With more than one, each becomes a row of its own; when one of them
            fails, the row fails.
        timeout: seconds that one try of a call may take in all.
        max_response_bytes: the longest body of an answer, unpacked; a longer one is not read to its end, and fails.
        stream: whether answers are streamed, for endpoints that know nothing else, or cut long calls; a `Stream`, or
            ``{"first_token_timeout": 60, "token_timeout": 30}``, says how long one may be silent. Only a whole answer
            counts.
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
        batch_api: whether rows are sent as jobs of the provider's batch API, for half the price and within a day: a
            flag, a `Batch`, or a dict with the names of its attributes.
        name: the operator's identity in the run state.

    Raises:
        ConfigError: at construction, on a wrong argument.
        PromptError, LLMRequestError, LLMAnswerError, ToolError: by a call; the row fails, and the node's `on_error`
            decides.
        OutageError, EndpointRefusedError, CacheError, BudgetError, BatchError, McpServerError, ToolsStuckError: by a
            call or `setup`; the run fails.
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
        engine: Engine | Mapping[str, Any] | str | None = None,
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
        tools: Sequence[Any] | Tools | Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        seed: int | None = None,
        prompt_cache: bool = False,
        n: int = 1,
        timeout: float = 120.0,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        stream: bool | Stream | Mapping[str, Any] = False,
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
        batch_api: bool | Batch | Mapping[str, Any] = False,
        name: str | None = None,
    ) -> None:
        found = endpoints_of(
            endpoints,
            model=model,
            base_url=base_url,
            api_key=api_key,
            api_key_env=api_key_env,
            adapter=adapter,
            engine=engine,
            prices=prices,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
        adapters = [each.address.adapter for each in found]
        refuse_with_engine(found, stream=stream, prompt_cache=prompt_cache, batch_api=batch_api)
        self._max_repairs = check_whole("max_repairs", max_repairs)
        self.cache = cache
        self._format = answer_format(output, lenient=check_flag("lenient", lenient))
        self._extras = ExtraColumns(extra_columns, self._format.columns)
        null = check_choice("null", null, Null)
        self._conversation = Conversation(
            prompt,
            system=system,
            examples=examples,
            images=images,
            null=null,
            image_root=checked_image_root(image_root),
            answers=self._format,
        )
        fields = {**checked_params(params), **self._format.request_fields()}
        self._toolbox = toolbox_of(tools, fields, found, self._extras, has_jobs=bool(batch_api))
        if self._toolbox is not None:
            fields["tools"] = self._toolbox.specs()
        made = Params(fields, null=null, needs_limit=budget is not None)
        self._fields = made.fixed
        settings = StackSettings.checked(
            strategy=strategy,
            max_retries=max_retries,
            retry_wait=retry_wait,
            outage_after=outage_after,
            timeout=timeout,
            max_response_bytes=max_response_bytes,
            cache=cache,
            stream=stream_of(found, stream),
            batch_api=checked_batch(batch_api, adapters),
            structured=checked_mode(
                structured,
                adapters,
                has_schema="response_format" in self._fields,
                has_tools="tools" in self._fields,
            ),
        )
        super().__init__(
            found,
            settings,
            columns=(*self._format.columns, *self._extras.columns),
            params={**self._fields, **dict.fromkeys(made.names, 1)},
            overwrite_columns=overwrite_columns,
            budget=budget,
            meta=meta,
            keep_calls=keep_calls,
            name=name,
        )
        self._requests = RowRequests(
            self._conversation,
            made,
            model=self.model,
            prefix=prefix_for(found, prompt_cache, self._conversation.prefix),
            n=n,
            seed=checked_seed(seed, adapters, [fields, *(each.params for each in found)]),
            cache_by=cache_by,
        )
        self._asker: Asker | None = None
        texts = {"prompt": prompt, "system": system, "examples": examples, "images": images}
        drawn = {"params": params, "seed": seed, "n": n}
        self._identity = identity_parts(
            {**texts, **drawn, "meta": meta, "null": null, "extra_columns": extra_columns},
            self.endpoints,
            output,
            init=LLMOperator.__init__,
            templates=set(made.names),
        )
        if self._toolbox is not None:
            self._identity |= self._toolbox.parts()
        self._own = frozenset(vars(self)) | {"_own"}

    def fingerprint(self) -> Mapping[str, str | None]:
        """Return what the answers depend on, and the code and attributes of a subclass.

        Where an endpoint is, keys, limits, times, retries, prices, budgets and caches do not count: a model may move to
        another host within a run.
        """
        return {**self._identity, **self._conversation.files(), **parts_of(self, above=LLMOperator, without=self._own)}

    async def setup(self) -> None:
        """Open the layers of a call. Called on the event loop of the node.

        Raises:
            LLMError: when another node is using this instance.
            ConfigError: when the environment variable of `api_key_env` is not set.
            CacheError: when the file of `cache` cannot be used.
            McpServerError: when an MCP server cannot be used.
        """
        await super().setup()
        if self._toolbox is not None:
            try:
                await self._toolbox.open()
                self._fields["tools"] = self._toolbox.specs()
            except BaseException:
                await self.teardown()
                raise
        self._asker = Asker(
            self._opened(),
            self._format,
            max_repairs=self._max_repairs,
            extras=self._extras,
            cache=self._cache,
            jobs=self._jobs,
            call_log=self._call_log,
            together=None if self._requests.has_seeds else self._together,  # one request has one seed
            begin_rounds=None if self._toolbox is None else self._toolbox.begin,
        )

    async def teardown(self) -> None:
        """Close the layers of a call, with their connections and files."""
        self._asker = None
        try:
            if self._toolbox is not None:
                await self._toolbox.close()
        finally:
            await super().teardown()

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
            ToolError: when a tool failed, or the row may use no more of them.
            BatchError: when the jobs of a batch API cannot go on.
            CacheError: when the answer cannot be stored, or a stored one cannot be read.
            StopRun: when the budget has no room for the call.
            BudgetError: when what is spent cannot be written down.
        """
        if self._asker is None:
            raise LLMError(f"{self!r} was called before setup(): run it in a node")
        row = self._new_row(item, ctx)
        asker, requests = self._asker, await self._requests.of(item, ctx)
        rows = []
        for request, answered in zip(requests, await asker.ask_samples(requests), strict=True):
            meta = self._meta(request, answered) if self._has_meta else None
            extras = self._extras.of(answered.answers[-1], answered.messages)
            # The columns of an answer may be more than the schema names.
            rows += [row.filled({**answer, **extras}, meta) for answer in answered.parsed.rows]
        return rows if self._requests.n > 1 or self._format.is_list else rows[0]

    def _meta(self, request: ChatRequest, answered: Answered) -> dict[str, Any]:
        tool_calls = None if self._toolbox is None else answered.tool_calls
        return provenance(request, answered.answers, answered.parsed, tool_calls=tool_calls)
