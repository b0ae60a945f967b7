"""Operators that call language models through an OpenAI-compatible HTTP endpoint.

Layout:
    operator.py   LLMOperator: a row in, a row with the model's answer out
    prompting/    the messages of a row: templates, several turns, images
    answers/      asks, reads the answer, has it repaired; schemas; the column _meta
    chat.py       what a call is, and what makes one: the protocol of callers
    callers.py    an operator's caller, put together of these layers:
    kept/         the cache (and cassettes, for tests)
    pools/        tries again; which endpoint is asked; outages
    limits/       holds calls back until the endpoint's limits have room
    money/        what each try costs, and whether the run may spend that
    http/         one HTTP call, and what providers do differently
    endpoints.py  what a user says of an endpoint
    waiting.py    waits that a cancel ends
    imports.py    things named as module:Name
    endings.py    why a model stopped, and what that makes of its answer
    errors.py     what can go wrong with a call

Needs the extra ``llm`` (aiohttp, genai-prices, Jinja2, jsonschema, pydantic).
"""

try:
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
    "BudgetError",
    "CacheError",
    "ChatAdapter",
    "ChatRequest",
    "ColumnExistsError",
    "EndpointRefusedError",
    "LLMAnswerError",
    "LLMCancelledError",
    "LLMError",
    "LLMOperator",
    "LLMRequestError",
    "LocalResourceError",
    "OpenAIAdapter",
    "OutageError",
    "PromptError",
    "Reply",
]
