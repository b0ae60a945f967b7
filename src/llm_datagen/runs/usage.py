"""What operators report of their calls, summed: tokens, calls, money."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

COST = "cost"
"""The key of what was paid, in US dollars, in what operators report."""

TOKEN_NAMES: Mapping[str, tuple[str, ...]] = {
    "input": ("prompt_tokens", "input_tokens"),
    "output": ("completion_tokens", "output_tokens"),
}
"""What operators call the tokens of prompts and of answers in what they report."""

_OF_JOBS = " (batch)"

JOBS_UNCOUNTED = "jobs_uncounted"
"""The key in a run state of what is said when a run is completed with jobs whose cost is still to be counted."""

PICO = 10**12
"""Picodollars in a US dollar: what is spent is counted in whole ones."""

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
    return in_all(costs) if costs else None


def in_all(costs: Sequence[float | None]) -> float | None:
    """Return US dollars added up, to the picodollar; None when one of them is not known."""
    known = [cost for cost in costs if cost is not None]
    return round(math.fsum(known), _PICO_DIGITS) if len(known) == len(costs) else None


def provider_of_jobs(host: str) -> str:
    """Return what stands for the provider in usage entries of jobs of a batch API."""
    return f"{host}{_OF_JOBS}"


def may_be_short(usage: Mapping[str, Any]) -> bool:
    """Return whether a usage entry lacks something when its run was killed, and resumed.

    Of jobs, it does not: a resume counts what their job logs have.
    """
    return not str(usage.get("provider") or "").endswith(_OF_JOBS)


def is_short(run_state: Mapping[str, Any]) -> bool:
    """Return whether usage of a run is missing, as it was killed before that was saved."""
    entries = [entry for node in run_state.get("nodes", ()) for entry in node.get("usage") or ()]
    return bool(run_state.get("usage_is_partial")) and (not entries or any(map(may_be_short, entries)))


def is_at_least(run_state: Mapping[str, Any]) -> bool:
    """Return whether a run has cost more than is known, or may have."""
    return is_short(run_state) or bool(run_state.get(JOBS_UNCOUNTED))


def dollars(value: float) -> str:
    """Return an amount of US dollars, rounded to meaningful digits: ``$12.34``, ``$0.0012``."""
    return f"${value:,.{2 if value >= 1 or value == 0 else 4 if value >= 0.01 else 6}f}"


def lost_in_words(lost: object, untold: object) -> list[str]:
    """Return what was set aside for calls of which nobody knows what they did cost, as `dollars` or such says it.

    Args:
        lost: for calls whose answer never came; false for nothing.
        untold: for calls that were answered; false for nothing.
    """
    parts = (
        (lost, "calls whose answer never came"),
        (untold, "answers that could not be used, or do not say what they cost"),
    )
    return [f"{amount} of it for {what}" for amount, what in parts if amount]


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

    def new_of(self, provider: str, model: str, sums: Mapping[str, float]) -> dict[str, float]:
        """Return what was used since, by sums of all that was used of a provider and a model."""
        known = self._sums.get((provider, model), {})
        return {
            key: round(value - known.get(key, 0), _PICO_DIGITS) if key == COST else value - known.get(key, 0)
            for key, value in sums.items()
        }

    def add_all(self, entries: list[dict[str, Any]]) -> None:
        """Add entries that `as_list` made."""
        for entry in entries:
            metrics = {key: value for key, value in entry.items() if key not in {"provider", "model"}}
            self.add(entry["provider"], entry["model"], metrics)

    def as_list(self) -> list[dict[str, Any]]:
        """Return a dict for each provider and model."""
        return [{"provider": provider, "model": model, **sums} for (provider, model), sums in self._sums.items()]
