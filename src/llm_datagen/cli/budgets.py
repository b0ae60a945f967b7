"""A budget that is given when a run is resumed, in place of the one in its file or its code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from llm_datagen.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Caps:
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
        if self == NO_CAPS:
            return
        from llm_datagen.llm.budget import Budget

        having = [operator for operator in operators if isinstance(getattr(operator, "budget", None), Budget)]
        if not having:
            raise ConfigError(
                "--budget-usd, --budget-tokens: no operator of this run has a budget; give it one, in the file or the "
                "code"
            )
        for operator in having:
            operator.budget = operator.budget.changed(self.usd, self.tokens)


NO_CAPS = Caps()
"""No change."""
