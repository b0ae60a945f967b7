"""A process's thread that talks to the service, for all limits and budgets of the process."""

from __future__ import annotations

import contextlib
import http.client
import math
import os
import random
import threading
import time
from collections.abc import Callable
from typing import ClassVar, Protocol

from pydantic import ValidationError
from yarl import URL

from llm_datagen.llm.errors import GrantsError
from llm_datagen.llm.grants.environment import ServiceAddress
from llm_datagen.llm.grants.messages import BudgetAnswer, BudgetAsk, LimitAnswer, LimitAsk, Message, Reply
from llm_datagen.llm.secret import Secret
from llm_datagen.llm.waits import LOOK_SECONDS

PATH = "/v1/exchange"
_TIMEOUT_SECONDS = 10.0
_PAUSE_SECONDS = 0.02
"""Between two exchanges: what comes meanwhile goes together."""
_FIRST_BACKOFF = 0.1
_LAST_BACKOFF = 2.0
_OK = 200
_REFUSALS = {400, 401, 403, 404, 405, 413}

Ask = LimitAsk | BudgetAsk
Answer = LimitAnswer | BudgetAnswer


class Source(Protocol):
    """Something that has to do with the service: a limit, or the budget of a run. Called on the client's thread."""

    def due(self, now: float) -> float:
        """Return when it has something to say; infinity: not until it wakes the client."""

    def ask(self, now: float) -> Ask | None:
        """Return what it says now; None for nothing."""

    def answered(self, answer: Answer, sent_at: float) -> None:
        """Take the answer to what it said."""

    def failed(self) -> None:
        """There is no answer; perhaps nobody has heard what it said."""


class GrantsClient:
    """Talks to the service for a process, from a thread of its own, as long as a source is added.

    Any thread may use it. An exchange that fails is repeated, each time a little later, until the service is there:
    nothing is lost by that, since all that is said are sums.

    Args:
        address: where the service is.
        redacted: takes secrets out of what is shown.
        clock: seconds, never backwards.
    """

    _clients: ClassVar[dict[tuple[int, ServiceAddress], GrantsClient]] = {}
    _clients_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        address: ServiceAddress,
        redacted: Callable[[str], str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = address.url
        self._wire = _Wire(address, redacted)
        self._clock = clock
        self._sources: list[Source] = []
        self._changed = threading.Condition()
        self._is_woken = False
        self._thread: threading.Thread | None = None
        self._away_since: float | None = None
        self._reason = ""
        self._refused = ""

    @classmethod
    def of(cls, address: ServiceAddress, redacted: Callable[[str], str]) -> GrantsClient:
        """Return the client that this process has for a service.

        Args:
            address: where the service is.
            redacted: takes secrets out of what is shown.
        """
        key = os.getpid(), address
        with cls._clients_lock:
            if key not in cls._clients:
                cls._clients[key] = cls(address, redacted)
            return cls._clients[key]

    def add(self, source: Source) -> None:
        """Talk for a source, until it is removed."""
        with self._changed:
            if source not in self._sources:
                self._sources.append(source)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="llm-grants-client", daemon=True)
                self._thread.start()
            self._wake()

    def remove(self, source: Source) -> None:
        """Talk for it no more."""
        with self._changed:
            if source in self._sources:
                self._sources.remove(source)
            self._wake()

    def wake(self) -> None:
        """Have a look at all sources: one of them has something to say now."""
        with self._changed:
            self._wake()

    def wait_until(self, is_done: Callable[[], bool], seconds: float, *, also_away: bool = False) -> bool:
        """Wait for an exchange after which something is so; return whether it is. Blocks.

        Args:
            is_done: whether it is so.
            seconds: to wait at most.
            also_away: whether to wait while the service is away, too.
        """
        until = time.monotonic() + seconds
        with self._changed:
            while not is_done():
                left = until - time.monotonic()
                if left <= 0 or self._refused or (self._away_since is not None and not also_away):
                    return is_done()
                self._wake()
                self._changed.wait(min(left, LOOK_SECONDS))
        return True

    @property
    def status(self) -> str:
        """What calls wait for, for people, while the service is away; empty while it is there."""
        if self._away_since is None:
            return ""
        return f"waits for the grants service at {self.url}: {self._reason}"

    def check(self) -> None:
        """Raise a GrantsError when the service refuses this process."""
        if self._refused:
            raise GrantsError(self._refused)

    def _wake(self) -> None:
        self._is_woken = True
        self._changed.notify_all()

    def _run(self) -> None:
        backoff = 0.0
        while True:
            sources = self._wait(backoff)
            if sources is None:
                self._wire.close()
                return
            sent_at = self._clock()
            said = [(source, ask) for source in sources if (ask := source.ask(sent_at)) is not None]
            if not said:
                continue
            try:
                reply = self._exchange([ask for _, ask in said])
            except _AwayError as error:
                for source, _ in said:
                    source.failed()
                self._note_away(str(error), error.is_refused)
                backoff = min(_LAST_BACKOFF, max(_FIRST_BACKOFF, backoff * 2) * random.uniform(0.8, 1.2))
                continue
            backoff = 0.0
            self._note_there()
            for source, answer in _matched(said, reply):
                source.answered(answer, sent_at)
            with self._changed:
                self._changed.notify_all()

    def _wait(self, backoff: float) -> list[Source] | None:
        """Return the sources when one of them has something to say; None when there are none."""
        time.sleep(_PAUSE_SECONDS)
        if backoff:
            with self._changed:
                self._changed.wait_for(lambda: not self._sources, backoff)
        while True:
            with self._changed:
                if not self._sources:
                    self._thread = None
                    return None
                self._is_woken = False
                sources = list(self._sources)
            now = self._clock()  # not in the lock: sources have locks of their own, and wake this in them
            due = min(source.due(now) for source in sources)
            if due <= now:
                return [source for source in sources if source.due(now) < math.inf]
            with self._changed:
                if not self._is_woken:
                    self._changed.wait(due - now if due < math.inf else None)

    def _exchange(self, asks: list[Ask]) -> Reply:
        message = Message(
            limits=tuple(ask for ask in asks if isinstance(ask, LimitAsk)),
            budgets=tuple(ask for ask in asks if isinstance(ask, BudgetAsk)),
        )
        try:
            return Reply.model_validate_json(self._wire.post(message.model_dump_json().encode()))
        except ValidationError as error:
            raise _AwayError("it answers in another way than this version does") from error

    def _note_away(self, reason: str, is_refused: bool) -> None:
        with self._changed:
            self._reason = reason
            if self._away_since is None:
                self._away_since = self._clock()
            self._refused = f"the grants service at {self.url} refuses this process: {reason}" if is_refused else ""
            self._changed.notify_all()

    def _note_there(self) -> None:
        with self._changed:
            self._away_since, self._reason, self._refused = None, "", ""


