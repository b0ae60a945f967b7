"""What providers do differently: how a request is put, and how an answer is read. One adapter for each API."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llm_datagen.errors import ConfigError
from llm_datagen.llm.finish_reasons import Ending, ending_of, plain_word
from llm_datagen.llm.http.error_meaning import amounts_to, may_pass
from llm_datagen.llm.http.reading import chat_counts
from llm_datagen.llm.http.streaming.assembly import Streaming
from llm_datagen.llm.import_string import imported, is_import_path
from llm_datagen.llm.types import ChatRequest, Operation

if TYPE_CHECKING:
    from llm_datagen.llm.http.batch.base import BatchAdapter


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
        operation: what its requests ask for.
        library: the name of a library that makes the calls, by `transport`, and knows where the provider is; empty:
            they are made by HTTP.
        base_url: where the provider is, unless told otherwise; empty: the user has to say it.
        base_url_env: the environment variable that says otherwise; empty for none.
        api_key_env: the environment variable that holds the key, unless one is given; empty for none.
        finished_words: more words for an answer that is whole, where a provider has its own; see `ending`.
        structured_modes: the ways to ask for JSON that `body` and `read` know, the best one first, of ``json_schema``,
            ``json_object``, ``tool`` (``tools`` and ``tool_choice`` in the params, as chat completions have them, and
            ``tool_calls`` in the extras of the reply) and ``prompt``.
        prompt_cache: how the API is told which beginning of a prompt it may cache (`ChatRequest.prefix`): ``"key"``,
            ``"marks"``, or ``"itself"``, when it finds out by itself, and `body` says nothing; empty: it caches none.
        most_choices: how many answers one request may ask for, by `ChatRequest.choices`, where its prompt is paid for
            once; 1: `body` sends no such thing.
        takes_seed: whether the API takes a ``seed`` among the params, for answers that can be had again.
        url_ends: ends of a `base_url` that people paste, and that are cut off.
    """

    operation: Operation = "chat"
    library: str = ""
    base_url: str = ""
    base_url_env: str = ""
    api_key_env: str = ""
    finished_words: Collection[str] = ()
    structured_modes: Sequence[str] = ("json_schema", "prompt")
    prompt_cache: str = ""
    most_choices: int = 1
    takes_seed: bool = False
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

    def choices_in(self, data: Any) -> list[Any]:
        """Return the parsed body of a response with several answers as bodies with one each, for `read`.

        Unless overridden: the body, which has one answer.

        Raises:
            LookupError, TypeError, AttributeError, ValueError: when it is no answer.
        """
        return [data]

    def streaming(self) -> Streaming | None:
        """Return how the API streams its answers.

        Unless overridden: None, it does not, or nobody has said how.
        """
        return None

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
        own_words = self.finished_words  # most have none
        if own_words and finish_reason is not None and plain_word(finish_reason) in map(plain_word, own_words):
            return Ending.FINISHED
        return ending_of(finish_reason)

    def amounts_to(self, status: int, data: Any) -> int:
        """Return the HTTP status that a failure amounts to, by the parsed JSON body (None when it is no JSON)."""
        return amounts_to(status, data)

    def retry_after(self, data: Any) -> float | None:
        """Return the seconds that the parsed body of a failure asks to wait, where the headers do not say it.

        Unless overridden: None, for nothing.
        """
        return None

    def transport(self, base_url: str | None, address: Any, api_key: Any, timeout: float) -> Any:
        """Return what makes the calls, in the place of HTTP: a `Transport`.

        Unless overridden: None, they are made by HTTP.

        Args:
            base_url: what the user gave; None: nothing.
            address: the `Address` that stands for the endpoint.
            api_key: the key that the user gave, a `Secret`; None: none.
            timeout: seconds that one call may take in all.
        """
        return None

    def known_prices(self, model: str) -> Any:
        """Return the prices of a model, as `TokenPrices`, where the library of this adapter knows them. May block.

        Unless overridden: None, they are looked up by the provider's address.
        """
        return None

    def usage(self, data: Any) -> Mapping[str, int]:
        """Return the token counts of a response that is no answer; empty when it has none, or is of any other form.

        Unless overridden: those of a chat completion.
        """
        return chat_counts(data.get("usage")) if isinstance(data, Mapping) else {}

    def batch(self) -> BatchAdapter | None:
        """Return how the API takes many requests as a job; None when it does not. Unless overridden: None."""
        return None


_PROVIDERS = "llm_datagen.llm.http.providers"
BUILT_IN = {
    "openai": f"{_PROVIDERS}.openai:OpenAIAdapter",
    "openai-responses": f"{_PROVIDERS}.openai_responses:OpenAIResponsesAdapter",
    "azure": f"{_PROVIDERS}.azure:AzureAdapter",
    "azure-deployments": f"{_PROVIDERS}.azure:AzureDeploymentsAdapter",
    "anthropic": f"{_PROVIDERS}.anthropic:AnthropicAdapter",
    "gemini": f"{_PROVIDERS}.gemini:GeminiAdapter",
    "bedrock": f"{_PROVIDERS}.bedrock:BedrockAdapter",
    "mistral": f"{_PROVIDERS}.mistral:MistralAdapter",
    "ollama": f"{_PROVIDERS}.ollama:OllamaAdapter",
    "vllm": f"{_PROVIDERS}.vllm:VLLMAdapter",
    "litellm": "llm_datagen.llm.litellm.adapter:LiteLLMAdapter",
}
"""The adapters that are there, by their names."""


def adapter_of(given: Any, names: Mapping[str, str] = BUILT_IN) -> ChatAdapter:
    """Return the adapter that `given` stands for.

    Args:
        given: a name such as ``"openai"`` or ``"gemini"``, an adapter, a class of adapters that needs no arguments, or
            ``"module:Name"`` of one of the last two.
        names: the names, each with the ``module:Name`` of its adapter.

    Raises:
        ConfigError: when it stands for none.
    """
    found = given
    if isinstance(given, str):
        path = names.get(given, given)
        if not is_import_path(path):
            raise ConfigError(f"adapter must be {', '.join(map(repr, names))} or 'module:Name', not {given!r}")
        found = imported(path, what="adapter")
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise ConfigError(f"adapter {given!r} cannot be made: {error}") from error
    if not isinstance(found, ChatAdapter):
        raise ConfigError(f"adapter {given!r} is not a ChatAdapter: inherit from llm_datagen.llm.ChatAdapter")
    return found


def _moved(name: str) -> Any:
    """Return a class that was here: run states that older versions left name it so."""
    if name != "OpenAIAdapter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return imported(BUILT_IN["openai"], what="adapter")


if not TYPE_CHECKING:
    __getattr__ = _moved
