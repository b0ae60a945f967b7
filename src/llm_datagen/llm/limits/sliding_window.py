"""What was sent within the last minute: requests and tokens, exactly.

A call counts from the moment it is sent until a minute after it ended. The endpoint books it at some unknown moment
between the two: this way every minute of the endpoint's own has at most what is counted here at the moment at which its
last call was sent, whichever moments it goes by. The price: at calls of L seconds, 60 / (60 + L) of
the limit is used.
"""

from __future__ import annotations

import math
from collections import deque

WINDOW_SECONDS = 60.1
"""A minute, and a little for clocks that do not run at the same speed."""


class SlidingWindow:
    """Counts calls and their tokens. Not safe to use from several threads at once.

    Args:
        seconds: how long a call counts after its end.
    """

    def __init__(self, seconds: float = WINDOW_SECONDS) -> None:
        self._seconds = seconds
        self._ended: deque[tuple[float, int]] = deque()  # until when, tokens; in order
        self.in_flight = 0
        self.tokens = 0

    @property
    def requests(self) -> int:
        """Calls that count."""
        return self.in_flight + len(self._ended)

    def start(self, tokens: int) -> None:
        """Count a call that is sent now, with the tokens that it may use."""
        self.in_flight += 1
        self.tokens += tokens

    def end(self, reserved: int, used: int, now: float) -> None:
        """Count a call as ended, with what it really used. `now` must not run backwards."""
        self.in_flight -= 1
        self.tokens += used - reserved
        self._ended.append((now + self._seconds, used))

    def forget(self, now: float) -> None:
        """Drop what counts no longer."""
        ended = self._ended
        while ended and ended[0][0] <= now:
            self.tokens -= ended.popleft()[1]

    def room_at(self, tokens: int, now: float, *, max_requests: int | None, max_tokens: int | None) -> float:
        """Return when a call of so many tokens may be sent: `now`, or later, if no other is sent before it.

        Infinity when that depends on calls in flight. A call of more than `max_tokens` may be sent when nothing else
        counts.
        """
        self.forget(now)
        if max_requests is None and max_tokens is None:
            return now
        requests = 0 if max_requests is None else self.requests + 1 - max_requests
        excess = 0 if max_tokens is None else self.tokens + min(tokens - max_tokens, 0)
        if requests <= 0 and excess <= 0:
            return now
        for until, used in self._ended:
            requests -= 1
            excess -= used
            if requests <= 0 and excess <= 0:
                return until
        return math.inf
