"""Chat completions, the API of OpenAI and of most other providers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm_datagen.llm.http.adapters import ChatAdapter, Reply
from llm_datagen.llm.http.own_turns import as_extra, merged
from llm_datagen.llm.http.prompt_cache import KEY
from llm_datagen.llm.http.reading import content_of
from llm_datagen.llm.http.streaming.assembly import Streaming
from llm_datagen.llm.types import ChatRequest

if TYPE_CHECKING:
    from llm_datagen.llm.http.batch.base import BatchAdapter

_CHAT = "chat"


class OpenAIAdapter(ChatAdapter):
    """Chat completions, which most providers and model servers speak, not only OpenAI.

    Attributes:
        wanted_back: fields of a message with calls of tools that some servers want back with it.
    """

    base_url = "https://api.openai.com/v1"
    base_url_env = "OPENAI_BASE_URL"
    api_key_env = "OPENAI_API_KEY"
    structured_modes: Sequence[str] = ("json_schema", "json_object", "tool", "prompt")
    prompt_cache = "key"
    most_choices: int = 128
    takes_seed = True
    url_ends: Sequence[str] = ("/chat/completions",)
    wanted_back: Sequence[str] = ("reasoning_content", "reasoning_details")

    def path(self, model: str) -> str:
        """Return ``/chat/completions``."""
        return "/chat/completions"

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        """Return the key as a bearer token."""
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the request as it is."""
        body = {**request.params, "model": request.model, "messages": merged(request, _CHAT)}
        if request.choices > 1:
            body["n"] = request.choices
        if request.prefix is not None and self.prompt_cache == "key":
            body.setdefault(KEY, request.prefix.key)
        return body

    def read(self, data: Any) -> Reply:
        """Return the first choice of a completion: that of index 0, wherever it stands."""
        choices = data["choices"]
        choice = choices[0]
        if choice.get("index") != 0:
            choice = next((each for each in choices if each.get("index") == 0), choice)
        message = choice["message"]
        content = content_of(message.get("content"))
        extras = {
            "reasoning": message.get("reasoning_content") or message.get("reasoning") or content.reasoning,
            "refusal": message.get("refusal") or content.refusal,
            "tool_calls": message.get("tool_calls") or message.get("function_call"),
            "logprobs": choice.get("logprobs"),
        }
        if extras["tool_calls"]:
            extras |= as_extra(_CHAT, self._own_turn(message))
        return Reply(
            text=content.text,
            finish_reason=choice.get("finish_reason"),
            usage=self.usage(data),
            extras={name: value for name, value in extras.items() if value} if any(extras.values()) else {},
            model=data.get("model"),
        )

    def choices_in(self, data: Any) -> list[Any]:
        """Return the body with one choice at a time, by their index."""
        choices = sorted(data["choices"], key=lambda choice: choice.get("index") or 0)
        return [{**data, "choices": [{**choice, "index": 0}]} for choice in choices]

    def batch(self) -> BatchAdapter | None:
        """Return OpenAI's Batch API, which other providers have as well."""
        from llm_datagen.llm.http.batch.openai import OpenAIBatchAdapter

        return OpenAIBatchAdapter()

    def streaming(self) -> Streaming:
        """Return that of chat completions."""
        from llm_datagen.llm.http.streaming.chat import ChatStreaming

        return ChatStreaming()

    def _own_turn(self, message: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: message[name] for name in self.wanted_back if message.get(name)}
        return {**own, "content": message["content"]} if isinstance(message.get("content"), list) else own
