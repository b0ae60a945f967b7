"""An estimated number, with its standard error; errors of factors are combined as if they were independent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

_WITHIN = 1.96
"""Standard errors on each side that cover 95 % of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated number.

    Attributes:
        value: the number.
        error: its standard error.
        is_at_most: whether it is an upper bound: it comes of an operator that looks at many rows, such as `Dedupe`.
    """

    value: float
    error: float = 0.0
    is_at_most: bool = False

    @property
    def margin(self) -> float:
        """Half of the 95 % confidence interval of the sampling error."""
        return _WITHIN * self.error

    def __mul__(self, other: Estimate | float) -> Estimate:
        if not isinstance(other, Estimate):
            return Estimate(self.value * other, self.error * abs(other), self.is_at_most)
        error = math.hypot(self.error * other.value, other.error * self.value)
        return Estimate(self.value * other.value, error, self.is_at_most or other.is_at_most)

    def __add__(self, other: Estimate) -> Estimate:
        error = math.hypot(self.error, other.error)
        return Estimate(self.value + other.value, error, self.is_at_most or other.is_at_most)

    def at_most(self, most: float) -> Estimate:
        """Return it with an upper end of its range that is no higher; `most` is not below its value."""
        return self if self.high <= most else replace(self, error=(most - self.value) / _WITHIN)

    @property
    def high(self) -> float:
        """The upper end of the range."""
        return self.value + self.margin

    @property
    def told(self) -> float:
        """The number that a sentence tells: of an upper bound, the upper end of its range."""
        return self.high if self.is_at_most else self.value

    def as_dict(self) -> dict[str, float | bool]:
        """Return it as plain data, with the bounds of the range; of an upper bound, nothing is known of the lower."""
        low = 0.0 if self.is_at_most else max(self.value - self.margin, 0.0)
        bounds = {"low": low, "high": self.high, "is_at_most": self.is_at_most}
        return {"value": self.value, "error": self.error, **bounds}


NOTHING = Estimate(0.0)


def mean_of(values: Sequence[float], population: float) -> Estimate:
    """Estimate the mean of a population from some of its values.

    Args:
        values: those that are known; of a single one, the error is taken as large as itself.
        population: how many there are.
    """
    if not values:
        return NOTHING
    mean = fmean(values)
    spread = stdev(values) if len(values) > 1 else abs(mean)
    left = max(0.0, 1 - len(values) / population) if population > 0 else 0.0
    return Estimate(mean, spread / math.sqrt(len(values)) * math.sqrt(left))
