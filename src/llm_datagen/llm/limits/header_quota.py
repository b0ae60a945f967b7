"""What an endpoint has said is left of its limits, and what was sent since."""

from __future__ import annotations

import math

from llm_datagen.llm.limits.headers import Left

MAX_RESET_SECONDS = 600.0
"""The longest hold: what is there again later is a used-up quota, and the endpoint's own error says so."""


class HeaderQuota:
    """How much may be sent by what the endpoint has said: of requests, or of tokens. Not safe for several threads.

    An answer says what was left when its call was booked. What was sent after that call may have been booked or not;
    it is taken off, so that the endpoint is never asked for more than it has. When nothing is left, the calls wait
    for the reset, or for an answer that says otherwise.
    """

    def __init__(self) -> None:
        self._heard_of = -1
        self._left = math.inf
        self._limit = math.inf
        self._reset_at = math.inf

    @property
    def is_known(self) -> bool:
        """Whether the endpoint has said anything."""
        return self._heard_of >= 0

    def hear(self, left: Left, *, call: int, sent_since: int, now: float) -> None:
        """Take note of what the endpoint said.

        Args:
            left: what it said.
            call: the number of the call whose answer said so; news of earlier calls than the latest is no news.
            sent_since: what was sent after that call.
            now: the moment.
        """
        if call <= self._heard_of or left.reset > MAX_RESET_SECONDS:
            return
        self._heard_of = call
        self._left = left.remaining - sent_since
        self._limit = math.inf if left.limit is None else left.limit
        self._reset_at = now + left.reset

    def spend(self, amount: int) -> None:
        """Take note that so much is sent now."""
        self._left -= amount

    def room_at(self, amount: int, now: float) -> float:
        """Return when so much may be sent: now, or at the reset."""
        if now >= self._reset_at:  # all of it is there again
            self._left, self._reset_at = self._limit, math.inf
        if min(amount, self._limit) <= self._left:
            return now
        return self._reset_at
