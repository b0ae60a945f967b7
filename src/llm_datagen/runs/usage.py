"""What operators report of their calls, summed: tokens, calls, money."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

COST = "cost"
"""The key of what was paid, in US dollars, in what operators report."""

TOKEN_NAMES: Mapping[str, tuple[str, ...]] = {
    "input": ("prompt_tokens", "input_tokens"),
    "output": ("completion_tokens", "output_tokens"),
}
"""What operators call the tokens of prompts and of answers in what they report."""

_LIMIT = 2**63


_PICO_DIGITS = 12


def tokens_of(usage: Mapping[str, Any], kind: str) -> int | None:
    """Return the tokens of a usage entry; None when it does not say.

    Args:
        usage: the entry.
        kind: "input" or "output".
    """
    counts = [usage[name] for name in TOKEN_NAMES[kind] if name in usage]
    return int(sum(counts)) if counts else None


def cost_of(usage: Iterable[Mapping[str, Any]]) -> float | None:
    """Return the US dollars of usage entries; None when none of them has a cost."""
    costs = [entry[COST] for entry in usage if COST in entry]
    return round(sum(costs), _PICO_DIGITS) if costs else None


def dollars(value: float) -> str:
    """Return an amount of US dollars, rounded to meaningful digits: ``$12.34``, ``$0.0012``."""
    return f"${value:,.{2 if value >= 1 or value == 0 else 4 if value >= 0.01 else 6}f}"


class UsageSums:
    """Sums of usage per provider and model."""

    def __init__(self, entries: list[dict[str, Any]] | None = None) -> None:
        self._sums: dict[tuple[str, str], dict[str, float]] = {}
        self.add_all(entries or [])

    def add(self, provider: str, model: str, metrics: Any) -> None:
        """Add what was used."""
        sums = self._sums.setdefault((provider, model), {})
        for key, value in metrics.items():
            total = sums.get(key, 0) + (value or 0)
            if key == COST and math.isfinite(total):
                total = round(total, _PICO_DIGITS)  # so that sums of money do not drift
            if -_LIMIT < total < _LIMIT:  # what the run state cannot hold (NaN, infinity, over 64 bits) is not counted
                sums[key] = total

    def add_all(self, entries: list[dict[str, Any]]) -> None:
        """Add entries that `as_list` made."""
        for entry in entries:
            metrics = {key: value for key, value in entry.items() if key not in {"provider", "model"}}
            self.add(entry["provider"], entry["model"], metrics)

    def as_list(self) -> list[dict[str, Any]]:
        """Return a dict for each provider and model."""
        return [{"provider": provider, "model": model, **sums} for (provider, model), sums in self._sums.items()]
