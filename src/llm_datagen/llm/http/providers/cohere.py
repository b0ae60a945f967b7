"""Cohere's own API, of which vectors and reranking are spoken; its chat completions are those of its compatible API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.llm.http.adapters import ChatAdapter
from llm_datagen.llm.http.reading import counts_of, inner, named_counts


class CohereAdapter(ChatAdapter):
    """Where Cohere is, and how its answers say what they used."""

    base_url = "https://api.cohere.com"
    base_url_env = "COHERE_BASE_URL"
    api_key_env = "COHERE_API_KEY"
    url_ends: Sequence[str] = ("/v1", "/v2")

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        """Return the key as a bearer token."""
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def usage(self, data: Any) -> Mapping[str, int]:
        """Return the tokens that are billed, and the searches."""
        found = counts_of(inner(data, "meta", "billed_units"))
        searches = {"search_units": found["search_units"]} if found.get("search_units") else {}
        tokens = found.get("input_tokens")
        return searches if tokens is None else {**named_counts(prompt=tokens, completion=0), **searches}
