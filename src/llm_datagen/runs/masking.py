"""Settings without secrets, before they are shown. A run state has none: they are refused before it is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.config import addresses
from llm_datagen.operators.secret_names import is_secret_name

MASK = "(not shown)"
"""What stands for a secret."""

_ADDRESS = re.compile(r"\S+:/\S+")


def masked(value: Any, name: str = "") -> Any:
    """Return settings without what has the name of a secret, and without passwords in URIs.

    Args:
        value: any plain data.
        name: what it is called.
    """
    if is_secret_name(name) and isinstance(value, str | Mapping | Sequence) and value:
        return MASK
    if isinstance(value, Mapping):
        return {key: masked(each, str(key)) for key, each in value.items()}
    if isinstance(value, str):
        return masked_uri(value)
    if isinstance(value, Sequence):
        return [masked(each, name) for each in value]
    return value


def masked_uri(text: str) -> str:
    """Return an address, or a text with some in it, without passwords, keys and signatures."""
    return _ADDRESS.sub(lambda found: addresses.masked(found[0]), text)
