"""Puts together what makes calls rows of jobs at an endpoint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from llm_datagen.llm.batch.endpoint import EndpointJobs
from llm_datagen.llm.batch.endpoint_state import EndpointState, Place
from llm_datagen.llm.batch.money import RowMoney
from llm_datagen.llm.batch.node_jobs import NodeJobs
from llm_datagen.llm.batch.options import Batch
from llm_datagen.llm.batch.transport import BatchTransport
from llm_datagen.llm.cost.budget import Budget
from llm_datagen.llm.cost.prices import given_prices
from llm_datagen.llm.endpoints import Endpoint
from llm_datagen.llm.errors import LLMError
from llm_datagen.llm.http.answering import Answering
from llm_datagen.llm.http.api_client import ApiClient
from llm_datagen.llm.http.batch.base import BatchAdapter
from llm_datagen.llm.http.failures import Failures
from llm_datagen.llm.http.redaction import Redaction
from llm_datagen.llm.secret import Secret

if TYPE_CHECKING:
    from llm_datagen.llm.grants.client import GrantsClient


def price_share(batch: Batch, endpoints: Iterable[Endpoint]) -> float:
    """Return what rows of jobs cost, as a share of the plain price, at the dearest of some endpoints."""
    adapters = [each.address.adapter.batch() for each in endpoints]
    return max(_share(batch, adapter) for adapter in adapters if adapter is not None)


def _share(batch: Batch, adapter: BatchAdapter) -> float:
    return adapter.price_factor if batch.price is None else batch.price


def batch_transport(
    node: NodeJobs,
    endpoint: Endpoint,
    key: Secret | None,
    *,
    timeout: float,
    max_response_bytes: int,
    max_retries: int,
    outage_after: float,
    budget: Budget | None,
    grants: GrantsClient | None,
) -> BatchTransport:
    """Return what puts calls into jobs of an endpoint.

    Args:
        node: the jobs of the node.
        endpoint: the endpoint.
        key: sent with every request; None: none.
        timeout: seconds that a request may take to be answered.
        max_response_bytes: the longest answer.
        max_retries: how many jobs may follow the first one for a row without an answer.
        outage_after: seconds that the endpoint may not answer before the run fails.
        budget: what the run may spend in all; None for any amount.
        grants: talks to the grants service, when other processes share the budget.
    """
    address = endpoint.address
    adapter = address.adapter.batch()
    if adapter is None:
        raise LLMError(f"{type(address.adapter).__name__} has no batch API")
    failures = Failures(address, Redaction(key, address.url), timeout=timeout, max_response_bytes=max_response_bytes)
    http = ApiClient(address, key, timeout, max_response_bytes=max_response_bytes)
    share = _share(node.batch, adapter)
    money = RowMoney(address, prices=given_prices(endpoint.prices), share=share, budget=budget, grants=grants)
    place = Place(
        label=address.label,
        model=endpoint.model,
        adapter=adapter,
        http=http,
        answering=Answering(address, failures),
        outage_after=outage_after,
    )
    jobs = EndpointJobs(EndpointState(node, place, money))
    return BatchTransport(jobs, address.adapter, max_retries=max_retries, open_http=http.open, close_http=http.close)
