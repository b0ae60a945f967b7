"""What tokens cost: from the package genai-prices, which is data and makes no request, or as given.

Money is counted in picodollars: a price in US dollars per million tokens, with up to six decimals, is a whole number of
them a token. Sums of whole numbers do not drift; they become floats where they are shown.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from yarl import URL

from llm_datagen.config import LARGEST, is_number, object_of, refuses_unknown, shown
from llm_datagen.errors import ConfigError
from llm_datagen.llm.http.address import LOOPBACK
from llm_datagen.llm.limits.token_estimate import prompt_and_output

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, TieredPrices

PICO = 10**12
"""Picodollars in a dollar."""
_TOKENS = 1_000_000
_DEAREST = 100_000
"""US dollars per million tokens; a price above it is a mistake in the unit."""
_FRESH_SECONDS = 60.0
_NOT_KNOWN = ("output_reasoning_mtok", "output_citation_mtok", "input_mchars", "input_text_messages_kcount")
"""Prices of what endpoints do not report in the usage of a chat: a model that has one of them has no price here."""


@dataclass(frozen=True, slots=True)
class _Band:
    """Prices in picodollars per token, of calls with more than `above` prompt tokens."""

    above: int
    input: int
    cached_input: int
    cache_write: int
    output: int


@refuses_unknown
@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a model costs, in US dollars per million tokens.

    Attributes:
        input: of a prompt.
        output: of an answer.
        cached_input: of the tokens of a prompt that the endpoint took from its cache; None: as much as others.

    Raises:
        ConfigError: when one of them is no price.
    """

    input: float
    output: float
    cached_input: float | None = None

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
        return TokenPrices((_Band(-1, fresh, cached, fresh, output),))


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """What the calls of a model cost, in picodollars per token. Made by `given_prices` or `known_prices`.

    Attributes:
        bands: by their `above`, ascending, the first at -1: a long prompt can have a price of its own.
        request: picodollars for each call.
    """

    bands: tuple[_Band, ...]
    request: int = 0

    def picodollars(self, usage: Mapping[str, int]) -> int | None:
        """Return what a call cost; None when the endpoint did not say what it used.

        Args:
            usage: `ChatAnswer.usage`.
        """
        if "prompt_tokens" not in usage:
            return None
        prompt, output = prompt_and_output(usage)
        cached, written = usage.get("cached_tokens", 0), usage.get("cache_write_tokens", 0)
        band = next(band for band in reversed(self.bands) if prompt > band.above)
        return (
            self.request
            + max(prompt - cached - written, 0) * band.input
            + cached * band.cached_input
            + written * band.cache_write
            + output * band.output
        )

    def cost(self, usage: Mapping[str, int]) -> float | None:
        """Return what a call cost, in US dollars; None when the endpoint did not say what it used."""
        spent = self.picodollars(usage)
        return None if spent is None else spent / PICO

    def most(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Return the most that a call of at most so many tokens can cost, in picodollars."""
        bands = [band for band in self.bands if prompt_tokens > band.above]
        dearest = max(max(band.input, band.cached_input, band.cache_write) for band in bands)
        return self.request + prompt_tokens * dearest + completion_tokens * max(band.output for band in bands)


class PriceList:
    """The prices of the models of one endpoint. Used on one thread.

    Args:
        url: where the calls go.
        given: what every model costs there; None for what is known. That changes on some days, and at some hours: it is
            looked up again each minute.
    """

    def __init__(self, url: str, given: TokenPrices | None = None) -> None:
        self._url = url
        self._given = given
        self._known: dict[tuple[str, Any], tuple[float, TokenPrices | None]] = {}

    def of(self, model: str, service_tier: Any = None) -> TokenPrices | None:
        """Return the prices of a model now; None when they are not known, such as of a model on this machine.

        Args:
            model: its name, as the endpoint knows it.
            service_tier: the field of the request by that name.
        """
        if self._given is not None:
            return self._given
        now = time.monotonic()
        since, prices = self._known.get((model, service_tier), (-math.inf, None))
        if now - since > _FRESH_SECONDS:
            prices = known_prices(model, self._url, service_tier=service_tier)
            self._known[model, service_tier] = now, prices
        return prices


def given_prices(prices: Prices | Mapping[str, Any] | None) -> TokenPrices | None:
    """Return the prices that a user gave, by the token; None for None.

    Raises:
        ConfigError: when they are no prices.
    """
    return None if prices is None else Prices.of(prices).per_token()


def known_prices(model: str, url: str, *, service_tier: Any = None, when: datetime | None = None) -> TokenPrices | None:
    """Return the prices that genai-prices knows of; None when it knows none, such as of a model on this machine.

    The first call imports the package (about 0.15 s); later ones take some 20 µs.

    Args:
        model: the model's name, as the endpoint knows it.
        url: where the calls go: the provider is known by it.
        service_tier: the field of the request by that name.
        when: the moment of the call: prices change. None for now.
    """
    if URL(url).host in LOOPBACK:
        return None
    from genai_prices import data_snapshot

    try:
        _, info = data_snapshot.get_snapshot().find_provider_model(model, None, None, url)
    except LookupError:
        return None
    context = {"service_tier": service_tier} if isinstance(service_tier, str) else None
    return prices_of(info.get_prices(when or datetime.now(UTC), context))


def prices_of(price: ModelPrice) -> TokenPrices | None:
    """Return the prices of a model of genai-prices; None when its calls cannot be priced by the usage of a chat."""
    if price.input_mtok is None or any(getattr(price, key) is not None for key in _NOT_KNOWN):
        return None
    # Which of the two a write into the cache was is not said: the dearer one is taken.
    write = price.cache_write_1h_mtok or price.cache_write_mtok
    asked = (price.input_mtok, price.cache_read_mtok, write, price.output_mtok)
    tiers = {tier.start for each in asked for tier in getattr(each, "tiers", ())}
    bands = []
    for above in [-1, *sorted(tiers)]:
        fresh, cached, written, output = (_in_band(each, above) for each in asked)
        assert fresh is not None
        bands.append(
            _Band(
                above,
                fresh,
                cached_input=fresh if cached is None else cached,
                cache_write=fresh if written is None else written,
                output=output or 0,
            )
        )
    per_call = price.requests_kcount
    return TokenPrices(tuple(bands), round(per_call / 1000 * PICO) if isinstance(per_call, Decimal) else 0)


def _in_band(price: Decimal | TieredPrices | None, above: int) -> int | None:
    """Return the picodollars per token of calls with more than `above` prompt tokens."""
    if price is None:
        return None
    if not isinstance(price, Decimal):  # tiers, by their start
        price = next((tier.price for tier in reversed(price.tiers) if tier.start <= above), price.base)
    return round(price * PICO / _TOKENS)


def exact(value: Any) -> Decimal:
    """Return a number as it was written; -1 for what is none, or above all that a setting can be."""
    is_one = value.is_finite() if isinstance(value, Decimal) else is_number(value)
    return Decimal(str(value)) if is_one and abs(value) <= LARGEST else Decimal(-1)


def _per_token(name: str, value: Any) -> int:
    amount = exact(value)
    if not 0 <= amount <= _DEAREST:
        raise ConfigError(
            f"prices[{name!r}] must be US dollars per million tokens, from 0 to {_DEAREST:,}, not {shown(value)}"
        )
    return round(amount * PICO / _TOKENS)
