"""The API of Ollama itself: ``POST {base_url}/api/chat``. It also speaks chat completions, but without its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yarl import URL

from llm_datagen.llm.errors import PromptError
from llm_datagen.llm.http.adapters import ChatAdapter, Reply
from llm_datagen.llm.http.providers.translation import (
    image_in,
    parts_of,
    refuse_tool_messages,
    sent_image,
    take_limit,
    text_in,
)
from llm_datagen.llm.http.reading import counts_of, named_counts
from llm_datagen.llm.types import ChatRequest

PORT = 11434
_FIELDS = ("keep_alive", "think", "tools", "format", "logprobs", "top_logprobs", "truncate", "shift")
"""Fields of a request; all other params are its ``options``."""


class OllamaAdapter(ChatAdapter):
    """Speaks the API of Ollama, on this machine unless told otherwise.

    The params are its options, such as ``num_ctx``, and fields of the request, such as ``keep_alive`` and ``think``;
    ``max_tokens`` is understood, too. A prompt that is longer than the context is refused, where Ollama by itself would
    cut it without a word, unless the params say ``truncate`` and ``shift``; versions before 0.12 cut it all the same.
    """

    base_url = f"http://localhost:{PORT}"
    base_url_env = "OLLAMA_HOST"
    api_key_env = "OLLAMA_API_KEY"
    structured_modes = ("json_schema", "json_object", "prompt")
    url_ends = ("/v1", "/api")

    def default_url(self) -> str:
        """Return the endpoint: ``OLLAMA_HOST`` may be a host without a scheme or a port."""
        found = super().default_url()
        if "://" in found:
            return found
        url = URL(f"http://{found}")
        return str(url if url.explicit_port else url.with_port(PORT))

    def path(self, model: str) -> str:
        """Return ``/api/chat``."""
        return "/api/chat"

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        """Return the key as a bearer token, for Ollama's own servers."""
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the request.

        Raises:
            PromptError: when a message of the row is a call of a tool, or its result, or has an image by its URL.
        """
        refuse_tool_messages(request, "Ollama")
        params = dict(request.params)
        result: dict[str, Any] = {
            "model": request.model,
            "messages": [_message(message, request) for message in request.messages],
            "stream": False,
            "truncate": False,
            "shift": False,
        }
        if "response_format" in params:
            wanted = params.pop("response_format")
            result["format"] = wanted["json_schema"]["schema"] if "json_schema" in wanted else "json"
        limit = take_limit(params)
        result |= {name: params.pop(name) for name in _FIELDS if name in params}
        options = {**params.pop("options", {}), **params}
        if limit is not None:
            options["num_predict"] = limit
        return {**result, "options": options} if options else result

    def read(self, data: Any) -> Reply:
        """Return the text of the message."""
        message = data["message"]
        extras = {
            "reasoning": message.get("thinking"),
            "tool_calls": message.get("tool_calls"),
            "logprobs": data.get("logprobs"),
        }
        reason = data.get("done_reason")
        return Reply(
            text=message.get("content"),
            finish_reason="tool_calls" if message.get("tool_calls") and reason == "stop" else reason,
            usage=self.usage(data),
            extras={name: value for name, value in extras.items() if value},
            model=data.get("model"),
        )

    def usage(self, data: Any) -> Mapping[str, int]:
        """Return the token counts under the names of chat completions."""
        found = counts_of(data)
        if "prompt_eval_count" not in found:
            return {}
        return named_counts(prompt=found["prompt_eval_count"], completion=found.get("eval_count", 0))


def _message(message: Mapping[str, Any], request: ChatRequest) -> dict[str, Any]:
    parts = parts_of(message["content"])
    found = [image for part in parts if (image := image_in(part)) is not None]
    texts = [text for part in parts if (text := text_in(part)) is not None]
    if len(texts) + len(found) < len(parts):
        raise PromptError(f"{request.row} has a part that is neither text nor image: the Ollama adapter cannot send it")
    role = "system" if message["role"] == "developer" else message["role"]
    images = [sent_image(image, request, "Ollama").data for image in found]
    return {"role": role, "content": "\n\n".join(texts), **({"images": images} if images else {})}
