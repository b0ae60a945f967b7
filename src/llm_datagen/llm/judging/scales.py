"""The scale of a judge: whole numbers, or labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_datagen.errors import ConfigError

_MOST_LISTED = 21
"""So many numbers are listed in the schema, which all endpoints keep to; not all know a least and a greatest."""


class Scale:
    """What a score can be.

    Args:
        given: the lowest and the highest whole number; or labels, from the worst to the best.

    Attributes:
        labels: the labels; None of numbers.

    Raises:
        ConfigError: when it is neither.
    """

    def __init__(self, given: Any) -> None:
        values = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
        self.labels: list[str] | None = None
        self._low = self._high = 0
        if len(values) == 2 and all(type(each) is int for each in values) and values[0] < values[1]:
            self._low, self._high = values
        elif len(values) > 1 and all(isinstance(each, str) and each.strip() for each in values):
            self.labels = values
        if (self.labels is None and self._low == self._high) or len(set(values)) < len(values):
            raise ConfigError(
                "scale must be two whole numbers, the lowest and the highest, or two labels or more, from the worst to "
                f"the best, not {given!r}"
            )

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of a score."""
        if self.labels is not None:
            return {"type": "string", "enum": self.labels}
        if self._high - self._low < _MOST_LISTED:
            return {"type": "integer", "enum": list(range(self._low, self._high + 1))}
        return {"type": "integer", "minimum": self._low, "maximum": self._high}

    def in_words(self) -> str:
        """Return what a prompt says of it."""
        if self.labels is not None:
            return f"one of {', '.join(self.labels)} (from the worst to the best)"
        return f"a whole number from {self._low} (the worst) to {self._high} (the best)"
