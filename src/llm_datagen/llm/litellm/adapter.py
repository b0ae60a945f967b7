"""Says that litellm makes the calls, and what it knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.llm.cost.prices import TokenPrices
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.providers.openai import OpenAIAdapter
from llm_datagen.llm.http.reading import inner
from llm_datagen.llm.litellm.prices import prices_of
from llm_datagen.llm.litellm.transport import LiteLLMTransport
from llm_datagen.llm.secret import Secret


class LiteLLMAdapter(OpenAIAdapter):
    """Any provider that litellm knows. `model` has its name in front, as litellm has it: ``groq/llama-3.3-70b``.

    litellm takes requests, and gives answers, as OpenAI's API has them. It finds keys in the environment by itself.
    """

    library = "litellm"
    wanted_back = ("reasoning_content", "thinking_blocks")
    base_url_env = ""
    api_key_env = ""
    prompt_cache = ""  # each of the providers has its own way
    most_choices = 1  # some of the providers do not know `n`

    def path(self, model: str) -> str:
        """Return an empty path: the library knows it."""
        return ""

    def streaming(self) -> None:  # type: ignore[override]
        """Return None: its answers are not streamed."""

    def batch(self) -> None:
        """Return None: batch APIs are spoken by the adapters of their providers."""

    def transport(
        self, base_url: str | None, address: Address, api_key: Secret | None, timeout: float
    ) -> LiteLLMTransport:
        """Return what makes the calls."""
        return LiteLLMTransport(base_url, address, api_key, timeout)

    def known_prices(self, model: str) -> TokenPrices | None:
        """Return what litellm knows of the prices of a model."""
        return prices_of(model)

    def usage(self, data: Any) -> Mapping[str, int]:
        """Return the counts; tokens that went into the provider's cache have a name of their own in litellm."""
        written = inner(data, "usage", "cache_creation_input_tokens")
        counts = super().usage(data)
        return {**counts, "cache_write_tokens": written} if isinstance(written, int) and written else counts
