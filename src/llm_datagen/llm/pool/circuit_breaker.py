"""The circuit breaker of an endpoint: while it is open, no call goes there but probes."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from datetime import UTC, datetime

from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.transport import Layer, Transport
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.llm.waits import MAX_WAIT_SECONDS

FAILURES_BEFORE_PING = 5
"""Consecutive failures after which the endpoint is pinged."""

FIRST_PROBE_SECONDS = 0.5
MAX_PROBE_SECONDS = 30.0


class FailureKind(enum.Enum):
    """What a failed call says of its endpoint."""

    ANSWERS = enum.auto()
    """It answers: the request was wrong, or comes too early."""
    FAILS = enum.auto()
    """It failed: no connection, no answer in time, HTTP 5xx, a damaged body. The request may be the cause."""
    REFUSES = enum.auto()
    """It refuses every call, as far as this one shows: a wrong key, URL or model, a used-up quota."""
    NOT_REACHED = enum.auto()
    """The call did not get there, for a reason of this machine: nothing is known of the endpoint."""


_REFUSALS = (401, 402, 403, 404, 405, 407)


def failure_kind(error: LLMRequestError) -> FailureKind:
    """Return what a failed call says of its endpoint."""
    if error.is_local:
        return FailureKind.NOT_REACHED
    status = error.amounts_to
    if status is None:
        if error.may_pass:
            return FailureKind.FAILS
        # A certificate that cannot be checked; or, without a cause, a call that was not sent.
        return FailureKind.ANSWERS if error.__cause__ is None else FailureKind.REFUSES
    if status in _REFUSALS or 300 <= status < 400 or _is_quota(error):
        return FailureKind.REFUSES
    if status >= 500 or status == 408:
        return FailureKind.FAILS
    return FailureKind.ANSWERS


def _is_quota(error: LLMRequestError) -> bool:
    """Return whether a quota is used up: a limit that is not over in some minutes."""
    return error.amounts_to == 429 and (not error.may_pass or (error.retry_after or 0.0) > MAX_WAIT_SECONDS)


class CircuitBreaker:
    """What is known of an endpoint by how its calls went. Used on one event loop.

    It is closed, and lets every call through, until a ping has failed. While it is open, one call at a time may go
    through as a probe, at intervals that double from half a second to 30 seconds. An answer closes it.

    Attributes:
        is_open: whether no call but a probe may go through: the endpoint is down.
        openings: how often it has opened: it tells calls that were sent before from those that were sent since.
        error: the call that opened it.
        last_error: how the last call or ping went that failed; None when an answer has come since.
        tries: how many calls and pings have failed since the last answer.
        refuses: whether the endpoint refuses every call, so that waiting does not help.
        since: when it opened, a monotonic time in seconds.
        since_time: the same by the clock of this machine.

    Args:
        clock: returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._interval = FIRST_PROBE_SECONDS
        self._next_probe = 0.0
        self._is_probed = False
        self.is_open = False
        self.openings = 0
        self.refuses = False
        self.error: LLMRequestError | None = None
        self.last_error: LLMRequestError | None = None
        self.tries = 0
        self.since = 0.0
        self.since_time = datetime.now(UTC)

    def record_answer(self, sent_at: int) -> bool:
        """Close it: the endpoint has answered, whatever it said. Returns whether it was open.

        An answer to a call that was sent before it opened shows nothing of the endpoint as it is now.

        Args:
            sent_at: how often it had opened when the call was sent.
        """
        if sent_at < self.openings and self.is_open:
            return False
        was_open = self.is_open
        self.tries = 0
        self._interval = FIRST_PROBE_SECONDS
        self.is_open = self.refuses = False
        self.error = self.last_error = None
        return was_open

    def record_failure(self, error: LLMRequestError) -> bool:
        """Count a failed call. Returns whether there were enough of them for a ping."""
        self.tries += 1
        self.last_error = error
        return not self.is_open and self.tries >= FAILURES_BEFORE_PING

    def trip(self, error: LLMRequestError, ping: LLMRequestError) -> bool:
        """Open it, or keep it open. Returns whether it was closed before.

        Args:
            error: how a call went.
            ping: how the ping went that followed.
        """
        was_closed = not self.is_open
        self.refuses = failure_kind(ping) is FailureKind.REFUSES
        self.tries += ping is not self.last_error  # many may wait for one ping
        self.error, self.last_error = error, ping
        if was_closed:
            self.is_open = True
            self.openings += 1
            self.since = self._clock()
            self.since_time = datetime.now(UTC)
            self._next_probe = self.since + self._interval
        return was_closed

    @property
    def since_text(self) -> str:
        """When it opened, for people."""
        return f"{self.since_time:%Y-%m-%d %H:%M:%S} UTC"

    @property
    def is_probe_due(self) -> bool:
        """Whether a probe may be made now. Always false while it is closed."""
        return self.is_open and not self._is_probed and self._clock() >= self._next_probe

    def begin_probe(self) -> None:
        """Begin a probe: there is no other one until `end_probe`."""
        self._is_probed = True

    def end_probe(self) -> None:
        """End the probe, in whatever way it went."""
        self._is_probed = False
        self._interval = min(2 * self._interval, MAX_PROBE_SECONDS)
        self._next_probe = self._clock() + self._interval


class CircuitBreakerLayer(Layer):
    """Sends nothing but probes while the breaker is open: also not what had waited for a limit, or for the budget.

    Args:
        inner: sends.
        breaker: of the endpoint.
    """

    def __init__(self, inner: Transport, breaker: CircuitBreaker) -> None:
        super().__init__(inner)
        self._breaker = breaker

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Send the request.

        Raises:
            LLMRequestError: when the endpoint is down, and this is no probe; it does not count as a try.
            LLMError: when there is no answer.
        """
        if self._breaker.is_open and not request.is_probe:
            error = LLMRequestError(
                f"the call of {request.row} was not sent: its endpoint is down", may_pass=True, is_free=True
            )
            error.follows_outage = True
            raise error
        return await self._inner.complete(request)
