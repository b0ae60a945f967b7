"""How vectors are asked for: the API that most providers and servers have, and what adapters of others are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.llm.embeddings.vectors import vector_of
from llm_datagen.llm.http.adapters import ChatAdapter, Reply
from llm_datagen.llm.http.providers.openai import OpenAIAdapter
from llm_datagen.llm.http.reading import by_index, input_counts
from llm_datagen.llm.types import ChatRequest, Operation

_CHAT = "/chat/completions"


class EmbeddingAdapter(ChatAdapter):
    """How one provider's API of embeddings is spoken. Inherit from it.

    `body` is given a request with a message for each text (see `texts_of`) and puts all of them; `read` returns the
    vectors in the order of the texts, as lists of floats, as ``Reply(text=None, extras={"embeddings": …})``. The
    param ``dimensions`` is how many numbers a vector is to have.

    Attributes:
        max_texts: the most texts that the API takes in one request.
    """

    operation: Operation = "embeddings"
    max_texts: int = 2048


def texts_of(request: ChatRequest) -> list[str]:
    """Return the texts that a request wants vectors of."""
    return [message["content"] for message in request.messages]


def vectors_reply(vectors: Sequence[Any], usage: Mapping[str, int], model: Any = None) -> Reply:
    """Return what an adapter has read.

    Raises:
        TypeError, ValueError: when a vector is none.
    """
    return Reply(text=None, usage=usage, extras={"embeddings": [vector_of(each) for each in vectors]}, model=model)


class OpenAIEmbeddings(EmbeddingAdapter, OpenAIAdapter):
    """``POST {base_url}/embeddings``, which most providers and model servers speak, not only OpenAI."""

    url_ends = (*OpenAIAdapter.url_ends, "/embeddings")

    def path(self, model: str) -> str:
        """Return the path of embeddings, beside that of chat completions."""
        return super().path(model).replace(_CHAT, "/embeddings")

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the texts as ``input``."""
        return {**request.params, "model": request.model, "input": texts_of(request)}

    def usage(self, data: Any) -> Mapping[str, int]:
        """Return the token counts: those of the texts are all."""
        return input_counts(data)

    def read(self, data: Any) -> Reply:
        """Return the vectors, numbers or base64, by their ``index``."""
        return vectors_reply(by_index(data["data"], "embedding"), self.usage(data), data.get("model"))


_PROVIDERS = "llm_datagen.llm.embeddings.providers"
BUILT_IN = {
    "openai": "llm_datagen.llm.embeddings.adapters:OpenAIEmbeddings",
    "azure": f"{_PROVIDERS}:AzureEmbeddings",
    "azure-deployments": f"{_PROVIDERS}:AzureDeploymentsEmbeddings",
    "mistral": f"{_PROVIDERS}:MistralEmbeddings",
    "vllm": f"{_PROVIDERS}:VLLMEmbeddings",
    "ollama": f"{_PROVIDERS}:OllamaEmbeddings",
    "gemini": f"{_PROVIDERS}:GeminiEmbeddings",
    "cohere": f"{_PROVIDERS}:CohereEmbeddings",
}
"""The adapters that are there, by their names."""
