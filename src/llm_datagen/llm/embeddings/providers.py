"""What providers do differently when they are asked for vectors. One adapter for each API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from llm_datagen.llm.embeddings.adapters import EmbeddingAdapter, OpenAIEmbeddings, texts_of, vectors_reply
from llm_datagen.llm.http.adapters import Reply
from llm_datagen.llm.http.providers.azure import AzureAdapter, AzureDeploymentsAdapter
from llm_datagen.llm.http.providers.cohere import CohereAdapter
from llm_datagen.llm.http.providers.gemini import GeminiAdapter
from llm_datagen.llm.http.providers.mistral import MistralAdapter
from llm_datagen.llm.http.providers.ollama import OllamaAdapter
from llm_datagen.llm.http.providers.vllm import VLLMAdapter
from llm_datagen.llm.types import ChatRequest


class AzureEmbeddings(OpenAIEmbeddings, AzureAdapter):
    """The v1 API of Azure. The model is the name of a deployment."""

    url_ends = (*AzureAdapter.url_ends, *OpenAIEmbeddings.url_ends)


class AzureDeploymentsEmbeddings(OpenAIEmbeddings, AzureDeploymentsAdapter):
    """The older API of Azure, whose address names the deployment."""

    url_ends = (*AzureDeploymentsAdapter.url_ends, *OpenAIEmbeddings.url_ends)


class MistralEmbeddings(OpenAIEmbeddings, MistralAdapter):
    """Mistral's, which has names of its own for ``dimensions`` and ``encoding_format``."""

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the request with the names of Mistral."""
        body = dict(super().body(request))
        if "dimensions" in body:
            body["output_dimension"] = body.pop("dimensions")
        return body


class VLLMEmbeddings(OpenAIEmbeddings, VLLMAdapter):
    """A vLLM server's. Its own params, such as ``truncate_prompt_tokens`` and ``priority``, stand beside the others."""


class OllamaEmbeddings(EmbeddingAdapter, OllamaAdapter):
    """``POST {base_url}/api/embed``. A text that is too long is refused, unless the params say ``truncate``."""

    url_ends = (*OllamaAdapter.url_ends, "/api/chat", "/v1/embeddings")

    def path(self, model: str) -> str:
        """Return ``/api/embed``."""
        return "/api/embed"

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the texts as ``input``; all params but three are ``options``."""
        params = dict(request.params)
        known = ("truncate", "keep_alive", "dimensions")
        fields: dict[str, Any] = {name: params.pop(name) for name in known if name in params}
        options = {**params.pop("options", {}), **params}
        body: dict[str, Any] = {"model": request.model, "input": texts_of(request), "truncate": False, **fields}
        return {**body, "options": options} if options else body

    def read(self, data: Any) -> Reply:
        """Return the vectors, in the order of the texts."""
        return vectors_reply(data["embeddings"], self.usage(data), data.get("model"))


class GeminiEmbeddings(EmbeddingAdapter, GeminiAdapter):
    """``POST {base_url}/models/MODEL:batchEmbedContents``. The params are fields of each text, such as ``taskType``."""

    max_texts = 100

    def path(self, model: str) -> str:
        """Return the path of the model."""
        return f"/models/{quote(model.removeprefix('models/'), safe='')}:batchEmbedContents"

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return a request for each text."""
        fields = dict(request.params)
        if "dimensions" in fields:
            fields["outputDimensionality"] = fields.pop("dimensions")
        model = f"models/{request.model.removeprefix('models/')}"
        fields["model"] = model
        return {"requests": [{**fields, "content": {"parts": [{"text": text}]}} for text in texts_of(request)]}

    def read(self, data: Any) -> Reply:
        """Return the vectors, in the order of the texts. Some models report what they used."""
        return vectors_reply([each["values"] for each in data["embeddings"]], self.usage(data))


class CohereEmbeddings(EmbeddingAdapter, CohereAdapter):
    """``POST {base_url}/v2/embed``.

    The params need ``input_type``, such as ``search_document``. A text that is too long is refused, unless they say
    ``truncate``.
    """

    max_texts = 96

    def path(self, model: str) -> str:
        """Return ``/v2/embed``."""
        return "/v2/embed"

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the texts, asked for as floats."""
        params = dict(request.params)
        if "dimensions" in params:
            params["output_dimension"] = params.pop("dimensions")
        fixed = {"model": request.model, "texts": texts_of(request), "embedding_types": ["float"]}
        return {"truncate": "NONE", **params, **fixed}

    def read(self, data: Any) -> Reply:
        """Return the vectors of floats, in the order of the texts."""
        return vectors_reply(data["embeddings"]["float"], self.usage(data))
