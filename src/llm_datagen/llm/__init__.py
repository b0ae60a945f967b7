"""Operators that call language models through an OpenAI-compatible HTTP endpoint.

Layout:
    operator.py      LLMOperator: a row in, a row with the model's answer out
    conversation.py  the messages of a row
    turns.py         what a prompt is made of
    images.py        images by URL or file
    prompts.py       Jinja2 templates over a row
    asking.py        asks, reads the answer, has it repaired
    provenance.py    where an answer comes from: the column _meta
    schemas.py       what an answer must look like, and the columns that it becomes
    jsonschemas.py   JSON schemas, checked
    chat.py          what a call is, and what makes one: the protocol of callers
    callers.py       an operator's caller, put together
    retrying.py      tries again
    pool.py          which endpoint a call goes to
    member.py        an endpoint of a pool
    health.py        whether an endpoint answers: the circuit breaker
    gate.py          lets nothing but probes through to an endpoint that is down
    outage.py        no endpoint answers: calls wait, and the run fails in the end
    endpoints.py     what a user says of an endpoint
    metered.py       what each try costs, and whether the run may spend that
    budget.py        what a run may spend, and the most that a call can cost
    ledger.py        what a run has spent, and what calls in flight may
    ledgerfile.py    the file of that
    limited.py       holds calls back until the endpoint's limits have room
    limiter.py       who may call an endpoint now
    limiters.py      all callers of the process share them
    ceiling.py       how many calls may be in flight
    allowance.py     what an endpoint has said is left
    headers.py       how it says so
    window.py        what was sent within the last minute
    estimate.py      how many tokens a call may use
    waiting.py       waits that a cancel ends
    prices.py        what tokens cost
    client.py        one HTTP call
    adapters.py      what providers do differently, and chat completions
    anthropic.py     Anthropic's Messages API
    imports.py       things named as module:Name
    journal.py       answers that were paid for are kept
    journalfile.py   the file that they are kept in
    cassette.py      calls recorded and played again, for tests
    cassettefile.py  the file that they are recorded in
    watching.py      calls noted, for a preview
    errors.py        what can go wrong with a call

Needs the extra ``llm`` (aiohttp, genai-prices, Jinja2, jsonschema, pydantic).
"""

try:
    from llm_datagen.llm.adapters import ChatAdapter, OpenAIAdapter, Reply
    from llm_datagen.llm.operator import LLMOperator
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("llm_datagen"):
        raise
    raise ModuleNotFoundError(
        f"llm_datagen.llm needs {error.name}: pip install 'llm-datagen[llm]'", name=error.name
    ) from error

from llm_datagen.llm.chat import ChatRequest
from llm_datagen.llm.errors import (
    BudgetError,
    EndpointRefusedError,
    JournalError,
    LLMAnswerError,
    LLMCancelledError,
    LLMError,
    LLMRequestError,
    OutageError,
    PromptError,
)

__all__ = [
    "BudgetError",
    "ChatAdapter",
    "ChatRequest",
    "EndpointRefusedError",
    "JournalError",
    "LLMAnswerError",
    "LLMCancelledError",
    "LLMError",
    "LLMOperator",
    "LLMRequestError",
    "OpenAIAdapter",
    "OutageError",
    "PromptError",
    "Reply",
]
