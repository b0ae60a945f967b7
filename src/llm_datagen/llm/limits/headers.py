"""What an endpoint's headers say of its limits: how long to wait, what is left, and when all of it is there again."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from llm_datagen.llm.types import Quota, RateLimits

_LONGEST = 40
"""Characters of a number or a moment: a longer one is nonsense, and Python refuses to read 4,301 digits."""
_MOST = 10**15
"""Requests, or tokens; an endpoint that says more means that there is no limit."""
_MAX_WAIT_SECONDS = 32 * 86400.0
"""The longest pause that is believed: a month. More is a moment, or nonsense."""
_MOMENTS = ((1.0, 1e9, 1e10), (0.001, 1e12, 1e13))
"""Numbers that are seconds, or milliseconds, since the epoch: the unit, and what they lie between."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION = re.compile(f"(?:{_PART.pattern})+")
_NAMES = {  # of what is left, of the limit, of the reset; OpenAI and those that are like it, then Anthropic
    what: (
        (f"x-ratelimit-remaining-{what}", f"x-ratelimit-limit-{what}", f"x-ratelimit-reset-{what}"),
        (
            f"anthropic-ratelimit-{what}-remaining",
            f"anthropic-ratelimit-{what}-limit",
            f"anthropic-ratelimit-{what}-reset",
        ),
    )
    for what in ("requests", "tokens")
}


def rate_limits(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> RateLimits | None:
    """Return what a response says of the endpoint's limits; None when it says nothing, or not in a form that is known.

    Args:
        headers: of the response, by names in any case: ``x-ratelimit-remaining-requests`` and its like, of OpenAI
            and of those that follow it, or ``anthropic-ratelimit-requests-remaining`` and its like.
        now: seconds since the epoch.
    """
    requests, tokens = _quota(headers, "requests", now), _quota(headers, "tokens", now)
    return RateLimits(requests=requests, tokens=tokens) if requests or tokens else None


def retry_after(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that an endpoint asks to wait; None when it does not say, or not in a form that is known.

    Args:
        headers: of the response, by names in any case: ``retry-after-ms`` and ``x-ms-retry-after-ms`` in milliseconds;
            ``Retry-After`` in seconds, with a unit (``250ms``, ``1m30s``), as a date, or as seconds since the epoch.
        now: seconds since the epoch.
    """
    for name, unit in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = _pause(headers.get(name, "").strip(), unit, now)
        if seconds is not None and seconds <= _MAX_WAIT_SECONDS:
            return max(seconds, 0.0)
    return None


def _pause(value: str, unit: float, now: Callable[[], float]) -> float | None:
    if not value or len(value) > _LONGEST:
        return None
    if _DURATION.fullmatch(value):
        return _total(value)
    try:
        number = float(value)
    except ValueError:
        try:
            return parsedate_to_datetime(value).timestamp() - now()
        except (ValueError, TypeError, OverflowError):
            return None
    moment = next((number * each for each, low, high in _MOMENTS if low <= number < high), None)
    if moment is not None:
        return moment - now()
    return number * unit if math.isfinite(number) else None


def _quota(headers: Mapping[str, str], what: str, now: Callable[[], float]) -> Quota | None:
    for names in _NAMES[what]:
        if names[0] not in headers:
            continue
        remaining, limit, reset = [headers.get(name, "").strip() for name in names]
        left = _count(remaining)
        seconds = None if left is None or len(reset) > _LONGEST else _seconds(reset, now)
        if left is not None and seconds is not None:
            return Quota(remaining=left, limit=_count(limit), reset=seconds)
    return None


def _count(text: str) -> int | None:
    """Return a whole number, 0 or more; None for what is none."""
    return min(int(text), _MOST) if text.isascii() and text.isdigit() and len(text) <= _LONGEST else None


def _seconds(reset: str, now: Callable[[], float]) -> float | None:
    """Return a duration (``6m0s``, ``17ms``), a number of seconds or a moment (RFC 3339) as seconds from now."""
    if _DURATION.fullmatch(reset):
        return _total(reset)
    try:
        return float(reset) if reset.replace(".", "", 1).isdecimal() else _until(reset, now())
    except (ValueError, OverflowError):
        return None


def _total(duration: str) -> float:
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(duration))


def _until(moment: str, now: float) -> float:
    parsed = datetime.fromisoformat(moment)
    if parsed.tzinfo is None:
        raise ValueError(moment)
    return max(parsed.timestamp() - now, 0.0)
