"""Text that every file can hold: halves of surrogate pairs (a cut emoji, as JSON can write it) become U+FFFD."""

from __future__ import annotations

from typing import Any


def without_lone_surrogates(value: Any) -> Any:
    """Return JSON data in which each half of a surrogate pair that stands alone is U+FFFD; pairs become one sign."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [without_lone_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {without_lone_surrogates(key): without_lone_surrogates(each) for key, each in value.items()}
    return value
