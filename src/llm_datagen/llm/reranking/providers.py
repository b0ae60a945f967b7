"""What providers do differently when they are asked for scores of documents. One adapter for each API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.llm.http.adapters import Reply
from llm_datagen.llm.http.providers.cohere import CohereAdapter
from llm_datagen.llm.http.providers.openai import OpenAIAdapter
from llm_datagen.llm.http.providers.vllm import VLLMAdapter
from llm_datagen.llm.reranking.adapters import CommonRerank, RerankAdapter, pair_of, scores_reply
from llm_datagen.llm.types import ChatRequest


class JinaRerank(CommonRerank):
    """Jina's."""

    base_url = "https://api.jina.ai/v1"
    base_url_env = "JINA_BASE_URL"
    api_key_env = "JINA_API_KEY"


class VLLMRerank(CommonRerank, VLLMAdapter):
    """A vLLM server's. Its own params, such as ``truncate_prompt_tokens``, stand beside the others."""

    base_url = VLLMAdapter.base_url


class VoyageRerank(CommonRerank):
    """Voyage's, whose results are called ``data``."""

    base_url = "https://api.voyageai.com/v1"
    base_url_env = "VOYAGE_BASE_URL"
    api_key_env = "VOYAGE_API_KEY"

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the request; what is too long is refused, unless the params say ``truncation``."""
        return {"truncation": False, **super().body(request)}

    def read(self, data: Any) -> Reply:
        """Return the scores of ``data``."""
        return scores_reply(data["data"], "relevance_score", self.usage(data), data.get("model"))


class CohereRerank(RerankAdapter, CohereAdapter):
    """``POST {base_url}/v2/rerank``. Searches are paid for, and not tokens: give ``prices={"requests": 2.0}``."""

    url_ends = (*CohereAdapter.url_ends, "/v1/rerank")

    def path(self, model: str) -> str:
        """Return ``/v2/rerank``."""
        return "/v2/rerank"

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return query and documents."""
        query, documents = pair_of(request)
        return {**request.params, "model": request.model, "query": query, "documents": documents}

    def read(self, data: Any) -> Reply:
        """Return the scores of the results, in the order of the documents."""
        return scores_reply(data["results"], "relevance_score", self.usage(data))


class TEIRerank(RerankAdapter, OpenAIAdapter):
    """``POST {base_url}/rerank`` of Hugging Face's Text Embeddings Inference, which counts no tokens."""

    base_url = "http://localhost:8080"
    base_url_env = "TEI_BASE_URL"
    api_key_env = "TEI_API_KEY"
    url_ends = ("/rerank", "/v1")

    def path(self, model: str) -> str:
        """Return ``/rerank``."""
        return "/rerank"

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return query and texts; what is too long is refused, unless the params say ``truncate``."""
        query, documents = pair_of(request)
        return {"truncate": False, **request.params, "query": query, "texts": documents}

    def read(self, data: Any) -> Reply:
        """Return the scores, in the order of the texts."""
        return scores_reply(data, "score", {})
