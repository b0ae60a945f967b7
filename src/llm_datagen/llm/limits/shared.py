"""The limiters of this process: one for each endpoint, key and model, whoever calls it.

Where a grants service is, all processes that use it keep to one limit together.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from llm_datagen.llm.grants.limit_units import LimitUnits
from llm_datagen.llm.grants.units import Caps
from llm_datagen.llm.limits.limiter import Limiter, Limits
from llm_datagen.llm.limits.sliding_window import WINDOW_SECONDS
from llm_datagen.llm.secret import Secret

if TYPE_CHECKING:
    from llm_datagen.llm.grants.client import Answer, GrantsClient
    from llm_datagen.llm.grants.messages import LimitAsk

_LEAVE_SECONDS = 2.0


class SharedLimiter:
    """A limiter, as its layers have it. Any thread may use it.

    Args:
        scope: stands for the endpoint, the key and the model.
        client: talks to the grants service; None when this process shares its limits with no other.
        clock: seconds, never backwards.
    """

    def __init__(self, scope: str, client: GrantsClient | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._scope = scope
        self._holder = secrets.token_hex(16)
        self._client = client
        self._units = LimitUnits()
        self.limiter = Limiter(clock=clock, window=WINDOW_SECONDS, units=None if client is None else self._units)
        self._users = 0
        self._call_seconds = 1.0
        if client is not None:
            self.limiter.on_need = client.wake

    def join(self, limits: Limits, call_seconds: float) -> None:
        """Keep to `limits`, too, until `leave`.

        Args:
            limits: of a layer.
            call_seconds: the longest that a call of it may take.
        """
        self.limiter.attach(limits)
        with self.limiter.lock:
            self._users += 1
            self._call_seconds = max(self._call_seconds, call_seconds)
        if self._client is not None:
            self._client.add(self)

    def leave(self, limits: Limits) -> None:
        """Keep to `limits` no more. The last layer gives back what is not needed, and waits for that, for 2 s."""
        self.limiter.detach(limits)
        with self.limiter.lock:
            self._users -= 1
            if self._users or self._client is None:
                return
            self._units.give_back()
        self._client.wait_until(lambda: self._units.is_settled, _LEAVE_SECONDS)
        with self.limiter.lock:
            if not self._users:
                self._client.remove(self)

    def due(self, now: float) -> float:
        """Return when there is something to say to the service."""
        with self.limiter.lock:
            return self._units.due(now, self.limiter.first())

    def ask(self, now: float) -> LimitAsk:
        """Return what there is to say."""
        from llm_datagen.llm.grants.messages import LimitAsk  # here, as below: most processes share no limit

        with self.limiter.lock:
            limits = self.limiter.limits
            caps = Caps(limits.requests_per_minute, limits.tokens_per_minute)
            ask = self._units.ask(waiting=self.limiter.waiting(), first=self.limiter.first(), now=now)
            return LimitAsk(
                scope=self._scope, holder=self._holder, caps=caps, call_seconds=self._call_seconds, **ask._asdict()
            )

    def answered(self, answer: Answer, sent_at: float) -> None:
        """Take what was granted."""
        from llm_datagen.llm.grants.messages import LimitAnswer

        assert isinstance(answer, LimitAnswer)
        with self.limiter.lock:
            self._units.answered(answer, sent_at, self.limiter.clock())
        self.limiter.wake()

    def failed(self) -> None:
        """There is no answer."""
        with self.limiter.lock:
            self._units.failed()


_limiters: dict[tuple[str, GrantsClient | None], SharedLimiter] = {}
"""Those of this process: one for all layers that share an endpoint, a key and a model."""
_limiters_lock = threading.Lock()


def limiter_of(
    endpoint: str,
    api_key: Secret | None,
    model: str,
    limits: Limits,
    *,
    client: GrantsClient | None = None,
    call_seconds: float = 1.0,
) -> SharedLimiter:
    """Return the limiter that this process has for a model, joined for a layer, which leaves it in the end.

    It outlives its layers by a minute: the next run must know what this one has sent.

    Args:
        endpoint: the URL of the calls.
        api_key: the key; only a hash of it is kept.
        model: the model's name.
        limits: what the layer was given.
        client: talks to the grants service, where one is.
        call_seconds: the longest that a call of the layer may take.
    """
    key = api_key.get_secret_value() if api_key else ""
    scope = hashlib.sha256("\0".join((endpoint, key, model)).encode()).hexdigest()
    name = scope, client
    with _limiters_lock:
        for other in [other for other, shared in _limiters.items() if other != name and shared.limiter.is_idle()]:
            del _limiters[other]
        if name not in _limiters:
            _limiters[name] = SharedLimiter(scope, client)
        _limiters[name].join(limits, call_seconds)
        return _limiters[name]
