"""How a call is made: the layers that it walks through, from the operator to the network.

    ObserverLayer            notes it, for a preview and a plan
    CacheLayer               answers it, if its answer is stored; stores a new answer before anyone sees it
    RetryLayer               repeats it after a transient error
    Pool                     chooses an endpoint, and the next one when that fails; while all are down, calls wait
      Member                 puts the endpoint's own model and params in; probes it while it is down
      LimitLayer             waits for calls and tokens per minute, and for a place among the calls in flight
      CostLayer              reserves the most that the try can cost, settles what it did cost, and reports it
      CircuitBreakerLayer    while the endpoint is down, lets nothing through but probes
      ListenedLayer          tells of it who listens to the run: a tracer
      CassetteLayer          records it, or plays it, for tests
      StructuredLayer        asks for JSON in the best way that the endpoint knows
      HttpTransport          makes one HTTP request

The order is what the guarantees need: a cached answer costs neither a limit nor a reservation; each try may cost, so
the budget is inside the retries; what waited for a limit or for the budget is not sent to an endpoint that went down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from yarl import URL

from llm_datagen.llm.cache.cassette import plays_only, with_cassette
from llm_datagen.llm.cache.response_cache import CacheLayer
from llm_datagen.llm.cost.budget import Budget
from llm_datagen.llm.cost.layer import CostLayer
from llm_datagen.llm.cost.prices import given_prices
from llm_datagen.llm.endpoints import Endpoint, identity_of
from llm_datagen.llm.grants.client import GrantsClient
from llm_datagen.llm.grants.environment import fixed_share, service_address
from llm_datagen.llm.http.client import HttpTransport
from llm_datagen.llm.http.redaction import Redaction
from llm_datagen.llm.http.structured import StructuredLayer
from llm_datagen.llm.http.structured_modes import Mode
from llm_datagen.llm.limits.layer import LimitLayer
from llm_datagen.llm.listened import ListenedLayer
from llm_datagen.llm.observer import is_observed, with_observer
from llm_datagen.llm.pool.circuit_breaker import CircuitBreaker, CircuitBreakerLayer
from llm_datagen.llm.pool.member import Member
from llm_datagen.llm.pool.pool import Pool, Strategy
from llm_datagen.llm.pool.retry import RetryLayer
from llm_datagen.llm.transport import Transport


class Stack(NamedTuple):
    """The layers of an operator.

    Attributes:
        transport: the outermost layer, which makes a call.
        cache: the layer that stores answers; None when there is none.
    """

    transport: Transport
    cache: CacheLayer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """How calls are made: the arguments of `LLMOperator` by these names, checked."""

    strategy: Strategy
    max_retries: int
    retry_wait: float
    outage_after: float
    timeout: float
    max_response_bytes: int
    structured: Mode | None
    cache: Path | None


def build_stack(endpoints: Sequence[Endpoint], settings: StackSettings, budget: Budget | None) -> Stack:
    """Return the layers of an operator, not yet opened.

    Args:
        endpoints: where calls go; a single one is a pool of one.
        settings: how they are made. Where calls are observed, `outage_after` is 0, because somebody waits for the end.
        budget: what the run may spend in all; None for any amount.

    Raises:
        ConfigError: when a key cannot be had.
    """
    # Whose turn it is when calls are played is left to chance: they are found by what stands for the pool.
    grants, share = _grants_client(), fixed_share()
    if share is not None and budget is not None:
        budget = budget.share(share)
    pool_identity, own_params = identity_of(endpoints), {name for each in endpoints for name in each.params}

    def member(endpoint: Endpoint) -> Member:  # from the inside out
        address, key = endpoint.address, None if plays_only() else endpoint.key()
        http = HttpTransport(
            address,
            key,
            endpoint.timeout or settings.timeout,
            max_response_bytes=endpoint.max_response_bytes or settings.max_response_bytes,
        )
        # Below the cassette: a request is found there whatever way it took.
        structured = StructuredLayer(http, address.adapter, label=address.label, mode=settings.structured)
        recorded = with_cassette(structured, pool=pool_identity, own=own_params)
        breaker = CircuitBreaker()
        breaking = CircuitBreakerLayer(ListenedLayer(recorded, address), breaker)
        costed = CostLayer(breaking, address, prices=given_prices(endpoint.prices), budget=budget, grants=grants)
        if plays_only():
            return Member(endpoint, costed, breaker=breaker, pings=False)
        limited = LimitLayer(
            costed,
            endpoint=address.label,
            api_key=key,
            model=endpoint.model,
            limits=endpoint.limits if share is None else endpoint.limits.share(share),
            grants=grants,
            call_seconds=endpoint.timeout or settings.timeout,
            notice="" if share is None else f"limits and budgets: this process has the share {share} of them, fixed",
        )
        return Member(endpoint, limited, breaker=breaker, limited=limited)

    members = list(map(member, endpoints))
    outage_after = 0.0 if is_observed() else settings.outage_after
    pool = Pool(members, strategy=settings.strategy, outage_after=outage_after)
    retry = RetryLayer(pool, max_retries=settings.max_retries, retry_wait=settings.retry_wait, is_down=pool.is_down)
    cache = None if settings.cache is None else CacheLayer(retry, settings.cache)
    return Stack(with_observer(cache or retry), cache)


def _grants_client() -> GrantsClient | None:
    """Return what talks to the grants service; None when the environment names none."""
    address = service_address()
    if address is None:
        return None
    return GrantsClient.of(address, Redaction(address.token, URL(address.url)).redacted)
