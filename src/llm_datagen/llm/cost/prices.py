"""What tokens cost, as a user or a library says it, and what calls cost by it.

Money is counted in picodollars: a price in US dollars per million tokens, with up to six decimals, is a whole number of
them a token. Sums of whole numbers do not drift; they become floats where they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from llm_datagen.config import LARGEST, is_number, object_of, refuses_unknown, shown
from llm_datagen.errors import ConfigError
from llm_datagen.llm.limits.token_estimate import prompt_and_output
from llm_datagen.runs.usage import PICO

TOKENS = 1_000_000
"""Prices are said per so many tokens."""
_DEAREST = 100_000
"""US dollars per million tokens; a price above it is a mistake in the unit."""


@dataclass(frozen=True, slots=True)
class Band:
    """Prices in picodollars per token, of calls with more than `above` prompt tokens."""

    above: int
    input: int
    cached_input: int
    cache_write: int
    cache_write_5m: int
    output: int


@refuses_unknown
@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a model costs, in US dollars per million tokens.

    Attributes:
        input: of a prompt.
        output: of an answer.
        cached_input: of the tokens of a prompt that the endpoint took from its cache; None: as much as others.
        cache_write: of those that it put into its cache; None: as much as others.
        requests: US dollars per thousand requests (searches of a reranker), besides.

    Raises:
        ConfigError: when one of them is no price.
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    requests: float = 0.0

    def __post_init__(self) -> None:
        self.per_token()

    @classmethod
    def of(cls, given: Prices | Mapping[str, Any]) -> Prices:
        """Return the prices that a user gave, perhaps as a dict with the names of the attributes.

        Raises:
            ConfigError: when they are none.
        """
        return object_of(cls, "prices (US dollars per million tokens)", given)

    def per_token(self) -> TokenPrices:
        """Return them in picodollars per token."""
        fresh, output = _per_token("input", self.input), _per_token("output", self.output)
        cached = fresh if self.cached_input is None else _per_token("cached_input", self.cached_input)
        request = round(_checked("requests", self.requests) * PICO / 1000)
        written = fresh if self.cache_write is None else _per_token("cache_write", self.cache_write)
        return TokenPrices((Band(-1, fresh, cached, written, written, output),), request)


@refuses_unknown
@dataclass(frozen=True, slots=True, kw_only=True)
class InputPrices:
    """What a model costs whose answers are vectors or scores, and have no tokens.

    Attributes:
        input: US dollars per million tokens.
        requests: US dollars per thousand requests (searches of a reranker).

    Raises:
        ConfigError: when one of them is no price, or none is given.
    """

    input: float | None = None
    requests: float | None = None

    def __post_init__(self) -> None:
        if self.input is None and self.requests is None:
            raise ConfigError(
                "prices must have 'input' (US dollars per million tokens), 'requests' (per thousand of them), or both"
            )
        self.prices()

    @classmethod
    def of(cls, given: InputPrices | Mapping[str, Any]) -> InputPrices:
        """Return the prices that a user gave, perhaps as a dict with the names of the attributes.

        Raises:
            ConfigError: when they are none.
        """
        return object_of(cls, "prices (US dollars per million tokens)", given)

    def prices(self) -> Prices:
        """Return them as those of a model whose answers cost nothing."""
        return Prices(input=self.input or 0.0, output=0.0, requests=self.requests or 0.0)


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """What the calls of a model cost, in picodollars per token. Made by `given_prices` or `known_prices`.

    Attributes:
        bands: by their `above`, ascending, the first at -1: a long prompt can have a price of its own.
        request: picodollars for each call; of a rerank, for each search that it counts as.
    """

    bands: tuple[Band, ...]
    request: int = 0

    def picodollars(self, usage: Mapping[str, int]) -> int | None:
        """Return what a call cost; None when the endpoint did not say what it used.

        Args:
            usage: `ChatAnswer.usage`.
        """
        if not is_told(usage):
            return None
        prompt, output = prompt_and_output(usage)
        cached, written = usage.get("cached_tokens", 0), usage.get("cache_write_tokens", 0)
        short = min(usage.get("cache_write_5m_tokens", 0), written)
        band = next(band for band in reversed(self.bands) if prompt > band.above)
        return (
            self.request * max(usage.get("search_units", 1), 1)
            + max(prompt - cached - written, 0) * band.input
            + cached * band.cached_input
            + (written - short) * band.cache_write
            + short * band.cache_write_5m
            + output * band.output
        )

    def cost(self, usage: Mapping[str, int]) -> float | None:
        """Return what a call cost, in US dollars; None when the endpoint did not say what it used."""
        spent = self.picodollars(usage)
        return None if spent is None else spent / PICO

    def most(self, prompt_tokens: int, completion_tokens: int, searches: int = 1) -> int:
        """Return the most that a call of at most so many tokens, and searches, can cost, in picodollars."""
        bands = [band for band in self.bands if prompt_tokens > band.above]
        dearest = max(max(band.input, band.cached_input, band.cache_write) for band in bands)
        return (
            self.request * searches + prompt_tokens * dearest + completion_tokens * max(band.output for band in bands)
        )


def given_prices(prices: Prices | Mapping[str, Any] | None) -> TokenPrices | None:
    """Return the prices that a user gave, by the token; None for None.

    Raises:
        ConfigError: when they are no prices.
    """
    return None if prices is None else Prices.of(prices).per_token()


def prices_by_length(bands: Mapping[int, Mapping[str, float]]) -> TokenPrices:
    """Return prices that a library has in US dollars per token.

    Args:
        bands: by the tokens of a prompt above which they hold, -1 for all: what ``input``, ``cached_input``,
            ``cache_write`` and ``output`` cost.
    """
    picodollars = {
        above: {
            name: round(Decimal(str(price)) * PICO)
            for name, price in {"cache_write_5m": prices["cache_write"], **prices}.items()
        }
        for above, prices in bands.items()
    }
    return TokenPrices(tuple(Band(above, **picodollars[above]) for above in sorted(picodollars)))


def exact(value: Any) -> Decimal:
    """Return a number as it was written; -1 for what is none, or above all that a setting can be."""
    is_one = value.is_finite() if isinstance(value, Decimal) else is_number(value)
    return Decimal(str(value)) if is_one and abs(value) <= LARGEST else Decimal(-1)


def is_told(usage: Mapping[str, int]) -> bool:
    """Return whether the endpoint said what a call has used: tokens, or searches."""
    return "prompt_tokens" in usage or "search_units" in usage


def _per_token(name: str, value: Any) -> int:
    return round(_checked(name, value) * PICO / TOKENS)


def _checked(name: str, value: Any) -> Decimal:
    amount = exact(value)
    if not 0 <= amount <= _DEAREST:
        unit = "thousand requests" if name == "requests" else "million tokens"
        raise ConfigError(f"prices[{name!r}] must be US dollars per {unit}, from 0 to {_DEAREST:,}, not {shown(value)}")
    return amount
