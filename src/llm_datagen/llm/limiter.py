"""Who may call an endpoint now: one limiter for all callers of this process that share a key, an endpoint and a model.

Callers queue, and the first in the queue goes first: a large call is not overtaken by small ones. A limiter has
no thread and no timer. Whoever is first in the queue is told how long to wait, and is woken when it may go earlier.
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
from llm_datagen.llm.window import WINDOW_SECONDS, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an endpoint allows within any minute.

    Attributes:
        requests_per_minute: calls; None: as many as are wanted.
        tokens_per_minute: tokens of prompts and answers together; None: as many as are wanted.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(slots=True, eq=False)
class Ticket:
    """The leave to make one call. Give it back by `Limiter.leave`.

    Attributes:
        tokens: that the call may use.
    """

    tokens: int


class Waiter:
    """A place in the queue.

    Args:
        tokens: that the call may use.
        wake: called when `Limiter.turn` is worth asking again, from any thread; raises RuntimeError when nobody is
            there any more.
    """

    __slots__ = ("looks_at", "tokens", "wake")

    def __init__(self, tokens: int, wake: Callable[[], object]) -> None:
        self.tokens = tokens
        self.wake = wake
        self.looks_at = math.inf


class Limiter:
    """Lets calls begin in order, within the limits. Any thread may use it.

    Args:
        clock: seconds, never backwards.
        window: how long a call counts after its end, in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, window: float = WINDOW_SECONDS) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._window = Window(window)
        self._queue: deque[Waiter] = deque()
        self._given: list[Limits] = []
        self.limits = Limits()

    def attach(self, limits: Limits) -> None:
        """Keep to `limits`, too: of several callers' limits, the lowest ones hold for all."""
        with self._lock:
            self._given.append(limits)
            self._merge()

    def detach(self, limits: Limits) -> None:
        """Keep to `limits` no more: the caller that gave them is closed."""
        with self._lock:
            self._given.remove(limits)
            self._merge()
            self._wake_first()

    def is_idle(self) -> bool:
        """Return whether there is nothing here to be remembered: nobody is attached, and the last minute is over."""
        with self._lock:
            self._window.forget(self._clock())
            return not (self._given or self._queue or self._window.requests)

    def enter(self, tokens: int) -> Ticket | None:
        """Return the leave to make a call now; None when it has to queue."""
        with self._lock:
            if self._queue or self._room_at(tokens) > self._clock():
                return None
            return self._admit(tokens)

    def queue(self, waiter: Waiter) -> None:
        """Take a place in the queue."""
        with self._lock:
            self._queue.append(waiter)

    def turn(self, waiter: Waiter) -> Ticket | float:
        """Return the leave to make the call; or the seconds to wait, or to be woken earlier, before asking again.

        Infinity: until woken.
        """
        with self._lock:
            if self._queue[0] is not waiter:
                return math.inf
            waiter.looks_at = self._room_at(waiter.tokens)
            pause = waiter.looks_at - self._clock()
            if pause > 0:
                return pause
            self._queue.popleft()
            ticket = self._admit(waiter.tokens)
            self._wake_first()
            return ticket

    def give_up(self, waiter: Waiter) -> None:
        """Leave the queue without a call."""
        with self._lock:
            if waiter in self._queue:
                was_first = self._queue[0] is waiter
                self._queue.remove(waiter)
                if was_first:
                    self._wake_first()

    def leave(self, ticket: Ticket, used: int | None = None) -> None:
        """Take note that a call has ended.

        Args:
            ticket: of the call.
            used: its tokens; None when nobody said: then what it might have used counts.
        """
        with self._lock:
            self._window.end(ticket.tokens, ticket.tokens if used is None else used, self._clock())
            if self._queue:
                first, room_at = self._queue[0], self._room_at(self._queue[0].tokens)
                if room_at < first.looks_at or room_at <= self._clock():
                    self._wake_first()

    def _merge(self) -> None:
        self.limits = Limits(
            requests_per_minute=_lowest(each.requests_per_minute for each in self._given),
            tokens_per_minute=_lowest(each.tokens_per_minute for each in self._given),
        )

    def _admit(self, tokens: int) -> Ticket:
        self._window.start(tokens)
        return Ticket(tokens)

    def _room_at(self, tokens: int) -> float:
        limits = self.limits
        return self._window.room_at(
            tokens,
            self._clock(),
            max_requests=limits.requests_per_minute,
            max_tokens=limits.tokens_per_minute,
        )

    def _wake_first(self) -> None:
        while self._queue:
            try:
                self._queue[0].wake()
            except RuntimeError:  # its event loop was closed over it
                self._queue.popleft()
            else:
                return


_limiters: dict[tuple[str, bytes, str], Limiter] = {}
_limiters_lock = threading.Lock()


def limiter_of(endpoint: str, api_key: SecretStr | None, model: str, limits: Limits) -> Limiter:
    """Return the limiter that this process has for a model, attached to `limits`.

    It outlives its callers by a minute: the next run must know what this one has sent.

    Args:
        endpoint: the URL of the calls.
        api_key: the key; only a hash of it is kept.
        model: the model's name.
        limits: what the caller was given; to be detached when it is closed.
    """
    key = api_key.get_secret_value() if api_key else ""
    name = (endpoint, hashlib.sha256(key.encode()).digest(), model)
    with _limiters_lock:
        for other in [other for other, limiter in _limiters.items() if other != name and limiter.is_idle()]:
            del _limiters[other]
        limiter = _limiters.setdefault(name, Limiter(window=WINDOW_SECONDS))
        limiter.attach(limits)
        return limiter


def checked_limits(requests_per_minute: object, tokens_per_minute: object) -> Limits:
    """Return the limits that were given.

    Raises:
        ConfigError: when one is no whole number, 1 or more, and not None.
    """
    return Limits(
        requests_per_minute=_checked("requests_per_minute", requests_per_minute),
        tokens_per_minute=_checked("tokens_per_minute", tokens_per_minute),
    )


def _checked(name: str, value: object) -> int | None:
    return None if value is None else check_count(name, value)


def _lowest(limits: Iterable[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
