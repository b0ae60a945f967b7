"""How an operator's caller is put together: one layer for each concern around the HTTP call."""

from __future__ import annotations

from pydantic import SecretStr

from llm_datagen.llm.budget import Budget
from llm_datagen.llm.cassette import plays_only, taped
from llm_datagen.llm.chat import ChatCaller
from llm_datagen.llm.client import Endpoint, HttpCaller
from llm_datagen.llm.limited import LimitedCaller
from llm_datagen.llm.limiter import Limits
from llm_datagen.llm.metered import MeteredCaller
from llm_datagen.llm.prices import Prices
from llm_datagen.llm.retrying import RetryingCaller


def build_caller(
    *,
    endpoint: Endpoint,
    api_key: SecretStr | None,
    model: str,
    limits: Limits,
    timeout: float,
    max_retries: int,
    retry_wait: float,
    prices: Prices | None = None,
    budget: Budget | None = None,
) -> ChatCaller:
    """Return the caller of an operator, not yet opened.

    Args:
        endpoint: where calls go.
        api_key: sent as a bearer token; None sends none.
        model: the model that is asked.
        limits: what the endpoint allows within any minute.
        timeout: seconds that one try of a call may take in all.
        max_retries: how many tries may follow the first one of a call.
        retry_wait: seconds that the pause before the second try takes at most.
        prices: what a call costs there; None for what is known of the model.
        budget: what the run may spend in all; None for any amount.
    """
    http = taped(HttpCaller(endpoint, api_key, timeout))
    caller: ChatCaller = MeteredCaller(http, endpoint, prices=prices, budget=budget)
    if not plays_only():
        caller = LimitedCaller(caller, endpoint=endpoint.label, api_key=api_key, model=model, limits=limits)
    return RetryingCaller(caller, max_retries=max_retries, retry_wait=retry_wait) if max_retries else caller
