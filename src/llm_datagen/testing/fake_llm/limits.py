"""The limits of a fake endpoint: how many calls at once, and how many within a time, as its headers say."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from llm_datagen.config import check_count, check_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMLimits:
    """What a fake endpoint allows; a call beyond it is answered with 429 at once.

    Attributes:
        at_once: calls that are being answered at the same time; None: as many as come.
        requests: calls within any `seconds`; those that were turned away do not count. With it, every response says in
            the headers ``x-ratelimit-limit-requests``, ``-remaining-requests`` and ``-reset-requests`` what is left,
            and in how many seconds all of it is there again. None: as many as come.
        seconds: of `requests`.
        headers: whether responses say so.

    Raises:
        ConfigError: on a number that is not positive.
    """

    at_once: int | None = None
    requests: int | None = None
    seconds: float = 60.0
    headers: bool = True

    def __post_init__(self) -> None:
        for name in ("at_once", "requests"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        check_seconds("seconds", self.seconds)


class Turnstile:
    """Counts calls against limits. Used by the server's thread."""

    def __init__(self) -> None:
        self._let_in: deque[float] = deque()

    def lets_in(self, limits: LLMLimits | None, open_calls: int, now: float) -> bool:
        """Return whether a call is within the limits, and count it if so."""
        if limits is not None and not self._has_room(limits, open_calls, now):
            return False
        if limits is not None and limits.requests is not None:
            self._let_in.append(now)
        return True

    def headers(self, limits: LLMLimits | None, now: float) -> str:
        """Return the headers that say what is left, as whole lines."""
        if limits is None or limits.requests is None or not limits.headers:
            return ""
        self._forget(limits, now)
        left = max(0, limits.requests - len(self._let_in))
        reset = self._let_in[-1] + limits.seconds - now if self._let_in else 0.0
        return (
            f"x-ratelimit-limit-requests: {limits.requests}\r\n"
            f"x-ratelimit-remaining-requests: {left}\r\n"
            f"x-ratelimit-reset-requests: {reset * 1000:.0f}ms\r\n"
        )

    def _has_room(self, limits: LLMLimits, open_calls: int, now: float) -> bool:
        self._forget(limits, now)
        if limits.at_once is not None and open_calls >= limits.at_once:
            return False
        return limits.requests is None or len(self._let_in) < limits.requests

    def _forget(self, limits: LLMLimits, now: float) -> None:
        while self._let_in and self._let_in[0] <= now - limits.seconds:
            self._let_in.popleft()
