"""Operators that call models: over HTTP, as rows of jobs of batch APIs, or in processes of this one.

Layout:
    operator.py        LLMOperator: a row in, a row with the model's answer out
    model_operator.py  what it has in common with other operators that call models: layers, new columns
    prompts/           the messages of a row: templates, several turns, images
    sampling/          the requests of a row: params by columns, seeds
    answers/           asks, reads the answer, has it repaired; schemas; the column _meta
    types.py           what a call is: its request and its answer
    transport.py       what makes a call: a transport, and layers around it
    embed.py           Embed: a row in, a row with the vector of a text out
    embeddings/        how vectors are asked for: APIs, many rows in a request, checks
    rerank.py          Rerank: a row in, a row with its documents in order out
    reranking/         how scores of documents are asked for: APIs, checks
    judge.py           Judge: a row in, a row with scores out, or with which of two texts is better
    judging/           how judges are asked, and what their answers become
    stack.py           the layers of an operator, from the outside to the network:
    observer.py        calls are noted, for a preview
    listened.py        tries of calls are told to a tracer
    cache/             the response cache (and cassettes, for tests)
    pool/              retries; which endpoint is asked; circuit breakers; outages
    limits/            delays calls until the endpoint's limits have room
    grants/            one budget and one limit over several processes
    batch/             calls as rows of jobs of a batch API
    cost/              what each try costs, and whether the run may spend that
    http/              one HTTP call, and what providers do differently
    engines/           models in processes of this one, in the place of HTTP
    litellm/           every other provider, by a library
    tools/             tools that a model may use, executed
    tool_calls.py      calls of tools in an answer
    endpoints.py       what a user says of an endpoint
    given_endpoints.py the endpoints of an operator: one, or a pool
    fingerprint.py     what the answers depend on
    secret.py          keys and tokens, wrapped
    waits.py           waits that a cancel ends
    import_string.py   things named as module:Name
    finish_reasons.py  why a model stopped, and what that makes of its answer
    errors.py          what can go wrong with a call

Needs the extra ``llm`` (aiohappyeyeballs, aiohttp, genai-prices, httptools, Jinja2, jsonschema, pydantic).
"""

from typing import TYPE_CHECKING

try:
    from llm_datagen.llm.batch.options import Batch
    from llm_datagen.llm.cost.budget import Budget
    from llm_datagen.llm.cost.prices import InputPrices, Prices
    from llm_datagen.llm.endpoints import Endpoint
    from llm_datagen.llm.engines.options import Engine
    from llm_datagen.llm.http.adapters import ChatAdapter, Reply
    from llm_datagen.llm.http.providers.openai import OpenAIAdapter
    from llm_datagen.llm.http.streaming.options import Stream
    from llm_datagen.llm.operator import LLMOperator
    from llm_datagen.llm.tools.mcp_options import McpServer
    from llm_datagen.llm.tools.options import Tool, Tools
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("llm_datagen"):
        raise
    raise ModuleNotFoundError(
        f"llm_datagen.llm needs the extra 'llm' ({error.name} is missing): pip install 'llm-datagen[llm]'",
        name=error.name,
    ) from error

from llm_datagen.errors.lazy import lazy_names
from llm_datagen.llm.errors import (
    BatchError,
    BudgetError,
    CacheError,
    ColumnExistsError,
    DimensionError,
    EndpointRefusedError,
    GrantsError,
    LLMAnswerError,
    LLMCancelledError,
    LLMError,
    LLMRequestError,
    LocalResourceError,
    McpServerError,
    OutageError,
    PromptError,
    ToolError,
    ToolLimitError,
    ToolsStuckError,
)
from llm_datagen.llm.types import ChatRequest

if TYPE_CHECKING:
    from llm_datagen.llm.embed import Embed
    from llm_datagen.llm.embeddings.adapters import EmbeddingAdapter
    from llm_datagen.llm.judge import Judge
    from llm_datagen.llm.rerank import Rerank
    from llm_datagen.llm.reranking.adapters import RerankAdapter

__all__ = [
    "Batch",
    "BatchError",
    "Budget",
    "BudgetError",
    "CacheError",
    "ChatAdapter",
    "ChatRequest",
    "ColumnExistsError",
    "DimensionError",
    "Embed",
    "EmbeddingAdapter",
    "Endpoint",
    "EndpointRefusedError",
    "Engine",
    "GrantsError",
    "InputPrices",
    "Judge",
    "LLMAnswerError",
    "LLMCancelledError",
    "LLMError",
    "LLMOperator",
    "LLMRequestError",
    "LocalResourceError",
    "McpServer",
    "McpServerError",
    "OpenAIAdapter",
    "OutageError",
    "Prices",
    "PromptError",
    "Reply",
    "Rerank",
    "RerankAdapter",
    "Stream",
    "Tool",
    "ToolError",
    "ToolLimitError",
    "Tools",
    "ToolsStuckError",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_names(
        __name__,
        {
            "embed": "Embed",
            "embeddings.adapters": "EmbeddingAdapter",
            "judge": "Judge",
            "rerank": "Rerank",
            "reranking.adapters": "RerankAdapter",
        },
    )
