"""Budgets of runs: what was spent, and a budget for a resume in place of the one in the file or the code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from llm_datagen.errors import ConfigError, DatagenError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.usage import dollars
from llm_datagen.runs.words import number

if TYPE_CHECKING:
    from llm_datagen.llm.cost.budget import Amount


@dataclass(frozen=True, slots=True)
class BudgetOverride:
    """What the operators of a run may spend in all.

    Attributes:
        usd: US dollars; None for what their budgets say.
        tokens: tokens; None for what their budgets say.
    """

    usd: float | None = None
    tokens: int | None = None

    def give(self, operators: Iterable[Any]) -> None:
        """Give it to those operators that have a budget.

        Raises:
            ConfigError: when none has one, or it cannot be one.
        """
        if self == NO_OVERRIDE:
            return
        from llm_datagen.llm.cost.budget import Budget

        having = [inner for inner in _all(operators) if isinstance(getattr(inner, "budget", None), Budget)]
        if not having:
            raise ConfigError(
                "--budget-usd, --budget-tokens: no operator of this run has a budget; give it one, in the file or the "
                "code"
            )
        for operator in having:
            operator.budget = operator.budget.changed(self.usd, self.tokens)


def budget_options(operators: Iterable[Any]) -> list[str]:
    """Return the options that raise what operators may spend, to be filled in; none when none has a budget."""
    budgets = [budget for inner in _all(operators) if (budget := getattr(inner, "budget", None)) is not None]
    options = {"picodollars": ["--budget-usd", "USD"], "tokens": ["--budget-tokens", "TOKENS"]}
    capped = [cap for cap in options if any(getattr(budget, cap, None) is not None for budget in budgets)]
    return [word for cap in capped for word in options[cap]]


def _all(operators: Iterable[Any]) -> Iterator[Any]:
    from llm_datagen.operators import operators_within

    return (inner for operator in operators for inner in operators_within(operator))


NO_OVERRIDE = BudgetOverride()
"""No change."""


def spending(*folders: RunFolder) -> str:
    """Return what a run with a budget has spent, by its account, or by those of its shards; empty for other runs."""
    accounts = []
    for folder in folders:
        try:
            accounts += _accounts(folder)
        except DatagenError as error:
            return str(error)
    if not accounts:
        return ""
    spent, lost, in_flight = (reduce(lambda one, other: one.plus(other), sums) for sums in zip(*accounts, strict=True))
    parts = [f"{amount_text(spent)} spent"]
    if any(lost):
        parts.append(f"{amount_text(lost)} of it for calls whose answer never came")
    if any(in_flight):
        parts.append(f"up to {amount_text(in_flight)} for calls in flight")
    return ", ".join(parts)


def _accounts(folder: RunFolder) -> list[tuple[Amount, Amount, Amount]]:
    """Return what was spent, lost, and is in flight, by the account in a folder; nothing when there is none."""
    with folder.files_to_look_at() as files:
        if not (files / "budget.jsonl").exists():
            return []
        try:
            from llm_datagen.llm.cost.spend_file import SpendFile
        except ModuleNotFoundError:  # where the extra is not installed
            return []
        spent, lost, in_flight = SpendFile(files).read()
        return [(spent, lost, in_flight)]


def amount_text(amount: Amount) -> str:
    """Return an amount, such as ``$1.20 and 3,400 tokens``."""
    money = f"{dollars(amount.picodollars / 10**12)} and " if amount.picodollars else ""
    return f"{money}{number(amount.tokens)} tokens"
