"""The health of an endpoint: the circuit breaker, which says whether calls may go there."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from datetime import UTC, datetime

from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.pool.retry import MAX_RETRY_AFTER_SECONDS

SUSPICIOUS = 5
"""So many failures in a row, with no answer between them, and the endpoint is asked whether it is there at all."""

FIRST_PROBE_SECONDS = 0.5
MAX_PROBE_SECONDS = 30.0


class Kind(enum.Enum):
    """What a failed call says of its endpoint."""

    ANSWERS = enum.auto()
    """It is there: the request was wrong, or comes too early."""
    FAILS = enum.auto()
    """It failed: no connection, no answer in time, HTTP 5xx, a damaged body. The request may be the cause."""
    REFUSES = enum.auto()
    """It lets nobody in, as far as this call shows: a wrong key, URL or model, a used-up quota."""
    UNASKED = enum.auto()
    """The call did not get there, for a reason of this machine: nothing is known of the endpoint."""


_REFUSALS = (401, 402, 403, 404, 405, 407)


def kind_of(error: LLMRequestError) -> Kind:
    """Return what a failed call says of its endpoint."""
    if error.is_local:
        return Kind.UNASKED
    status = error.amounts_to
    if status is None:
        if error.may_pass:
            return Kind.FAILS
        # A certificate that cannot be checked; or, without a cause, a call that was not sent.
        return Kind.ANSWERS if error.__cause__ is None else Kind.REFUSES
    if status in _REFUSALS or 300 <= status < 400 or _is_quota(error):
        return Kind.REFUSES
    if status >= 500 or status == 408:
        return Kind.FAILS
    return Kind.ANSWERS


def _is_quota(error: LLMRequestError) -> bool:
    """Return whether a quota is used up: a limit that is not over in some minutes."""
    return error.amounts_to == 429 and (not error.may_pass or (error.retry_after or 0.0) > MAX_RETRY_AFTER_SECONDS)


class CircuitBreaker:
    """What is known of an endpoint by how its calls went. Used on one event loop.

    It is *up* until somebody says that it is down, after a probe that failed. While it is down, one call at a time may
    go there as a probe, at intervals that double from half a second to 30 seconds.

    Attributes:
        is_down: whether no call but a probe may go there.
        error: the call for which it was found to be down.
        refuses: whether it is down because it lets nobody in, so that waiting does not help.
        since: when it went down, a monotonic time in seconds.
        since_text: the same for people, in UTC.

    Args:
        clock: returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._interval = FIRST_PROBE_SECONDS
        self._next_probe = 0.0
        self._is_probed = False
        self.is_down = False
        self.refuses = False
        self.error: LLMRequestError | None = None
        self.since = 0.0
        self.since_text = ""

    def answered(self) -> bool:
        """Take note that it has answered, whatever it said; returns whether it was down."""
        was_down = self.is_down
        self._failures = 0
        self._interval = FIRST_PROBE_SECONDS
        self.is_down = self.refuses = False
        self.error = None
        return was_down

    def failed(self) -> bool:
        """Take note that a call failed; returns whether that is often enough to ask it whether it is there."""
        self._failures += 1
        return not self.is_down and self._failures >= SUSPICIOUS

    def went_down(self, error: LLMRequestError, ping: LLMRequestError) -> bool:
        """Take note that it is down, or still is; returns whether that is new.

        Args:
            error: how a call went.
            ping: how the ping went that followed.
        """
        is_new = not self.is_down
        self.refuses = kind_of(ping) is Kind.REFUSES
        self.error = error
        if is_new:
            self.is_down = True
            self.since = self._clock()
            self.since_text = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
            self._next_probe = self.since + self._interval
        return is_new

    @property
    def is_due(self) -> bool:
        """Whether a probe may be made now. Always false while it is up."""
        return self.is_down and not self._is_probed and self._clock() >= self._next_probe

    def begin_probe(self) -> None:
        """Take note that a probe is being made: nobody else makes one until `end_probe`."""
        self._is_probed = True

    def end_probe(self) -> None:
        """Take note that the probe has ended, in whatever way."""
        self._is_probed = False
        self._interval = min(2 * self._interval, MAX_PROBE_SECONDS)
        self._next_probe = self._clock() + self._interval
