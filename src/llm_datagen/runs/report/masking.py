"""Settings without secrets: a report is sent to others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.operators.secret_names import is_secret_name

MASK = "(not shown)"
"""What stands for a secret."""

_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_FIELD = re.compile(r"(?<=[?&])([^=&#\s]+)=([^&#\s]+)")


def masked(value: Any, name: str = "") -> Any:
    """Return settings without what has the name of a secret, and without passwords in URIs.

    Args:
        value: any plain data.
        name: what it is called.
    """
    if is_secret_name(name) and isinstance(value, str) and value:
        return MASK
    if isinstance(value, Mapping):
        return {key: masked(each, str(key)) for key, each in value.items()}
    if isinstance(value, str):
        return masked_uri(value)
    if isinstance(value, Sequence):
        return [masked(each, name) for each in value]
    return value


def masked_uri(text: str) -> str:
    """Return a URI, or a text with some in it, without passwords, keys and signatures."""
    text = _USER.sub(f"{MASK}@", text)
    return _FIELD.sub(lambda found: f"{found[1]}={MASK}" if _is_secret(found[1]) else found[0], text)


def _is_secret(name: str) -> bool:
    return is_secret_name(name) or name.lower() in {"sig", "signature", "x-amz-signature", "x-goog-signature", "key"}
