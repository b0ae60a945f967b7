"""The limiter of an endpoint: which call may be made now.

Calls queue, and the first in the queue goes first: a large call is not overtaken by small ones. A limiter has
no thread and no timer. The first in the queue learns how long to wait, and is woken when it may go earlier.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic import SecretStr

from llm_datagen.config import check_count
from llm_datagen.llm.limits.adaptive_concurrency import AdaptiveConcurrency
from llm_datagen.llm.limits.header_quota import HeaderQuota
from llm_datagen.llm.limits.sliding_window import WINDOW_SECONDS, SlidingWindow
from llm_datagen.llm.types import RateLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an endpoint allows within any minute.

    Attributes:
        requests_per_minute: calls; None: as many as are wanted.
        tokens_per_minute: tokens of prompts and answers together; None: as many as are wanted.

    Raises:
        ConfigError: when one is no whole number, 1 or more, and not None.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))


@dataclass(slots=True, eq=False)
class Permit:
    """The permit for one call. Give it back by `Limiter.leave`.

    Attributes:
        tokens: that the call may use.
        number: of the call, from 0.
        tokens_before: that all calls up to this one were let through with.
        sent_at: when that was.
    """

    tokens: int
    number: int
    tokens_before: int
    sent_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOutcome:
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


class Limiter:
    """Lets calls begin in order, within the limits. Any thread may use it.

    Args:
        clock: seconds, never backwards.
        window: how long a call counts after its end, in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, window: float = WINDOW_SECONDS) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._window = SlidingWindow(window)
        self._concurrency = AdaptiveConcurrency()
        self._request_quota, self._token_quota = HeaderQuota(), HeaderQuota()
        self._sent = self._sent_tokens = 0
        self._queue: deque[Waiter] = deque()
        self._given: list[Limits] = []
        self.limits = Limits()

    @property
    def counts_tokens(self) -> bool:
        """Whether there is a limit of tokens, so that calls have to say how many they may use."""
        return self.limits.tokens_per_minute is not None or self._token_quota.is_known

    def attach(self, limits: Limits) -> None:
        """Keep to `limits`, too: of several layers' limits, the lowest ones hold for all."""
        with self._lock:
            self._given.append(limits)
            self._merge()

    def detach(self, limits: Limits) -> None:
        """Keep to `limits` no more: the layer that gave them is closed."""
        with self._lock:
            self._given.remove(limits)
            self._merge()
            self._wake_first()

    def is_idle(self) -> bool:
        """Return whether it can be forgotten: no layer is attached, and nothing was sent within the last minute."""
        with self._lock:
            self._window.forget(self._clock())
            return not (self._given or self._queue or self._window.requests)

    def has_room(self, tokens: int) -> bool:
        """Return whether a call could be made now."""
        with self._lock:
            now = self._clock()
            return not self._queue and self._room_at(tokens, now) <= now

    def enter(self, tokens: int) -> Permit | None:
        """Return the permit for a call now; None when it has to queue."""
        with self._lock:
            now = self._clock()
            return None if self._queue or self._room_at(tokens, now) > now else self._admit(tokens, now)

    def queue(self, waiter: Waiter, *, is_first: bool = False) -> None:
        """Take a place in the queue; the first one, for what others wait to know."""
        with self._lock:
            if is_first:
                self._queue.appendleft(waiter)
            else:
                self._queue.append(waiter)

    def turn(self, waiter: Waiter) -> Permit | float:
        """Return the permit for the call; or the seconds to wait, or to be woken earlier, before asking again.

        Infinity: until woken.
        """
        with self._lock:
            if self._queue[0] is not waiter:
                return math.inf
            now = self._clock()
            waiter.asks_at = self._room_at(waiter.tokens, now)
            if waiter.asks_at > now:
                return waiter.asks_at - now
            self._queue.popleft()
            permit = self._admit(waiter.tokens, now)
            self._wake_first()
            return permit

    def give_up(self, waiter: Waiter) -> None:
        """Leave the queue without a call."""
        with self._lock:
            if waiter in self._queue:
                was_first = self._queue[0] is waiter
                self._queue.remove(waiter)
                if was_first:
                    self._wake_first()

    def leave(self, permit: Permit, outcome: CallOutcome) -> int | None:
        """End a call, and learn from how it went.

        Returns:
            How many calls may be in flight from now on, when that has become fewer; 0 when that is not limited
            any more; None when nothing has changed.
        """
        with self._lock:
            now = self._clock()
            changed = self._learn(permit, outcome, now)
            self._window.end(permit.tokens, permit.tokens if outcome.used is None else outcome.used, now)
            if self._queue:
                first, room_at = self._queue[0], self._room_at(self._queue[0].tokens, now)
                if room_at < first.asks_at or room_at <= now:
                    self._wake_first()
            return changed

    def _learn(self, permit: Permit, outcome: CallOutcome, now: float) -> int | None:
        left = outcome.left
        if left is not None and left.requests is not None:
            since = self._sent - permit.number - 1
            self._request_quota.update(left.requests, call=permit.number, sent_since=since, now=now)
        if left is not None and left.tokens is not None:
            since = self._sent_tokens - permit.tokens_before
            self._token_quota.update(left.tokens, call=permit.number, sent_since=since, now=now)
        if outcome.is_answered:
            return 0 if self._concurrency.record_answer(now - permit.sent_at) else None
        if outcome.is_throttled and self._concurrency.record_429(
            in_flight=self._window.in_flight, sent_at=permit.sent_at, now=now, retry_after=outcome.retry_after
        ):
            return int(self._concurrency.limit)
        return None

    def _merge(self) -> None:
        self.limits = Limits(
            requests_per_minute=_lowest(each.requests_per_minute for each in self._given),
            tokens_per_minute=_lowest(each.tokens_per_minute for each in self._given),
        )

    def _admit(self, tokens: int, now: float) -> Permit:
        self._window.start(tokens)
        self._concurrency.peak = max(self._concurrency.peak, self._window.in_flight)
        self._request_quota.spend(1)
        self._token_quota.spend(tokens)
        self._sent_tokens += tokens
        self._sent += 1
        return Permit(tokens, self._sent - 1, self._sent_tokens, now)

    def _room_at(self, tokens: int, now: float) -> float:
        limits = self.limits
        room_at = self._window.room_at(
            tokens, now, max_requests=limits.requests_per_minute, max_tokens=limits.tokens_per_minute
        )
        if not self._window.in_flight:  # no answer will come that says more: what is known now decides
            said_at = max(_known(self._request_quota.room_at(1, now)), _known(self._token_quota.room_at(tokens, now)))
        else:
            said_at = max(self._request_quota.room_at(1, now), self._token_quota.room_at(tokens, now))
        return max(room_at, said_at, self._concurrency.room_at(self._window.in_flight, now))

    def _wake_first(self) -> None:
        while self._queue:
            try:
                self._queue[0].wake()
            except RuntimeError:  # its event loop was closed over it
                self._queue.popleft()
            else:
                return


_limiters: dict[tuple[str, bytes, str], Limiter] = {}
"""Those of this process: one for all layers that share an endpoint, a key and a model."""
_limiters_lock = threading.Lock()


def limiter_of(endpoint: str, api_key: SecretStr | None, model: str, limits: Limits) -> Limiter:
    """Return the limiter that this process has for a model, attached to `limits`.

    It outlives its layers by a minute: the next run must know what this one has sent.

    Args:
        endpoint: the URL of the calls.
        api_key: the key; only a hash of it is kept.
        model: the model's name.
        limits: what the layer was given; to be detached when it is closed.
    """
    key = api_key.get_secret_value() if api_key else ""
    name = (endpoint, hashlib.sha256(key.encode()).digest(), model)
    with _limiters_lock:
        for other in [other for other, limiter in _limiters.items() if other != name and limiter.is_idle()]:
            del _limiters[other]
        limiter = _limiters.setdefault(name, Limiter(window=WINDOW_SECONDS))
        limiter.attach(limits)
        return limiter


def _known(moment: float) -> float:
    return moment if math.isfinite(moment) else -math.inf


def _lowest(limits: Iterable[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
