"""How a call is made: the layers that it walks through, from the operator to the network.

    ObserverLayer            notes it, for a preview and a plan
    CacheLayer               answers it, if its answer is stored; stores a new answer before anyone sees it
    BatchLayer               of embeddings: makes calls that come together as one request
    RetryLayer               repeats it after a transient error
    Pool                     chooses an endpoint, and the next one when that fails; while all are down, calls wait
      Member                 puts the endpoint's own model and params in; probes it while it is down
      LimitLayer             waits for calls and tokens per minute, and for a place among the calls in flight
      CostLayer              reserves the most that the try can cost, settles what it did cost, and reports it
      CircuitBreakerLayer    while the endpoint is down, lets nothing through but probes
      ListenedLayer          tells of it who listens to the run: a tracer
      CassetteLayer          records it, or plays it, for tests
      StructuredLayer        asks for JSON in the best way that the endpoint knows (VectorLayer, ScoreLayer: of others)
      HttpTransport          makes one HTTP request; or EngineTransport has a worker of this process make the call

With `batch_api`, calls are rows of jobs (`batch/`):

    JobsLayer                around the pool: names a call, so that it is found again in the job log
    FallbackLayer            in a member: makes a plain call, by the layers above, of what a job gave no answer for
    BatchTransport           below ListenedLayer and StructuredLayer: puts a call into a job, reserves what it can cost

The order is what the guarantees need: a cached answer costs neither a limit nor a reservation; each try may cost, so
the budget is inside the retries; what waited for a limit or for the budget is not sent to an endpoint that went down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from yarl import URL

from llm_datagen.config import check_choice, check_count, check_local_path, check_seconds, check_whole
from llm_datagen.errors import ConfigError
from llm_datagen.llm.batch.options import Batch
from llm_datagen.llm.cache.cassette import has_cassette, plays_only, with_cassette
from llm_datagen.llm.cache.response_cache import CacheLayer
from llm_datagen.llm.cost.budget import Budget
from llm_datagen.llm.cost.layer import CostLayer
from llm_datagen.llm.cost.prices import given_prices
from llm_datagen.llm.endpoints import Endpoint, identity_of
from llm_datagen.llm.engines.options import Engine
from llm_datagen.llm.engines.transport import EngineTransport
from llm_datagen.llm.grants.environment import fixed_share, service_address
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.client import HttpTransport
from llm_datagen.llm.http.redaction import Redaction
from llm_datagen.llm.http.streaming.options import Stream
from llm_datagen.llm.http.structured import StructuredLayer
from llm_datagen.llm.http.structured_modes import Mode
from llm_datagen.llm.limits.layer import LimitLayer
from llm_datagen.llm.listened import ListenedLayer
from llm_datagen.llm.observer import is_observed, with_observer
from llm_datagen.llm.pool.circuit_breaker import CircuitBreaker, CircuitBreakerLayer
from llm_datagen.llm.pool.member import Member
from llm_datagen.llm.pool.pool import Pool, Strategy, check_outage_after
from llm_datagen.llm.pool.retry import RetryLayer
from llm_datagen.llm.sampling.together import Together
from llm_datagen.llm.secret import Secret
from llm_datagen.llm.transport import Transport

if TYPE_CHECKING:
    from llm_datagen.llm.batch.layers import JobsLayer
    from llm_datagen.llm.batch.node_jobs import NodeJobs
    from llm_datagen.llm.batch.transport import BatchTransport
    from llm_datagen.llm.embeddings.batching import Batching
    from llm_datagen.llm.grants.client import GrantsClient


class Stack(NamedTuple):
    """The layers of an operator.

    Attributes:
        transport: the outermost layer, which makes a call.
        cache: the layer that stores answers; None when there is none.
        together: asks for several answers by one request; None where that cannot be.
        jobs: the layer of calls that are rows of jobs; None when they are plain.
    """

    transport: Transport
    cache: CacheLayer | None
    together: Together | None
    jobs: JobsLayer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """How calls are made: the arguments of `LLMOperator` by these names, checked; and how many become one request."""

    strategy: Strategy
    max_retries: int
    retry_wait: float
    outage_after: float
    timeout: float
    max_response_bytes: int
    cache: Path | None
    structured: Mode | None = None
    batching: Batching | None = None
    stream: Stream | None = None
    batch_api: Batch | None = None

    @classmethod
    def checked(
        cls,
        *,
        strategy: Strategy,
        max_retries: int,
        retry_wait: float,
        outage_after: float,
        timeout: float,
        max_response_bytes: int,
        cache: str | None,
        structured: Mode | None = None,
        batching: Batching | None = None,
        stream: Stream | None = None,
        batch_api: Batch | None = None,
    ) -> Self:
        """Return the settings that a user gave.

        Raises:
            ConfigError: on a wrong value, or when nothing would be streamed, as all rows go into jobs.
        """
        if stream is not None and batch_api is not None and batch_api.fallback != "online":
            raise ConfigError(
                "give stream or batch_api, not both: rows in jobs are not streamed. (With "
                "batch_api={'fallback': 'online'}, the plain calls in the end are.)"
            )
        return cls(
            strategy=check_choice("strategy", strategy, Strategy),
            max_retries=check_whole("max_retries", max_retries),
            retry_wait=check_seconds("retry_wait", retry_wait),
            outage_after=check_outage_after(outage_after),
            timeout=check_seconds("timeout", timeout),
            max_response_bytes=check_count("max_response_bytes", max_response_bytes),
            cache=None if cache is None else Path(check_local_path("cache", cache)).absolute(),
            structured=structured,
            batching=batching,
            stream=stream,
            batch_api=batch_api,
        )


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
        calls = _transport(endpoint, key, settings)
        # Below the cassette: a request is found there whatever way it took.
        asked = _asked(calls, address, settings.structured)
        recorded = with_cassette(asked, pool=pool_identity, own=own_params)
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

    def job_member(endpoint: Endpoint, node: NodeJobs) -> Member:
        from llm_datagen.llm.batch.layers import FallbackLayer  # here: most operators send no jobs

        address, jobs = endpoint.address, _batch_transport(node, endpoint, settings, budget, grants)
        calls: Transport = ListenedLayer(_asked(jobs, address, settings.structured), address)
        if node.batch.fallback == "online":
            calls = FallbackLayer(calls, member(endpoint))
        return Member(endpoint, calls, pings=False, jobs=jobs)

    # Somebody waits for the end of calls that are observed; and those on a cassette are found whatever way they took.
    node = None if settings.batch_api is None or is_observed() or has_cassette() else _node_jobs(settings.batch_api)
    members = [member(each) if node is None else job_member(each, node) for each in endpoints]
    outage_after = 0.0 if is_observed() else settings.outage_after
    pool = Pool(members, strategy=settings.strategy, outage_after=outage_after)
    jobs = None if node is None else _jobs_layer(pool, node)
    retry = RetryLayer(
        jobs or pool, max_retries=settings.max_retries, retry_wait=settings.retry_wait, is_down=pool.is_down
    )
    # Which calls come together is left to chance, too: on a cassette, each is a request by itself.
    batching = None if has_cassette() else settings.batching
    calls = retry if batching is None else _batched(retry, batching)
    cache = None if settings.cache is None else CacheLayer(calls, settings.cache)
    most = min(1 if each.engine else each.address.adapter.most_choices for each in endpoints)
    is_free = jobs is None and not has_cassette()
    together = Together(with_observer(calls), most, cache) if most > 1 and is_free else None
    return Stack(with_observer(cache or calls), cache, together, jobs)


def job_transports(
    endpoints: Sequence[Endpoint], settings: StackSettings, budget: Budget | None, node: NodeJobs
) -> list[BatchTransport]:
    """Return only what goes on with the jobs of a node, not yet opened: one for each endpoint that has a batch API.

    Raises:
        ConfigError: when a key cannot be had.
    """
    share = fixed_share()
    budget = budget.share(share) if share is not None and budget is not None else budget
    grants = _grants_client()
    with_api = [each for each in endpoints if each.address.adapter.batch() is not None]
    return [_batch_transport(node, each, settings, budget, grants) for each in with_api]


def _batch_transport(
    node: NodeJobs, endpoint: Endpoint, settings: StackSettings, budget: Budget | None, grants: GrantsClient | None
) -> BatchTransport:
    from llm_datagen.llm.batch.stack import batch_transport  # here: most operators send no jobs

    return batch_transport(
        node,
        endpoint,
        endpoint.key(),
        timeout=endpoint.timeout or settings.timeout,
        max_response_bytes=endpoint.max_response_bytes or settings.max_response_bytes,
        max_retries=settings.max_retries,
        outage_after=settings.outage_after,
        budget=budget,
        grants=grants,
    )


def _node_jobs(batch: Batch) -> NodeJobs:
    from llm_datagen.llm.batch.node_jobs import NodeJobs

    return NodeJobs(batch)


def _jobs_layer(pool: Pool, node: NodeJobs) -> JobsLayer:
    from llm_datagen.llm.batch.layers import JobsLayer

    return JobsLayer(pool, node)


def _batched(calls: Transport, batching: Batching) -> Transport:
    from llm_datagen.llm.embeddings.batching import BatchLayer  # here, and in the next one: most operators need none

    return BatchLayer(calls, batching)


def _asked(calls: Transport, address: Address, mode: Mode | None) -> Transport:
    """Return what knows how an answer has to look, of what the adapter asks for."""
    match address.adapter.operation:
        case "embeddings":
            from llm_datagen.llm.embeddings.vectors import VectorLayer

            return VectorLayer(calls)
        case "rerank":
            from llm_datagen.llm.reranking.scores import ScoreLayer

            return ScoreLayer(calls)
        case _:
            return StructuredLayer(calls, address.adapter, label=address.label, mode=mode)


def _transport(endpoint: Endpoint, key: Secret | None, settings: StackSettings) -> Transport:
    """Return what makes the calls of an endpoint."""
    address, timeout = endpoint.address, endpoint.timeout or settings.timeout
    if isinstance(endpoint.engine, Engine):
        return EngineTransport(address, endpoint.engine, endpoint.model, timeout)
    by_library: Transport | None = address.adapter.transport(endpoint.base_url, address, key, timeout)
    if by_library is not None:
        return by_library
    most = endpoint.max_response_bytes or settings.max_response_bytes
    return HttpTransport(address, key, timeout, max_response_bytes=most, stream=settings.stream)


def _grants_client() -> GrantsClient | None:
    """Return what talks to the grants service; None when the environment names none."""
    address = service_address()
    if address is None:
        return None
    from llm_datagen.llm.grants.client import GrantsClient  # here: most runs share nothing

    return GrantsClient.of(address, Redaction(address.token, URL(address.url)).redacted)
