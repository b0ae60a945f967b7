"""A call that an engine is to make, as the pool and the workers share it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """What came of a call.

    Attributes:
        content: a completion of a chat, or an error, as JSON.
        seconds: since it was handed to a worker.
    """

    content: bytes
    seconds: float


@dataclass(eq=False, slots=True)
class EngineCall:
    """A call, and who waits for it.

    Attributes:
        body: the request.
        timeout: seconds that it may take once a worker has it.
        future: gets the outcome; a TimeoutError; a WorkerDiedError, when it kills its worker; or an EngineStoppedError.
        deaths: workers that died while they had it.
        sent: when a worker got it, a monotonic time.
        is_wanted: whether somebody waits for it.
    """

    body: Mapping[str, Any]
    timeout: float
    future: Future[Outcome] = field(default_factory=Future)
    deaths: int = 0
    sent: float = 0.0
    is_wanted: bool = True


class EngineStoppedError(Exception):
    """Raised when an engine has no worker any more: they died too often, or it is closed."""
