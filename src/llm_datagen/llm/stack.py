"""How an operator's caller is put together: one layer for each concern around the HTTP call."""

from __future__ import annotations

from collections.abc import Sequence

from llm_datagen.llm.cache.cassette import plays_only, taped
from llm_datagen.llm.cost.budget import Budget
from llm_datagen.llm.cost.layer import CostLayer
from llm_datagen.llm.cost.prices import given_prices
from llm_datagen.llm.endpoints import EndpointSpec, identity_of
from llm_datagen.llm.http.client import HttpTransport
from llm_datagen.llm.http.structured import StructuredLayer
from llm_datagen.llm.http.structured_modes import Mode
from llm_datagen.llm.limits.layer import LimitLayer
from llm_datagen.llm.limits.limiter import checked_limits
from llm_datagen.llm.pool.circuit_breaker import CircuitBreaker
from llm_datagen.llm.pool.gate import CircuitBreakerLayer
from llm_datagen.llm.pool.member import Member
from llm_datagen.llm.pool.pool import Pool, Strategy
from llm_datagen.llm.pool.retry import RetryLayer
from llm_datagen.llm.types import Transport


def build_stack(
    endpoints: Sequence[EndpointSpec],
    *,
    strategy: Strategy = "weighted",
    max_retries: int,
    retry_wait: float,
    outage_after: float,
    budget: Budget | None = None,
    structured: Mode | None = None,
) -> Transport:
    """Return the caller of an operator, not yet opened.

    Args:
        endpoints: where calls go; a single one is a pool of one.
        strategy: how the pool chooses among them.
        max_retries: how many tries may follow the first one of a call.
        retry_wait: seconds that the pause before the second try takes at most.
        outage_after: seconds that all endpoints may be down before the run fails.
        budget: what the run may spend in all; None for any amount.
        structured: the only way to ask for JSON; None: the best that each endpoint knows.

    Raises:
        ConfigError: when a key cannot be had.
    """
    members = [_member(spec, budget, endpoints, structured) for spec in endpoints]
    pool = Pool(members, strategy=strategy, outage_after=outage_after)
    return RetryLayer(pool, max_retries=max_retries, retry_wait=retry_wait, is_down=pool.is_down)


def _member(spec: EndpointSpec, budget: Budget | None, pool: Sequence[EndpointSpec], structured: Mode | None) -> Member:
    """Return a member of the pool, not yet opened. What makes one try there is put together from the inside out."""
    key = None if plays_only() else spec.key()
    # Whose turn it is when calls are played is left to chance: they are found by what stands for the pool.
    own = {name for each in pool for name in each.params}
    http = HttpTransport(spec.endpoint, key, spec.timeout, max_response_bytes=spec.max_response_bytes)
    # Below the cassette: a request is found there whatever way it took.
    asking = StructuredLayer(http, spec.endpoint.adapter, label=spec.endpoint.label, mode=structured)
    caller = taped(asking, pool=identity_of(pool), own=own)
    health = CircuitBreaker()
    caller = CircuitBreakerLayer(caller, health)
    caller = CostLayer(caller, spec.endpoint, prices=given_prices(spec.prices), budget=budget)
    if plays_only():
        return Member(spec, caller, health=health, pings=False)
    limits = checked_limits(spec.requests_per_minute, spec.tokens_per_minute)
    limited = LimitLayer(caller, endpoint=spec.endpoint.label, api_key=key, model=spec.model, limits=limits)
    return Member(spec, limited, health=health, limited=limited)