class _AwayError(Exception):
    """An exchange has failed.

    Args:
        reason: why, without secrets.
        is_refused: whether it will be so again.
    """

    def __init__(self, reason: str, *, is_refused: bool = False) -> None:
        super().__init__(reason)
        self.is_refused = is_refused


class _Wire:
    """The connection. One thread uses it."""

    def __init__(self, address: ServiceAddress, redacted: Callable[[str], str]) -> None:
        url = URL(address.url)
        self._host, self._port, self._is_secure = url.host or "", url.port, url.scheme == "https"
        self._path = url.path.rstrip("/") + PATH
        self._token: Secret = address.token
        self._redacted = redacted
        self._connection: http.client.HTTPConnection | None = None

    def post(self, body: bytes) -> bytes:
        """Return the answer.

        Raises:
            _AwayError: when there is none.
        """
        try:
            if self._connection is None:
                kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
                self._connection = kind(self._host, self._port, timeout=_TIMEOUT_SECONDS)
            headers = {
                "Authorization": f"Bearer {self._token.get_secret_value()}",
                "Content-Type": "application/json",
            }
            self._connection.request("POST", self._path, body, headers)
            response = self._connection.getresponse()
            status, content = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _AwayError(self._redacted(str(error) or type(error).__name__)) from None
        if status != _OK:
            said = self._redacted(content[:500].decode(errors="replace"))
            raise _AwayError(f"HTTP {status}: {said}", is_refused=status in _REFUSALS)
        return content

    def close(self) -> None:
        """Close it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()


def _matched(said: list[tuple[Source, Ask]], reply: Reply) -> list[tuple[Source, Answer]]:
    limits, budgets = iter(reply.limits), iter(reply.budgets)
    found: list[tuple[Source, Answer]] = []
    for source, ask in said:
        answer: Answer | None = next(limits, None) if isinstance(ask, LimitAsk) else next(budgets, None)
        if answer is not None:
            found.append((source, answer))
    return found
