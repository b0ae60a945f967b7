"""The operator that puts the documents of every row in order, by how well they fit a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.config import check_choice, check_count
from llm_datagen.config.constructor import refuses_unknown
from llm_datagen.errors import ConfigError
from llm_datagen.llm.answers.columns import checked_columns
from llm_datagen.llm.answers.provenance import provenance
from llm_datagen.llm.cost.budget import Budget
from llm_datagen.llm.cost.prices import InputPrices
from llm_datagen.llm.endpoints import Endpoint, checked_params
from llm_datagen.llm.errors import PromptError
from llm_datagen.llm.fingerprint import identity_parts
from llm_datagen.llm.given_endpoints import endpoints_of
from llm_datagen.llm.http.body import MAX_RESPONSE_BYTES
from llm_datagen.llm.model_operator import ModelOperator
from llm_datagen.llm.pool.pool import Strategy
from llm_datagen.llm.prompts.template import Prompt, row_label
from llm_datagen.llm.prompts.values import Null
from llm_datagen.llm.reranking.adapters import BUILT_IN
from llm_datagen.llm.stack import StackSettings
from llm_datagen.llm.types import ChatRequest, Parsed
from llm_datagen.operators import INodeContext, Row
from llm_datagen.operators.fingerprint import parts_of

_OPENAI = "api.openai.com"


@refuses_unknown
class Rerank(ModelOperator):
    """Asks a reranking model how well each document of a row fits a query, and adds the documents in that order.

    One request per row, by the API ``/rerank`` that Cohere, Jina, vLLM and others share. All arguments are plain data.
    An instance serves one node at a time.

    Args:
        query: a Jinja2 template of the query; the fields of the row are its variables, as in `LLMOperator`.
        documents: the column with the documents, a list; or a list of columns, each of which holds a text. A row whose
            list is empty gets empty lists, and no request is made for it.
        document: a template of the text of a document, whose variables are the fields of the document (of one that is
            no object: ``data``). None: the documents are texts.
        model: the model's name, as the endpoint knows it.
        base_url: where the endpoint is, such as ``http://localhost:8000/v1``; None: what the adapter says. OpenAI has
            no reranking.
        api_key: the key; None: the environment variable of the adapter. It is never logged.
        api_key_env: another environment variable that holds the key.
        adapter: the API that the endpoint speaks: ``"openai"`` (``/rerank`` of servers that are compatible with
            OpenAI), ``"cohere"``, ``"jina"``, ``"voyage"``, ``"vllm"`` or ``"tei"`` (Text Embeddings Inference); or a
            `RerankAdapter`: an instance, a class, or ``"module:Name"``.
        endpoints: a pool of endpoints, in place of one.
        strategy: how the pool chooses: ``weighted`` or ``ordered``.
        outage_after: seconds that no endpoint may answer before the run fails.
        output: the new column with the documents, the best first.
        relevance: the new column with their scores, in the same order.
        indices: a new column with the place of each in `documents`, from 0; None for none.
        top_n: how many documents are kept; None for all. The model scores all of them.
        null: what a template writes for a null: nothing (``"empty"``), or the row fails (``"error"``).
        params: more fields of the request, such as ``{"max_tokens_per_doc": 1024}``.
        timeout: seconds that one try of a request may take in all.
        max_response_bytes: the longest body of an answer, unpacked.
        max_retries: how often a request is repeated after a transient error.
        retry_wait: seconds that the first pause takes at most; it doubles with each one, up to 60 seconds.
        requests_per_minute: how many requests the endpoint allows within any minute.
        tokens_per_minute: how many tokens it allows, in the same way.
        cache: the path of a file that stores every answer, so that an equal request is never paid for again. It may be
            that of other operators.
        overwrite_columns: whether the new columns may overwrite some of the row; else such a row is refused.
        prices: US dollars per million tokens, ``{"input": 0.02}``, or per thousand searches, ``{"requests": 2.0}``;
            None: what genai-prices knows of the model.
        budget: what the run may spend in all, with all other operators that have a budget.
        meta: whether the row gets a column ``_meta`` that says where the scores come from.
        keep_calls: whether requests and scores are kept in the folder of the run, for its page and ``trace --calls``. A
            number: up to so many megabytes.
        name: the operator's identity in the run state.

    Raises:
        ConfigError: at construction, on a wrong argument.
        PromptError, LLMRequestError: by a call; the row fails, and the node's `on_error` decides.
        OutageError, EndpointRefusedError, CacheError, BudgetError: by a call or `setup`; the run fails.
    """

    def __init__(
        self,
        query: str,
        *,
        documents: str | Sequence[str],
        document: str | None = None,
        model: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        api_key_env: str | None = None,
        adapter: Any = "openai",
        endpoints: Sequence[Endpoint | Mapping[str, Any]] | None = None,
        strategy: Strategy = "weighted",
        outage_after: float = 600.0,
        output: str = "ranked",
        relevance: str = "relevance",
        indices: str | None = None,
        top_n: int | None = None,
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
            operation="rerank",
            adapters=BUILT_IN,
            base_url=base_url,
            api_key=api_key,
            api_key_env=api_key_env,
            adapter=adapter,
            prices=prices,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
        for each in found:
            if each.address.host == _OPENAI:
                raise ConfigError("OpenAI has no reranking: give base_url, or an adapter of another provider")
        writes = check_choice("null", null, Null)
        self._query = Prompt(query, label="query", null=writes)
        self._document = None if document is None else Prompt(document, label="document", null=writes)
        self._source = _checked_source(documents)
        self._top_n = None if top_n is None else check_count("top_n", top_n)
        columns = checked_columns((output, relevance, *(() if indices is None else (indices,))))
        if len(set(columns)) < len(columns):
            raise ConfigError(f"output, relevance and indices must be columns of their own, not {columns!r}")
        self._params = checked_params(params, without=("query", "documents", "texts", "top_n", "top_k"))
        settings = StackSettings.checked(
            strategy=strategy,
            max_retries=max_retries,
            retry_wait=retry_wait,
            outage_after=outage_after,
            timeout=timeout,
            max_response_bytes=max_response_bytes,
            cache=cache,
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
        given = {
            "documents": documents,
            "document": document,
            "relevance": relevance,
            "indices": indices,
            "top_n": top_n,
        }
        self._identity = identity_parts(
            {"query": query, "params": params, "meta": meta, "null": null, **given},
            found,
            output,
            init=Rerank.__init__,
        )
        self._own = frozenset(vars(self)) | {"_own"}

    def fingerprint(self) -> Mapping[str, str | None]:
        """Return what the scores depend on, and the code and attributes of a subclass; see `LLMOperator`."""
        return {**self._identity, **parts_of(self, above=Rerank, without=self._own)}

    async def process_item(self, item: Any, ctx: INodeContext) -> Row:
        """Return the row with the documents in order, and their scores.

        Raises:
            PromptError: when the query, or a document, cannot be made of this row.
            ColumnExistsError: when the row has one of the columns already.
            LLMRequestError: when the endpoint did not answer, or with something else than a score for each document.
            LLMError: see `LLMOperator`, also of what ends the run.
        """
        row = self._new_row(item, ctx)
        documents = self._documents(item, row.fields)
        if not documents:
            return row.filled({name: [] for name in self._columns})
        texts = [self._query.render(item), *(self._text(each, item) for each in documents)]
        request = ChatRequest(
            messages=[{"role": "document" if at else "query", "content": text} for at, text in enumerate(texts)],
            params=self._params,
            model=self.model,
            row=row_label(item),
            ctx=ctx,
            operation="rerank",
        )
        answer = await self._answer(request)
        scores = answer.extras["scores"]
        best = sorted(range(len(scores)), key=lambda index: -scores[index])[: self._top_n]
        found: tuple[list[Any], ...] = ([documents[index] for index in best], [scores[index] for index in best], best)
        columns = dict(zip(self._columns, found, strict=False))
        return row.filled(columns, provenance(request, [answer], Parsed([columns])) if self._has_meta else None)

    def _documents(self, item: Any, fields: Mapping[str, Any]) -> list[Any]:
        columns = [self._source] if isinstance(self._source, str) else self._source
        missing = [name for name in columns if name not in fields]
        if missing:
            raise PromptError(
                f"{row_label(item)} has no column {', '.join(map(repr, missing))}, which holds its documents; it has: "
                f"{', '.join(map(str, fields)) or 'none'}"
            )
        if not isinstance(self._source, str):
            return [fields[name] for name in columns]
        found = fields[self._source]
        if not isinstance(found, list):
            raise PromptError(
                f"the documents of {row_label(item)}, {self._source!r}, are no list: give a column that holds one, or "
                "documents=[…], a list of columns"
            )
        return found

    def _text(self, document: Any, item: Any) -> str:
        if self._document is not None:
            try:
                return self._document.render(document)
            except PromptError as error:
                raise PromptError(f"a document of {row_label(item)}: {error}") from error
        if not isinstance(document, str) or not document.strip():
            raise PromptError(
                f"a document of {row_label(item)} is no text, or blank: give document, a template that makes a text of "
                "its fields, or leave it out of the list"
            )
        return document


def _checked_source(given: Any) -> str | tuple[str, ...]:
    """Return the column of the documents, or columns of one each."""
    if isinstance(given, str) and given:
        return given
    if isinstance(given, Sequence) and given and all(isinstance(each, str) and each for each in given):
        return tuple(given)
    raise ConfigError(f"documents must be a column, or a list of columns, not {given!r}")
