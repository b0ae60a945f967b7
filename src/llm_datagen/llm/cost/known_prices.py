"""What is known of the prices of models: by the package genai-prices, which is data and makes no request."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from yarl import URL

from llm_datagen.llm.cost.prices import TOKENS, Band, TokenPrices
from llm_datagen.llm.http.address import LOOPBACK
from llm_datagen.runs.usage import PICO

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, TieredPrices

_FRESH_SECONDS = 60.0
_NOT_KNOWN = ("output_reasoning_mtok", "output_citation_mtok", "input_mchars", "input_text_messages_kcount")
"""Prices of what endpoints do not report in the usage of a chat: a model that has one of them has no price here."""


class PriceList:
    """The prices of the models of one endpoint. Used on one thread.

    Args:
        url: where the calls go.
        given: what every model costs there; None for what is known. That changes on some days, and at some hours: it is
            looked up again each minute.
        of_library: returns what the library that makes the calls knows of a model; None for nothing.
    """

    def __init__(
        self,
        url: str,
        given: TokenPrices | None = None,
        *,
        of_library: Callable[[str], TokenPrices | None] | None = None,
    ) -> None:
        self._url = url
        self._given = given
        self._of_library = of_library
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
            prices = None if self._of_library is None else self._of_library(model)
            prices = prices or known_prices(model, self._url, service_tier=service_tier)
            self._known[model, service_tier] = now, prices
        return prices


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
    # Where it is not said which of the two a write into the cache was, the dearer one is taken.
    write, short = price.cache_write_1h_mtok or price.cache_write_mtok, price.cache_write_mtok
    asked = (price.input_mtok, price.cache_read_mtok, write, short, price.output_mtok)
    tiers = {tier.start for each in asked for tier in getattr(each, "tiers", ())}
    bands = []
    for above in [-1, *sorted(tiers)]:
        fresh, cached, written, written_5m, output = (_in_band(each, above) for each in asked)
        assert fresh is not None
        bands.append(
            Band(
                above,
                fresh,
                cached_input=fresh if cached is None else cached,
                cache_write=fresh if written is None else written,
                cache_write_5m=fresh if written_5m is None else written_5m,
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
    return round(price * PICO / TOKENS)
