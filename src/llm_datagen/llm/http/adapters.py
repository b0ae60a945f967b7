"""What providers do differently: how a request is put, and how an answer is read. One adapter for each API."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.llm.chat import ChatRequest
from llm_datagen.llm.imports import imported, is_import_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What an adapter reads from a response.

    Attributes:
        text: the answer; None when there is none.
        finish_reason: why the model stopped, as chat completions say it: ``stop``, ``length`` (cut off),
            ``content_filter`` (withheld), or another; None when not said.
        usage: token counts: ``prompt_tokens`` and ``completion_tokens``, perhaps ``total_tokens``, and
            ``cached_tokens`` and ``cache_write_tokens``, the parts of the prompt that the provider took from its cache
            and put into it.
    """

    text: str | None = field(repr=False)
    finish_reason: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)


class ChatAdapter(ABC):
    """How one provider's API is spoken. Inherit from it; an instance may serve many calls at once, and keeps no state.

    All methods run on the event loop of the node and must not block.

    Attributes:
        base_url: where the provider is, unless told otherwise; empty: the user has to say it.
        base_url_env: the environment variable that says otherwise; empty for none.
        api_key_env: the environment variable that holds the key, unless one is given; empty for none.
    """

    base_url: str = ""
    base_url_env: str = ""
    api_key_env: str = ""

    @abstractmethod
    def path(self, model: str) -> str:
        """Return what is put behind `base_url` for a call to `model`, such as ``/chat/completions``."""

    @abstractmethod
    def headers(self, api_key: str | None) -> Mapping[str, str]:
        """Return the headers of every request, which carry the key. The content type is there already."""

    @abstractmethod
    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the body of a request, as JSON data. `request` and what it holds must not be changed.

        Raises:
            PromptError: when the API cannot say this; name `request.row`.
        """

    @abstractmethod
    def read(self, data: Any) -> Reply:
        """Return what the parsed JSON body of a response with status 200 says.

        Raises:
            LookupError, TypeError, AttributeError, ValueError: when it is no answer. The call is made again.
        """

    def may_pass(self, status: int, content: bytes) -> bool:
        """Return whether a request that failed with this HTTP status and body may succeed later.

        Unless overridden: 408, 409, 425, 429 and 5xx may.
        """
        return status in (408, 409, 425, 429) or status >= 500


class OpenAIAdapter(ChatAdapter):
    """Chat completions, which most providers and servers of models speak beside OpenAI."""

    base_url = "https://api.openai.com/v1"
    base_url_env = "OPENAI_BASE_URL"
    api_key_env = "OPENAI_API_KEY"

    def path(self, model: str) -> str:
        """Return ``/chat/completions``."""
        return "/chat/completions"

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        """Return the key as a bearer token."""
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the request as it is."""
        return {**request.params, "model": request.model, "messages": request.messages}

    def read(self, data: Any) -> Reply:
        """Return the first choice of a completion."""
        choice = data["choices"][0]
        usage = data.get("usage") or {}
        counts = {name: usage[name] for name in _COUNTS if isinstance(usage.get(name), int)}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        if cached and isinstance(cached, int):
            counts["cached_tokens"] = cached
        return Reply(text=choice["message"].get("content"), finish_reason=choice.get("finish_reason"), usage=counts)

    def may_pass(self, status: int, content: bytes) -> bool:
        """Return whether the failure may pass."""
        # A used-up quota comes as 429, too, and is not there again in a minute.
        return super().may_pass(status, content) and b"insufficient_quota" not in content


_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_BUILT_IN = {
    "openai": "llm_datagen.llm.http.adapters:OpenAIAdapter",
    "anthropic": "llm_datagen.llm.http.anthropic:AnthropicAdapter",
}


def adapter_of(given: Any) -> ChatAdapter:
    """Return the adapter that `given` stands for.

    Args:
        given: ``"openai"``, ``"anthropic"``, an adapter, a class of adapters that needs no arguments, or
            ``"module:Name"`` of one of the last two.

    Raises:
        ConfigError: when it stands for none.
    """
    found = given
    if isinstance(given, str):
        path = _BUILT_IN.get(given, given)
        if not is_import_path(path):
            raise ConfigError(f"adapter must be {', '.join(map(repr, _BUILT_IN))} or 'module:Name', not {given!r}")
        found = imported(path, what="adapter")
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise ConfigError(f"adapter {given!r} cannot be made: {error}") from error
    if not isinstance(found, ChatAdapter):
        raise ConfigError(f"adapter {given!r} is not a ChatAdapter: inherit from llm_datagen.llm.ChatAdapter")
    return found
