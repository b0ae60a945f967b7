"""Operators that call language models through an OpenAI-compatible HTTP endpoint.

Layout:
    operator.py       LLMOperator: a row in, a row with the model's answer out
    prompts/          the messages of a row: templates, several turns, images
    answers/          asks, reads the answer, has it repaired; schemas; the column _meta
    types.py          what a call is: its request and its answer
    transport.py      what makes a call: a transport, and layers around it
    stack.py          the layers of an operator, from the outside to the network:
    observer.py       calls are noted, for a preview
    listened.py       tries of calls are told to a tracer
    cache/            the response cache (and cassettes, for tests)
    pool/             retries; which endpoint is asked; circuit breakers; outages
    limits/           delays calls until the endpoint's limits have room
    grants/           one budget and one limit over several processes
    cost/             what each try costs, and whether the run may spend that
    http/             one HTTP call, and what providers do differently
    endpoints.py      what a user says of an endpoint
    fingerprint.py    what the answers depend on
    waits.py          waits that a cancel ends
    import_string.py  things named as module:Name
    finish_reasons.py why a model stopped, and what that makes of its answer
    errors.py         what can go wrong with a call

Needs the extra ``llm`` (aiohttp, genai-prices, Jinja2, jsonschema, pydantic).
"""

try:
    from llm_datagen.llm.cost.budget import Budget
    from llm_datagen.llm.cost.prices import Prices
    from llm_datagen.llm.endpoints import Endpoint
    from llm_datagen.llm.http.adapters import ChatAdapter, OpenAIAdapter, Reply
    from llm_datagen.llm.operator import LLMOperator
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("llm_datagen"):
        raise
    raise ModuleNotFoundError(
        f"llm_datagen.llm needs the extra 'llm' ({error.name} is missing): pip install 'llm-datagen[llm]'",
        name=error.name,
    ) from error

from llm_datagen.llm.errors import (
    BudgetError,
    CacheError,
    ColumnExistsError,
    EndpointRefusedError,
    GrantsError,
    LLMAnswerError,
    LLMCancelledError,
    LLMError,
    LLMRequestError,
    LocalResourceError,
    OutageError,
    PromptError,
)
from llm_datagen.llm.types import ChatRequest

__all__ = [
    "Budget",
    "BudgetError",
    "CacheError",
    "ChatAdapter",
    "ChatRequest",
    "ColumnExistsError",
    "Endpoint",
    "EndpointRefusedError",
    "GrantsError",
    "LLMAnswerError",
    "LLMCancelledError",
    "LLMError",
    "LLMOperator",
    "LLMRequestError",
    "LocalResourceError",
    "OpenAIAdapter",
    "OutageError",
    "Prices",
    "PromptError",
    "Reply",
]
