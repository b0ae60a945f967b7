"""What the rows of jobs cost: the share of the plain price, reserved before a row goes into a job, settled once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_datagen.llm.cost.budget import Amount, Budget
from llm_datagen.llm.cost.gate import BudgetGate
from llm_datagen.llm.cost.known_prices import PriceList, known_prices
from llm_datagen.llm.cost.plausibility import believable
from llm_datagen.llm.cost.prices import TokenPrices
from llm_datagen.llm.errors import BudgetError
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.limits.token_estimate import used_tokens
from llm_datagen.llm.types import ChatRequest
from llm_datagen.runs.usage import PICO, provider_of_jobs

if TYPE_CHECKING:
    from llm_datagen.llm.grants.client import GrantsClient

_MANY = 1 << 20
"""Tokens that are believed of any row whose request is not known."""


class RowMoney:
    """The money of one endpoint. Used on the event loop of the node.

    Args:
        address: where its jobs are.
        prices: what plain calls cost there; None for what is known of the model.
        share: what a row of a job costs of that.
        budget: what the run may spend in all; None for any amount.
        grants: talks to the grants service, when other processes share the budget.
    """

    def __init__(
        self,
        address: Address,
        *,
        prices: TokenPrices | None,
        share: float,
        budget: Budget | None,
        grants: GrantsClient | None,
    ) -> None:
        self._address = address
        self._given = prices
        self._prices = PriceList(address.label, prices, of_library=address.adapter.known_prices)
        self._share = Fraction(str(share))
        self._gate = None if budget is None else BudgetGate(budget, grants, is_of_jobs=True)
        self._logged: set[str] = set()

    async def open(self) -> None:
        """Get the prices ready."""
        if self._given is None:
            await asyncio.to_thread(known_prices, "", self._address.label)  # an import that takes a moment

    async def close(self) -> None:
        """Leave the spend of the run. May be called more than once."""
        if self._gate is not None:
            await self._gate.close()

    # Before.

    def most(self, request: ChatRequest) -> Amount:
        """Return the most that a row can cost; nothing when there is no budget.

        Raises:
            BudgetError: when the budget is in dollars, and no price is known.
        """
        prices = self._prices_of(request)
        if prices is None:
            self._log_once(
                request,
                f"no price is known of model {request.model!r} at {self._address.host}: what it costs is not "
                "counted; give prices={'input': …, 'output': …} (of plain calls) if it costs anything",
            )
        if self._gate is None:
            return Amount()
        budget = self._gate.budget
        if prices is None and budget.picodollars is not None:
            raise BudgetError(f"no price is known of model {request.model!r}: give prices, or a budget of tokens")
        picodollars, tokens = budget.most(request, prices)
        return Amount(math.ceil(picodollars * self._share), tokens)

    async def reserve(self, need: Amount, request: ChatRequest) -> int | None:
        """Return the number of a row that may go into a job, for `settle`; None when there is no room for it.

        Waits while rows in flight may leave room. Without a budget, the number is -1.

        Raises:
            BudgetError: when what is spent cannot be known.
            LLMCancelledError: when the run was cancelled while it waited.
        """
        return -1 if self._gate is None else await self._gate.reserve(need, request)

    def adopt(self, job_log: Path, needs: Sequence[Amount], request: ChatRequest) -> list[int]:
        """Return the numbers of rows that are in jobs from the time before.

        Args:
            job_log: the path of their job log.
            needs: the most that each can cost.
            request: of the same run.
        """
        return [-1] * len(needs) if self._gate is None else self._gate.spend_of(request).adopt(job_log, needs)

    def why_not(self, need: Amount, request: ChatRequest) -> str:
        """Return why there is no room for a row."""
        assert self._gate is not None
        return self._gate.reason(need, request)

    # After.

    def settle(
        self, call: int, request: ChatRequest, cost: Amount, *, is_lost: bool = False, is_answered: bool = False
    ) -> None:
        """A row has its answer, or gets none: what it cost is in the job log.

        Args:
            call: its number.
            request: of the same run.
            cost: what was spent.
            is_lost: whether that is its reservation, as what it cost is unknown.
            is_answered: whether an answer came all the same.
        """
        if self._gate is None or call < 0:
            return
        spend = self._gate.spend_of(request)
        if is_lost:
            spend.lose(call, is_answered=is_answered)
        else:
            spend.settle(call, cost)

    def believed(self, usage: Mapping[str, int], request: ChatRequest, need: Amount) -> Mapping[str, int]:
        """Return the token counts that can be.

        Args:
            usage: as the provider said it.
            request: the row's; without messages when it was not asked for yet in this process.
            need: the most that the row can cost.
        """
        if not request.messages:
            return usage if all(count <= max(_MANY, 4 * need.tokens) for count in usage.values()) else {}
        return believable(usage, request)[0]

    def cost(self, usage: Mapping[str, int], request: ChatRequest) -> Amount | None:
        """Return what a row cost; None when the provider did not say what it used."""
        if "prompt_tokens" not in usage:
            return None
        prices = self._prices_of(request)
        picodollars = 0 if prices is None else round((prices.picodollars(usage) or 0) * self._share)
        return Amount(picodollars, used_tokens(usage) or 0)

    def dollars(self, usage: Mapping[str, int], request: ChatRequest) -> float | None:
        """Return what a row cost, in US dollars; None when that is not known."""
        cost = self.cost(usage, request)
        return None if cost is None or self._prices_of(request) is None else cost.picodollars / PICO

    def reported(self, usage: Mapping[str, int], request: ChatRequest) -> dict[str, Any]:
        """Return what is reported of a row that was served; the cost in picodollars."""
        entry = {"provider": provider_of_jobs(self._address.host), "model": request.model, "requests": 1, **usage}
        cost = self.cost(usage, request)
        if cost is not None and self._prices_of(request) is not None:
            entry["cost"] = cost.picodollars
        return entry

    @property
    def has_budget(self) -> bool:
        """Whether there is a budget."""
        return self._gate is not None

    def _prices_of(self, request: ChatRequest) -> TokenPrices | None:
        return self._prices.of(request.model)

    def _log_once(self, request: ChatRequest, message: str) -> None:
        if request.ctx is not None and message not in self._logged:
            self._logged.add(message)
            request.ctx.log(message)
