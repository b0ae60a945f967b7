"""What an endpoint has said is left of its limits, and what was sent since."""

from __future__ import annotations

import math

from llm_datagen.llm.types import Quota
from llm_datagen.llm.waits import MAX_WAIT_SECONDS


class HeaderQuota:
    """How much may be sent by what the endpoint has said: of requests, or of tokens. Not safe for several threads.

    An answer says what was left when its call was booked. What was sent after that call may have been booked or not;
    it is subtracted, so that the endpoint is never asked for more than it has. When nothing is left, the calls wait
    for the reset, or for an answer that says otherwise.
    """

    def __init__(self) -> None:
        self._latest_call = -1
        self._remaining = math.inf
        self._limit = math.inf
        self._reset_at = math.inf

    @property
    def is_known(self) -> bool:
        """Whether the endpoint has said anything."""
        return self._latest_call >= 0

    def update(self, quota: Quota, *, call: int, sent_since: int, now: float) -> None:
        """Take what the endpoint has said.

        Args:
            quota: what it said.
            call: the number of the call whose answer said so; what earlier calls than the latest say does not count.
            sent_since: what was sent after that call.
            now: the moment.
        """
        if call <= self._latest_call or quota.reset > MAX_WAIT_SECONDS:
            return
        self._latest_call = call
        self._remaining = quota.remaining - sent_since
        self._limit = math.inf if quota.limit is None else quota.limit
        self._reset_at = now + quota.reset

    def spend(self, amount: int) -> None:
        """Subtract what is sent now."""
        self._remaining -= amount

    def room_at(self, amount: int, now: float) -> float:
        """Return when so much may be sent: now, or at the reset."""
        if now >= self._reset_at:  # all of it is there again
            self._remaining, self._reset_at = self._limit, math.inf
        if amount <= self._remaining or self._limit <= self._remaining:
            return now
        return self._reset_at
