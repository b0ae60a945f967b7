"""A budget for a resume, in place of the one in the file or the code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from llm_datagen.errors import ConfigError


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
