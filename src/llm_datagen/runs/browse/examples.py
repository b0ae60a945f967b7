"""A row as an example of others: whole, unless it is so long that many of them would not fit into memory."""

from __future__ import annotations

from typing import Any

from llm_datagen.runs.words import cut
from llm_datagen.streams.formats.json_values import shown

_MOST_CHARS = 64_000
_VALUE_CHARS = 2_000
_MOST_FIELDS = 30


def example_of(value: Any) -> tuple[Any, bool]:
    """Return a value, and whether it was shortened: then long values in it are text that says how much is left out.

    A value that is longer than 64,000 characters as JSON is about as long at most; an object keeps its first fields.
    """
    if len(value if isinstance(value, str) else shown(value)) <= _MOST_CHARS:
        return value, False
    if not isinstance(value, dict):
        return _shortened(value), True
    fields = {cut(str(name), _VALUE_CHARS): _shortened(each) for name, each in list(value.items())[:_MOST_FIELDS]}
    more = len(value) - len(fields)
    return fields | ({"…": f"{more:,} more fields"} if more > 0 else {}), True


def _shortened(value: Any) -> Any:
    """Return a value that is short; of others the beginning, as text."""
    text = value if isinstance(value, str) else shown(value)
    return value if len(text) <= _VALUE_CHARS else cut(text, _VALUE_CHARS)
