"""Values with weights, one of which is chosen."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from llm_datagen.errors import ConfigError


class Weighted:
    """Values, each with a weight.

    Args:
        name: the argument, for errors.
        values: values by their weights: ``{"easy": 2, "hard": 1}``, or, for other values than text, pairs.

    Raises:
        ConfigError: when there is none, or a weight is no number from 0 on, or all are 0.
    """

    def __init__(self, name: str, values: Mapping[str, float] | Sequence[Sequence[Any]]) -> None:
        if not isinstance(values, Mapping | list | tuple):
            raise ConfigError(f"{name} must be {{value: weight, …}} or a list of [value, weight], not {values!r}")
        pairs = list(values.items() if isinstance(values, Mapping) else values)
        if not pairs or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
            raise ConfigError(f"{name} must be {{value: weight, …}} or a list of [value, weight], not {values!r}")
        if isinstance(values, Mapping) and not all(isinstance(value, str) for value in values):
            raise ConfigError(f"{name} has values that are no text; write them as a list of [value, weight]")
        self.values = [value for value, _ in pairs]
        self.weights = [weight for _, weight in pairs]
        for value, weight in pairs:
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise ConfigError(f"{name}: the weight of {value!r} must be a number from 0 on, not {weight!r}")
        self._ends = list(accumulate(self.weights))
        if not self._ends[-1]:
            raise ConfigError(f"{name}: all weights are 0")

    def at(self, fraction: float) -> Any:
        """Return the value at a fraction of the sum of all weights."""
        last = max(number for number, weight in enumerate(self.weights) if weight)
        return self.values[min(bisect_right(self._ends, fraction * self._ends[-1]), last)]
