"""The operator that gives every row the vector of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from llm_datagen.config import check_choice, check_count, check_flag, check_seconds
from llm_datagen.config.constructor import refuses_unknown
from llm_datagen.errors import ConfigError
from llm_datagen.llm.answers.columns import checked_columns
from llm_datagen.llm.answers.provenance import provenance
from llm_datagen.llm.cost.budget import Budget
from llm_datagen.llm.cost.prices import InputPrices
from llm_datagen.llm.embeddings.adapters import BUILT_IN, EmbeddingAdapter
from llm_datagen.llm.embeddings.batching import Batching
from llm_datagen.llm.embeddings.length import SameLength
from llm_datagen.llm.embeddings.vectors import normalized
from llm_datagen.llm.endpoints import Endpoint, checked_params
from llm_datagen.llm.errors import PromptError
from llm_datagen.llm.fingerprint import identity_parts
from llm_datagen.llm.given_endpoints import endpoints_of
from llm_datagen.llm.http.body import MAX_RESPONSE_BYTES
from llm_datagen.llm.model_operator import ModelOperator
from llm_datagen.llm.pool.pool import Strategy
from llm_datagen.llm.prompts.template import Prompt, row_label
from llm_datagen.llm.prompts.values import Null
from llm_datagen.llm.stack import StackSettings
from llm_datagen.llm.types import ChatRequest, Parsed
from llm_datagen.operators import INodeContext, Row
from llm_datagen.operators.fingerprint import parts_of

TooLong = Literal["refuse", "cut"]
"""What becomes of a text that is too long: its row fails, or what is too much is cut off."""


@refuses_unknown
class Embed(ModelOperator):
    """Asks a model for the vector (embedding) of a text of every row, and adds it to the row as a list of numbers.

    Rows that are in flight at the same time share a request. Yet each is a row of its own: it has its own answer in the
    cache, and when a request is refused for one text, it is made again without that one, whose row fails alone.
    All arguments are plain data. An instance serves one node at a time.

    Args:
        text: a Jinja2 template of the text; the fields of the row are its variables, as in `LLMOperator`.
        model: the model's name, as the endpoint knows it.
        base_url: where the endpoint is; None: as in `LLMOperator`. Also for the next four.
        api_key: the key. It is never logged.
        api_key_env: another environment variable that holds the key.
        adapter: the API that the endpoint speaks: ``"openai"`` (``/embeddings``, as most providers and servers have
            it), ``"azure"``, ``"azure-deployments"``, ``"mistral"``, ``"vllm"``, ``"ollama"``, ``"gemini"`` or
            ``"cohere"``; or an `EmbeddingAdapter`: an instance, a class, or ``"module:Name"``.
        endpoints: a pool of endpoints with the same model.
        strategy: how the pool chooses: ``weighted`` or ``ordered``.
        outage_after: seconds that no endpoint may answer before the run fails.
        output: the new column.
        dimensions: how many numbers a vector is to have. It is sent to the endpoint; one that sends another number ends
            the run. None: as many as the model has.
        normalize: whether vectors are scaled to the length 1.
        max_chars: the most characters of a text; None: the endpoint decides, which refuses a text that is too long.
        too_long: what becomes of a text with more: ``"refuse"``: the row fails; ``"cut"``: the rest is left out.
        texts_per_request: the most texts of a request.
        max_wait: seconds that a text waits for others, if there are fewer.
        null: what a template writes for a null of the row: nothing (``"empty"``), or the row fails (``"error"``).
        params: more fields of the request, such as ``{"encoding_format": "base64"}``, which makes answers shorter, or
            ``{"input_type": "search_document"}``.
        timeout: seconds that one try of a request may take in all.
        max_response_bytes: the longest body of an answer, unpacked.
        max_retries: how often a request is repeated after a transient error.
        retry_wait: seconds that the first pause takes at most; it doubles with each one, up to 60 seconds.
        requests_per_minute: how many requests the endpoint allows within any minute.
        tokens_per_minute: how many tokens it allows, in the same way.
        cache: the path of a file that stores every vector, so that an equal text is never paid for again. It may be
            that of other operators.
        overwrite_columns: whether the vector may overwrite a column of the row; else such a row is refused.
        prices: US dollars per million tokens, ``{"input": 0.02}``; None: what genai-prices knows of the model.
        budget: what the run may spend in all, with all other operators that have a budget.
        meta: whether the row gets a column ``_meta`` that says where its vector comes from. What a request used is
            shared out by the length of its texts.
        keep_calls: whether texts are kept in the folder of the run, for its page and ``trace --calls``; of vectors,
            only how long they are. A number: up to so many megabytes.
        name: the operator's identity in the run state.

    Raises:
        ConfigError: at construction, on a wrong argument.
        PromptError, LLMRequestError, LLMAnswerError: by a call; the row fails, and the node's `on_error` decides.
        DimensionError, OutageError, EndpointRefusedError, CacheError, BudgetError: by a call or `setup`; the run fails.
    """

    def __init__(
        self,
        text: str,
        *,
        model: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        api_key_env: str | None = None,
        adapter: Any = "openai",
        endpoints: Sequence[Endpoint | Mapping[str, Any]] | None = None,
        strategy: Strategy = "weighted",
        outage_after: float = 600.0,
        output: str = "embedding",
        dimensions: int | None = None,
        normalize: bool = False,
        max_chars: int | None = None,
        too_long: TooLong = "refuse",
        texts_per_request: int = 64,
        max_wait: float = 0.02,
        null: Null = "empty",
        params: Mapping[str, Any] | None = None,
        timeout: float = 120.0,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        max_retries: int = 5,
        retry_wait: float = 0.5,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        cache: str | None = None,
        overwrite_columns: bool = False,
        prices: InputPrices | Mapping[str, float] | None = None,
        budget: Budget | Mapping[str, float] | None = None,
        meta: bool = False,
        keep_calls: bool | int = True,
        name: str | None = None,
    ) -> None:
        found = endpoints_of(
            endpoints,
            model=model,
            operation="embeddings",
            adapters=BUILT_IN,
            base_url=base_url,
            api_key=api_key,
            api_key_env=api_key_env,
            adapter=adapter,
            prices=prices,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
        _check_one_model(found)
        columns = checked_columns((output,))
        self._text = Prompt(text, label="text", null=check_choice("null", null, Null))
        self._params = checked_params(params, without=("input", "texts", "requests", "dimensions"))
        if dimensions is not None:
            self._params["dimensions"] = check_count("dimensions", dimensions)
        self._normalizes = check_flag("normalize", normalize)
        self._max_chars = None if max_chars is None else check_count("max_chars", max_chars)
        self._too_long: TooLong = check_choice("too_long", too_long, TooLong)
        if max_chars is None and too_long != "refuse":
            raise ConfigError("too_long='cut' needs max_chars, to know where to cut")
        self._lengths = SameLength()
        settings = StackSettings.checked(
            strategy=strategy,
            max_retries=max_retries,
            retry_wait=retry_wait,
            outage_after=outage_after,
            timeout=timeout,
            max_response_bytes=max_response_bytes,
            cache=cache,
            batching=Batching(
                size=_checked_texts(texts_per_request, found), seconds=check_seconds("max_wait", max_wait)
            ),
        )
        super().__init__(
            found,
            settings,
            columns=columns,
            params=self._params,
            overwrite_columns=overwrite_columns,
            budget=budget,
            meta=meta,
            keep_calls=keep_calls,
            name=name,
        )
        given = {"dimensions": dimensions, "normalize": normalize, "max_chars": max_chars, "too_long": too_long}
        self._identity = identity_parts(
            {"text": text, "params": params, "meta": meta, "null": null, **given},
            found,
            output,
            init=Embed.__init__,
        )
        self.rows_per_request = texts_per_request
        self.calls_at_once = 2 * texts_per_request  # else no two rows would share a request
        self._own = frozenset(vars(self)) | {"_own"}

    def fingerprint(self) -> Mapping[str, str | None]:
        """Return what the vectors depend on, and the code and attributes of a subclass; see `LLMOperator`."""
        return {**self._identity, **parts_of(self, above=Embed, without=self._own)}

    async def process_item(self, item: Any, ctx: INodeContext) -> Row:
        """Return the row with the vector added.

        Raises:
            PromptError: when the text cannot be made of this row, or is too long.
            ColumnExistsError: when the row has the column already.
            LLMRequestError: when the endpoint did not answer, or with something else than the vectors of these texts.
            LLMAnswerError: when the vector has another length than those of the rows before.
            LLMError: see `LLMOperator`, also of what ends the run.
        """
        row = self._new_row(item, ctx)
        request = ChatRequest(
            messages=({"role": "user", "content": self._checked_text(item)},),
            params=self._params,
            model=self.model,
            row=row_label(item),
            ctx=ctx,
            operation="embeddings",
        )
        answer = await self._answer(request)
        (vector,) = answer.extras["embeddings"]
        await self._lengths.check(len(vector), request.row, answer, ctx, self._identity)
        columns = {self._columns[0]: normalized(vector) if self._normalizes else vector}
        return row.filled(columns, provenance(request, [answer], Parsed([columns])) if self._has_meta else None)

    def _checked_text(self, item: Any) -> str:
        text, most = self._text.render(item), self._max_chars
        if most is None or len(text) <= most:
            return text
        if self._too_long == "cut":
            return text[:most]
        raise PromptError(
            f"the text of {row_label(item)} has {len(text):,} characters, and may have {most:,}: raise max_chars, set "
            "too_long='cut', or make chunks of it (ops.Chunk)"
        )


def _check_one_model(endpoints: Sequence[Endpoint]) -> None:
    """Refuse a pool of several models: what they send cannot be compared."""
    names = sorted({each.model for each in endpoints})
    if len(names) > 1:
        raise ConfigError(
            f"the endpoints have the models {', '.join(map(repr, names))}, whose vectors cannot be compared: give all "
            "the same model (deployments: the same name)"
        )


def _checked_texts(value: Any, endpoints: Sequence[Endpoint]) -> int:
    """Return how many texts a request may have."""
    texts = check_count("texts_per_request", value)
    for each in endpoints:
        adapter = each.address.adapter
        if isinstance(adapter, EmbeddingAdapter) and texts > adapter.max_texts:
            raise ConfigError(
                f"texts_per_request must be at most {adapter.max_texts:,}, which is what {type(adapter).__name__} can "
                f"put into a request, not {texts:,}"
            )
    return texts
