"""What an endpoint's headers say of its limits: how long to wait, what is left, and when all of it is there again."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION = re.compile(f"(?:{_PART.pattern})+")
_NAMES = (  # of what is left, of the limit, of the reset; OpenAI and those that are like it, then Anthropic
    ("x-ratelimit-remaining-{}", "x-ratelimit-limit-{}", "x-ratelimit-reset-{}"),
    ("anthropic-ratelimit-{}-remaining", "anthropic-ratelimit-{}-limit", "anthropic-ratelimit-{}-reset"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is left of a limit.

    Attributes:
        remaining: requests, or tokens.
        limit: how many there are when nothing is used; None when not said.
        reset: seconds until then.
    """

    remaining: int
    limit: int | None = None
    reset: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """What a response said of the endpoint's limits.

    Attributes:
        requests: what is left of them; None when not said.
        tokens: what is left of them; None when not said.
    """

    requests: Left | None = None
    tokens: Left | None = None


def rate_limits(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> RateLimits | None:
    """Return what a response says of the endpoint's limits; None when it says nothing, or not in a form that is known.

    Args:
        headers: of the response, by names in any case: ``x-ratelimit-remaining-requests`` and its like, of OpenAI
            and of those that follow it, or ``anthropic-ratelimit-requests-remaining`` and its like.
        now: seconds since the epoch.
    """
    requests, tokens = _left(headers, "requests", now), _left(headers, "tokens", now)
    return RateLimits(requests=requests, tokens=tokens) if requests or tokens else None


def retry_after(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that an endpoint asks to wait; None when it does not say, or not in a form that is known.

    Args:
        headers: of the response, by names in any case: ``retry-after-ms``, or ``Retry-After`` in seconds or as a date.
        now: seconds since the epoch.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            seconds = float(value) * unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    try:
        return max(parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - now(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _left(headers: Mapping[str, str], what: str, now: Callable[[], float]) -> Left | None:
    for names in _NAMES:
        remaining, limit, reset = (headers.get(name.format(what), "").strip() for name in names)
        seconds = _seconds(reset, now) if remaining.isdecimal() else None
        if seconds is not None:
            return Left(remaining=int(remaining), limit=int(limit) if limit.isdecimal() else None, reset=seconds)
    return None


def _seconds(reset: str, now: Callable[[], float]) -> float | None:
    """Return a duration (``6m0s``, ``17ms``), a number of seconds or a moment (RFC 3339) as seconds from now."""
    if _DURATION.fullmatch(reset):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(reset))
    try:
        return float(reset) if reset.replace(".", "", 1).isdecimal() else _until(reset, now())
    except (ValueError, OverflowError):
        return None


def _until(moment: str, now: float) -> float:
    parsed = datetime.fromisoformat(moment)
    if parsed.tzinfo is None:
        raise ValueError(moment)
    return max(parsed.timestamp() - now, 0.0)
