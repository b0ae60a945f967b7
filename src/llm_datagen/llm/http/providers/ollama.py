"""The API of Ollama itself: ``POST {base_url}/api/chat``. It also speaks chat completions, but without its options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from yarl import URL

from llm_datagen.llm.errors import PromptError
from llm_datagen.llm.http.adapters import ChatAdapter, Reply
from llm_datagen.llm.http.own_turns import as_extra
from llm_datagen.llm.http.providers.translation import (
    OwnPart,
    ToolCall,
    ToolResult,
    Turn,
    image_in,
    sent_image,
    system_parts,
    take_limit,
    text_in,
    turns,
)
from llm_datagen.llm.http.reading import counts_of, named_counts
from llm_datagen.llm.http.streaming.assembly import Streaming
from llm_datagen.llm.http.streaming.ollama import OllamaStreaming
from llm_datagen.llm.types import ChatRequest

PORT = 11434
_API = "Ollama"
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
    prompt_cache = "itself"
    takes_seed = True
    url_ends: Sequence[str] = ("/v1", "/api")

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
            PromptError: when a call of a tool in the row, or its result, cannot be understood, an image is a URL, more
                is said of it than the API can be told, or a part is something else.
        """
        params = dict(request.params)
        system = [Turn("system", [part]) for part in system_parts(request)]
        result: dict[str, Any] = {
            "model": request.model,
            "messages": [each for turn in [*system, *turns(request, _API)] for each in _messages(turn, request)],
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
        if extras["tool_calls"] and extras["reasoning"]:
            extras |= as_extra(_API, [message])
        reason = data.get("done_reason")
        return Reply(
            text=message.get("content"),
            finish_reason="tool_calls" if message.get("tool_calls") and reason == "stop" else reason,
            usage=self.usage(data),
            extras={name: value for name, value in extras.items() if value},
            model=data.get("model"),
        )

    def streaming(self) -> Streaming:
        """Return that of ``/api/chat``."""
        return OllamaStreaming()

    def usage(self, data: Any) -> Mapping[str, int]:
        """Return the token counts under the names of chat completions."""
        found = counts_of(data)
        if "prompt_eval_count" not in found:
            return {}
        return named_counts(prompt=found["prompt_eval_count"], completion=found.get("eval_count", 0))


def _messages(turn: Turn, request: ChatRequest) -> Iterator[dict[str, Any]]:
    """Yield a turn as messages: results of tools are messages of their own."""
    results = [part for part in turn.parts if isinstance(part, ToolResult)]
    calls = [part for part in turn.parts if isinstance(part, ToolCall)]
    others = [part for part in turn.parts if not isinstance(part, ToolResult | ToolCall | OwnPart)]
    yield from (part.part for part in turn.parts if isinstance(part, OwnPart))
    yield from ({"role": "tool", "tool_name": each.name, "content": each.text} for each in results)
    found = [image for part in others if (image := image_in(part, request, _API)) is not None]
    texts = [text for part in others if (text := text_in(part)) is not None]
    if len(texts) + len(found) < len(others):
        raise PromptError(f"{request.row} has a part that is neither text nor image: the Ollama adapter cannot send it")
    if others or calls:
        message: dict[str, Any] = {"role": turn.role, "content": "\n\n".join(texts)}
        if found:
            message["images"] = [sent_image(image, request, _API).data for image in found]
        if calls:
            message["tool_calls"] = [{"function": {"name": each.name, "arguments": each.arguments}} for each in calls]
        yield message
