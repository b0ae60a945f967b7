"""What litellm knows of the prices of models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llm_datagen.llm.cost.prices import TokenPrices, prices_by_length
from llm_datagen.llm.litellm.library import litellm

_INPUT, _OUTPUT = "input_cost_per_token", "output_cost_per_token"
_CACHED, _WRITTEN = "cache_read_input_token_cost", "cache_creation_input_token_cost"
_ABOVE = re.compile(rf"{_INPUT}_above_(\d+)k_tokens")


def prices_of(model: str) -> TokenPrices | None:
    """Return the prices of a model, by its name as litellm has it; None when none are known."""
    table = litellm().model_cost
    provider, _, name = model.partition("/")
    known = table.get(model)
    if known is None and name and str(table.get(name, {}).get("litellm_provider")).startswith(provider):
        known = table[name]
    if not isinstance(known, Mapping) or not isinstance(known.get(_INPUT), int | float):
        return None
    lengths = [int(found[1]) for key in known if (found := _ABOVE.fullmatch(key))]
    return prices_by_length({-1: _band(known, ""), **{1000 * k: _band(known, f"_above_{k}k_tokens") for k in lengths}})


def _band(known: Mapping[str, Any], ending: str) -> dict[str, float]:
    def price(name: str, otherwise: float) -> float:
        return known.get(name + ending) or known.get(name) or otherwise

    fresh = price(_INPUT, 0)
    return {
        "input": fresh,
        "cached_input": price(_CACHED, fresh),
        "cache_write": price(_WRITTEN, fresh),
        "output": price(_OUTPUT, 0),
    }
