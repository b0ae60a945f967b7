"""What a limiter and its callers hand to each other: a place in the queue, a permit, and how the call ended."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from llm_datagen.llm.types import RateLimits


@dataclass(slots=True, eq=False)
class Permit:
    """The permit for one call. Give it back by `Limiter.leave`.

    Attributes:
        tokens: that the call may use.
        number: of the call, from 0.
        tokens_before: that all calls up to this one were let through with.
        sent_at: when that was.
        is_shared: whether it was made with units of a limit that other processes share.
    """

    tokens: int
    number: int
    tokens_before: int
    sent_at: float
    is_shared: bool = False


class CallOutcome(NamedTuple):
    """How a call ended.

    Attributes:
        used: its tokens; None when not said: then what it might have used counts.
        is_answered: whether there is an answer.
        is_throttled: whether the endpoint answered 429.
        retry_after: seconds that it asked to wait.
        left: what it said is left of its limits.
    """

    used: int | None = None
    is_answered: bool = False
    is_throttled: bool = False
    retry_after: float | None = None
    left: RateLimits | None = None


UNKNOWN_OUTCOME = CallOutcome()
"""That of a call of which nothing came back."""


class Waiter:
    """A place in the queue.

    Args:
        tokens: that the call may use.
        wake: called when `Limiter.turn` is worth asking again, from any thread; raises RuntimeError when nobody
            waits any more.
    """

    __slots__ = ("asks_at", "tokens", "wake")

    def __init__(self, tokens: int, wake: Callable[[], object]) -> None:
        self.tokens = tokens
        self.wake = wake
        self.asks_at = math.inf
