"""A second look for secrets, before settings are sent. A run state has none: they are refused before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.config.addresses import masked
from llm_datagen.operators.secret_names import is_secret_name


def without_secrets(value: Any) -> Any:
    """Return settings without values that are named like secrets, and addresses without what is secret in them."""
    if isinstance(value, Mapping):
        return {
            key: "***" if is_secret_name(str(key)) and isinstance(held, str) else without_secrets(held)
            for key, held in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(held) for held in value]
    return masked(value) if isinstance(value, str) and "://" in value else value
