"""What providers do differently: how a request is put, and how an answer is read. One adapter for each API."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.llm.finish_reasons import Ending, ending_of, plain_word
from llm_datagen.llm.http.error_meaning import amounts_to, may_pass
from llm_datagen.llm.http.reading import chat_counts, content_of
from llm_datagen.llm.import_string import imported, is_import_path
from llm_datagen.llm.types import ChatRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What an adapter reads from a response.

    Attributes:
        text: the answer; None when there is none.
        finish_reason: why the model stopped, in the provider's own word, see `ChatAdapter.ending`; None when not said.
        usage: token counts: ``prompt_tokens`` and ``completion_tokens``, perhaps ``total_tokens``;
            ``cached_tokens`` and ``cache_write_tokens``, the parts of the prompt that the provider took from its cache
            and put into it; ``reasoning_tokens``, the part of the answer that is thoughts.
        extras: what came besides the text, as JSON data, by the names of `ChatAnswer.extras`.
        model: the model that answered, as the provider says; None when it does not.
    """

    text: str | None = field(repr=False)
    finish_reason: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict, repr=False)
    model: str | None = None


class ChatAdapter(ABC):
    """How one provider's API is spoken. Inherit from it; an instance may serve many calls at once, and keeps no state.

    All methods run on the event loop of the node and must not block.

    Attributes:
        base_url: where the provider is, unless told otherwise; empty: the user has to say it.
        base_url_env: the environment variable that says otherwise; empty for none.
        api_key_env: the environment variable that holds the key, unless one is given; empty for none.
        finished_words: more words for an answer that is whole, where a provider has its own; see `ending`.
        structured_modes: the ways to ask for JSON that `body` and `read` know, the best one first, of ``json_schema``,
            ``json_object``, ``tool`` (``tools`` and ``tool_choice`` in the params, as chat completions have them, and
            ``tool_calls`` in the extras of the reply) and ``prompt``.
        url_ends: ends of a `base_url` that people paste, and that are cut off.
    """

    base_url: str = ""
    base_url_env: str = ""
    api_key_env: str = ""
    finished_words: Collection[str] = ()
    structured_modes: Sequence[str] = ("json_schema", "prompt")
    url_ends: Sequence[str] = ()

    @abstractmethod
    def path(self, model: str) -> str:
        """Return what is put behind `base_url` for a call to `model`, such as ``/chat/completions``.

        It may have a query, ``?api-version=…``, whose fields stand behind those of `base_url`, unless that has them.
        """

    def default_url(self) -> str:
        """Return where the provider is when no `base_url` is given; empty when nobody says it.

        Unless overridden: what the environment variable `base_url_env` says, else `base_url`.
        """
        return os.environ.get(self.base_url_env) or self.base_url

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

        Args:
            status: what the failure amounts to: 429 for a rate limit, whatever status it was sent with.
            content: the body.
        """
        return may_pass(status)

    def ending(self, finish_reason: str | None) -> Ending:
        """Return what a reason to stop makes of an answer: only one that is finished is data."""
        is_own = finish_reason is not None and plain_word(finish_reason) in map(plain_word, self.finished_words)
        return Ending.FINISHED if is_own else ending_of(finish_reason)

    def amounts_to(self, status: int, data: Any) -> int:
        """Return the HTTP status that a failure amounts to, by the parsed JSON body (None when it is no JSON)."""
        return amounts_to(status, data)

    def retry_after(self, data: Any) -> float | None:
        """Return the seconds that the parsed body of a failure asks to wait, where the headers do not say it.

        Unless overridden: None, for nothing.
        """
        return None

    def usage(self, data: Any) -> Mapping[str, int]:
        """Return the token counts of a response that is no answer; empty when it has none, or is of any other form.

        Unless overridden: those of a chat completion.
        """
        return chat_counts(data.get("usage")) if isinstance(data, Mapping) else {}


class OpenAIAdapter(ChatAdapter):
    """Chat completions, which most providers and model servers speak, not only OpenAI."""

    base_url = "https://api.openai.com/v1"
    base_url_env = "OPENAI_BASE_URL"
    api_key_env = "OPENAI_API_KEY"
    structured_modes = ("json_schema", "json_object", "tool", "prompt")
    url_ends: Sequence[str] = ("/chat/completions",)

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
        """Return the first choice of a completion: that of index 0, wherever it stands."""
        choices = data["choices"]
        choice = next((each for each in choices if each.get("index") == 0), choices[0])
        message = choice["message"]
        content = content_of(message.get("content"))
        extras = {
            "reasoning": message.get("reasoning_content") or message.get("reasoning") or content.reasoning,
            "refusal": message.get("refusal") or content.refusal,
            "tool_calls": message.get("tool_calls") or message.get("function_call"),
            "logprobs": choice.get("logprobs"),
        }
        return Reply(
            text=content.text,
            finish_reason=choice.get("finish_reason"),
            usage=self.usage(data),
            extras={name: value for name, value in extras.items() if value},
            model=data.get("model"),
        )


_PROVIDERS = "llm_datagen.llm.http.providers"
BUILT_IN = {
    "openai": "llm_datagen.llm.http.adapters:OpenAIAdapter",
    "openai-responses": f"{_PROVIDERS}.openai_responses:OpenAIResponsesAdapter",
    "azure": f"{_PROVIDERS}.azure:AzureAdapter",
    "azure-deployments": f"{_PROVIDERS}.azure:AzureDeploymentsAdapter",
    "anthropic": f"{_PROVIDERS}.anthropic:AnthropicAdapter",
    "gemini": f"{_PROVIDERS}.gemini:GeminiAdapter",
    "bedrock": f"{_PROVIDERS}.bedrock:BedrockAdapter",
    "mistral": f"{_PROVIDERS}.mistral:MistralAdapter",
    "ollama": f"{_PROVIDERS}.ollama:OllamaAdapter",
    "vllm": f"{_PROVIDERS}.vllm:VLLMAdapter",
}
"""The adapters that are there, by their names."""


def adapter_of(given: Any) -> ChatAdapter:
    """Return the adapter that `given` stands for.

    Args:
        given: a name of `BUILT_IN` such as ``"openai"`` or ``"gemini"``, an adapter, a class of adapters that needs no
            arguments, or ``"module:Name"`` of one of the last two.

    Raises:
        ConfigError: when it stands for none.
    """
    found = given
    if isinstance(given, str):
        path = BUILT_IN.get(given, given)
        if not is_import_path(path):
            raise ConfigError(f"adapter must be {', '.join(map(repr, BUILT_IN))} or 'module:Name', not {given!r}")
        found = imported(path, what="adapter")
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise ConfigError(f"adapter {given!r} cannot be made: {error}") from error
    if not isinstance(found, ChatAdapter):
        raise ConfigError(f"adapter {given!r} is not a ChatAdapter: inherit from llm_datagen.llm.ChatAdapter")
    return found
