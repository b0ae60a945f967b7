"""Mistral's API: chat completions with some names of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llm_datagen.llm.http.providers.openai import OpenAIAdapter
from llm_datagen.llm.http.providers.translation import take_limit
from llm_datagen.llm.http.streaming.assembly import Streaming
from llm_datagen.llm.http.streaming.chat import ChatStreaming
from llm_datagen.llm.types import ChatRequest

if TYPE_CHECKING:
    from llm_datagen.llm.http.batch.mistral import MistralBatchAdapter


class MistralAdapter(OpenAIAdapter):
    """Speaks Mistral's chat completions.

    The params are those of the API, such as ``safe_prompt``; ``max_completion_tokens`` and ``seed`` are sent under the
    names that it knows, and messages of the role ``developer`` as those of the system.
    """

    base_url = "https://api.mistral.ai/v1"
    base_url_env = "MISTRAL_BASE_URL"
    api_key_env = "MISTRAL_API_KEY"

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the request with the names of Mistral."""
        body = dict(super().body(request))
        limit = take_limit(body)
        if limit is not None:
            body["max_tokens"] = limit
        if "seed" in body:
            body["random_seed"] = body.pop("seed")
        body["messages"] = [
            {**message, "role": "system"} if message["role"] == "developer" else message for message in body["messages"]
        ]
        return body

    def batch(self) -> MistralBatchAdapter:
        """Return Mistral's batch API."""
        from llm_datagen.llm.http.batch.mistral import MistralBatchAdapter

        return MistralBatchAdapter()

    def streaming(self) -> Streaming:
        """Return that of chat completions; the counts of tokens are in the last chunk, and cannot be asked for."""
        return ChatStreaming(knows_usage_option=False)
