"""The limiter of an endpoint: which call may be made now.

Calls queue, and the first in the queue goes first: a large call is not overtaken by small ones. A limiter has
no thread and no timer. The first in the queue learns how long to wait, and is woken when it may go earlier.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llm_datagen.config import check_count
from llm_datagen.llm.grants.environment import Share
from llm_datagen.llm.grants.limit_units import LimitUnits
from llm_datagen.llm.grants.units import NOTHING, Units
from llm_datagen.llm.limits.adaptive_concurrency import AdaptiveConcurrency
from llm_datagen.llm.limits.header_quota import HeaderQuota
from llm_datagen.llm.limits.permit import CallOutcome, Permit, Waiter
from llm_datagen.llm.limits.sliding_window import WINDOW_SECONDS, SlidingWindow


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

    def share(self, share: Share) -> Limits:
        """Return a fixed share of them.

        Raises:
            ConfigError: when nothing is left.
        """
        requests, tokens = self.requests_per_minute, self.tokens_per_minute
        return Limits(
            requests_per_minute=None if requests is None else share.of("requests_per_minute", requests),
            tokens_per_minute=None if tokens is None else share.of("tokens_per_minute", tokens),
        )


NO_LIMITS = Limits()


class Limiter:
    """Lets calls begin in order, within the limits. Any thread may use it.

    Args:
        clock: seconds, never backwards.
        window: how long a call counts after its end, in seconds.
        units: what the process holds of the limits, when other processes share them.

    Attributes:
        limits: the lowest of those that its layers have.
        lock: to be held by whoever uses `units`.
        clock: as given.
        on_need: called, with the lock held, when a call waits for units.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        window: float = WINDOW_SECONDS,
        units: LimitUnits | None = None,
    ) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self._units = units
        self.on_need: Callable[[], None] = lambda: None
        self._window = SlidingWindow(window)
        self._concurrency = AdaptiveConcurrency()
        self._request_quota: HeaderQuota | None = None  # until the endpoint says something
        self._token_quota: HeaderQuota | None = None
        self._sent = self._sent_tokens = 0
        self._queue: deque[Waiter] = deque()
        self._given: list[Limits] = []
        self.limits = Limits()

    @property
    def counts_tokens(self) -> bool:
        """Whether there is a limit of tokens, so that calls have to say how many they may use."""
        quota = self._token_quota
        return self.limits.tokens_per_minute is not None or (quota is not None and quota.is_known)

    def attach(self, limits: Limits) -> None:
        """Keep to `limits`, too: of several layers' limits, the lowest ones hold for all."""
        with self.lock:
            self._given.append(limits)
            self._merge()

    def detach(self, limits: Limits) -> None:
        """Keep to `limits` no more: the layer that gave them is closed."""
        with self.lock:
            self._given.remove(limits)
            self._merge()
            self._wake_first()

    def is_idle(self) -> bool:
        """Return whether it can be forgotten: no layer is attached, and nothing was sent within the last minute."""
        with self.lock:
            self._window.forget(self.clock())
            return not (self._given or self._queue or self._window.requests)

    def has_room(self, tokens: int) -> bool:
        """Return whether a call could be made now."""
        with self.lock:
            now = self.clock()
            if self._queue or self._own_room_at(tokens, now) > now:
                return False
            units = self._units if self._is_shared else None
            return units is None or units.has(tokens, now) or units.may_get(now)

    def first(self) -> Units:
        """Return what the first call needs that waits for units alone; nothing when none does. In the lock."""
        if not self._queue or not self._is_shared:
            return NOTHING
        tokens, now = self._queue[0].tokens, self.clock()
        return Units(1, tokens) if self._own_room_at(tokens, now) <= now else NOTHING

    def waiting(self) -> Units:
        """Return what all calls need that wait behind that one, and it. In the lock."""
        if self.first() == NOTHING:
            return NOTHING
        return Units(len(self._queue), sum(each.tokens for each in self._queue))

    def wake(self) -> None:
        """Have the first call that waits look again whether it may be made."""
        with self.lock:
            self._wake_first()

    def enter(self, tokens: int) -> Permit | None:
        """Return the permit for a call now; None when it has to queue."""
        with self.lock:
            now = self.clock()
            return None if self._queue or self._room_at(tokens, now) > now else self._admit(tokens, now)

    def queue(self, waiter: Waiter, *, is_first: bool = False) -> None:
        """Take a place in the queue; the first one, for what others wait to know."""
        with self.lock:
            if is_first:
                self._queue.appendleft(waiter)
            else:
                self._queue.append(waiter)
            if self._is_shared:
                self.on_need()

    def turn(self, waiter: Waiter) -> Permit | float:
        """Return the permit for the call; or the seconds to wait, or to be woken earlier, before asking again.

        Infinity: until woken.
        """
        with self.lock:
            if self._queue[0] is not waiter:
                return math.inf
            now = self.clock()
            waiter.asks_at = self._room_at(waiter.tokens, now)
            if waiter.asks_at > now:
                return waiter.asks_at - now
            self._queue.popleft()
            permit = self._admit(waiter.tokens, now)
            self._wake_first()
            return permit

    def give_up(self, waiter: Waiter) -> None:
        """Leave the queue without a call."""
        with self.lock:
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
        with self.lock:
            now = self.clock()
            changed = self._learn(permit, outcome, now)
            used = permit.tokens if outcome.used is None else outcome.used
            self._window.end(permit.tokens, used, now)
            if permit.is_shared and self._units is not None:
                self._units.end(permit.tokens, used)
            if self._queue:
                first, room_at = self._queue[0], self._room_at(self._queue[0].tokens, now)
                if room_at < first.asks_at or room_at <= now:
                    self._wake_first()
            return changed

    def _learn(self, permit: Permit, outcome: CallOutcome, now: float) -> int | None:
        left = outcome.left
        if left is not None and left.requests is not None:
            self._request_quota = self._request_quota or HeaderQuota()
            since = self._sent - permit.number - 1
            self._request_quota.update(left.requests, call=permit.number, sent_since=since, now=now)
        if left is not None and left.tokens is not None:
            self._token_quota = self._token_quota or HeaderQuota()
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
        if self._request_quota is not None:
            self._request_quota.spend(1)
        if self._token_quota is not None:
            self._token_quota.spend(tokens)
        self._sent_tokens += tokens
        self._sent += 1
        is_shared = self._is_shared
        if is_shared and self._units is not None:
            self._units.take(tokens, now)
        return Permit(tokens, self._sent - 1, self._sent_tokens, now, is_shared)

    @property
    def _is_shared(self) -> bool:
        return self._units is not None and self.limits != NO_LIMITS

    def _room_at(self, tokens: int, now: float) -> float:
        room_at = self._own_room_at(tokens, now)
        units = self._units
        if units is not None and self._is_shared and room_at <= now and not units.has(tokens, now):
            self.on_need()
            return math.inf
        return room_at

    def _own_room_at(self, tokens: int, now: float) -> float:
        """Return when there is room as far as this process knows by itself."""
        limits = self.limits
        room_at = self._window.room_at(
            tokens, now, max_requests=limits.requests_per_minute, max_tokens=limits.tokens_per_minute
        )
        room_at = max(room_at, self._concurrency.room_at(self._window.in_flight, now))
        if self._request_quota is not None:
            room_at = max(room_at, self._known(self._request_quota.room_at(1, now)))
        if self._token_quota is not None:
            room_at = max(room_at, self._known(self._token_quota.room_at(tokens, now)))
        return room_at

    def _known(self, moment: float) -> float:
        """Return when there is room by what the endpoint said, also when no answer will come that says more."""
        return moment if self._window.in_flight or math.isfinite(moment) else -math.inf

    def _wake_first(self) -> None:
        while self._queue:
            try:
                self._queue[0].wake()
            except RuntimeError:  # its event loop was closed over it
                self._queue.popleft()
            else:
                return


def _lowest(limits: Iterable[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
