"""How scores of documents are asked for: the API that many share, and what adapters of others are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.llm.http.adapters import ChatAdapter, Reply
from llm_datagen.llm.http.providers.openai import OpenAIAdapter
from llm_datagen.llm.http.reading import by_index, input_counts
from llm_datagen.llm.types import ChatRequest, Operation


class RerankAdapter(ChatAdapter):
    """How one provider's API of reranking is spoken. Inherit from it.

    `body` is given a request whose first message is the query and whose others are the documents (see `pair_of`);
    `read` returns a score for each document, in their order, as ``Reply(text=None, extras={"scores": …})``.
    """

    operation: Operation = "rerank"


def pair_of(request: ChatRequest) -> tuple[str, list[str]]:
    """Return the query and the documents of a request."""
    query, *documents = (message["content"] for message in request.messages)
    return query, documents


def scores_reply(results: Sequence[Mapping[str, Any]], name: str, usage: Mapping[str, int], model: Any = None) -> Reply:
    """Return what an adapter has read: the scores, by the ``index`` of their documents.

    Args:
        results: the entries of the answer, in any order.
        name: what the score of an entry is called.
        usage: token counts.
        model: the model that answered, if the answer says it.

    Raises:
        LookupError, TypeError: when an index, or a score, is missing, or is none.
    """
    scores = by_index(results, name, needs_index=True)
    if not all(type(score) is float or type(score) is int for score in scores):
        raise TypeError("a score is no number")
    return Reply(text=None, usage=usage, extras={"scores": list(map(float, scores))}, model=model)


class CommonRerank(RerankAdapter, OpenAIAdapter):
    """``POST {base_url}/rerank``, which Jina, vLLM, llama.cpp, LiteLLM and others share. OpenAI itself has none."""

    base_url = ""
    url_ends = (*OpenAIAdapter.url_ends, "/rerank")

    def path(self, model: str) -> str:
        """Return ``/rerank``."""
        return "/rerank"

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return query and documents. All scores are wanted, so ``top_n`` is not sent."""
        query, documents = pair_of(request)
        return {**request.params, "model": request.model, "query": query, "documents": documents}

    def read(self, data: Any) -> Reply:
        """Return the scores of the results, in the order of the documents."""
        return scores_reply(data["results"], "relevance_score", self.usage(data), data.get("model"))

    def usage(self, data: Any) -> Mapping[str, int]:
        """Return the token counts: those of the prompt are all."""
        return input_counts(data)


_PROVIDERS = "llm_datagen.llm.reranking.providers"
BUILT_IN = {
    "openai": "llm_datagen.llm.reranking.adapters:CommonRerank",
    "cohere": f"{_PROVIDERS}:CohereRerank",
    "jina": f"{_PROVIDERS}:JinaRerank",
    "voyage": f"{_PROVIDERS}:VoyageRerank",
    "vllm": f"{_PROVIDERS}:VLLMRerank",
    "tei": f"{_PROVIDERS}:TEIRerank",
}
"""The adapters that are there, by their names."""
