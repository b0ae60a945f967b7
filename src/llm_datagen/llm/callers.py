"""How an operator's caller is put together: one layer for each concern around the HTTP call."""

from __future__ import annotations

from pydantic import SecretStr

from llm_datagen.llm.chat import ChatCaller
from llm_datagen.llm.client import Endpoint, HttpCaller


def build_caller(*, endpoint: Endpoint, api_key: SecretStr | None, timeout: float) -> ChatCaller:
    """Return the caller of an operator, not yet opened.

    Args:
        endpoint: where calls go.
        api_key: sent as a bearer token; None sends none.
        timeout: seconds that one try of a call may take in all.
    """
    return HttpCaller(endpoint, api_key, timeout)
