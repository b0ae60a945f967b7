"""An outage, as a run state has it: calls of a node wait, as no endpoint answers them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from llm_datagen.runs.words import calls_in_words, cut, time_in_words

_NAMED = 2
"""So many endpoints are named in words."""

_ERROR_CHARS, _SHOWN_CHARS = 300, 120
"""So much of an error is noted in the run state, and shown in words."""


class DownEndpoint(TypedDict):
    """An endpoint that answers nothing but errors."""

    endpoint: str
    """Its model and URL, without a key."""
    since: str
    """Since when, in ISO 8601."""
    status: int | None
    """The HTTP status that it answered with last; None when no answer came."""
    error: str
    """How the last call failed, without a key."""
    tries: int
    """How many calls and pings have failed since it answered last."""


class OutageReport(TypedDict):
    """Calls wait until one of these endpoints answers again."""

    endpoints: list[DownEndpoint]
    calls: int
    """How many calls wait."""


def down_endpoint(endpoint: str, since: str, status: int | None, error: object, tries: int) -> DownEndpoint:
    """Return what is known of an endpoint that is down; of the error, as much as a run state has.

    Args:
        endpoint: its model and URL, without a key.
        since: since when, in ISO 8601.
        status: the HTTP status that it answered with last.
        error: how the last call failed.
        tries: how many have failed.
    """
    text = cut(" ".join(str(error).split()), _ERROR_CHARS)
    return DownEndpoint(endpoint=endpoint, since=since, status=status, error=text, tries=tries)


def outage_in_words(outage: Mapping[str, Any]) -> str:
    """Return what is waited for, and why: ``waits for m at http://… since …: HTTP 503 (12 tries); 8 calls wait``."""
    endpoints = outage["endpoints"]
    named = [_down_in_words(each) for each in endpoints[:_NAMED]]
    more = [f"{len(endpoints) - _NAMED} more"] if len(endpoints) > _NAMED else []
    return f"waits for {', '.join([*named, *more])}; {calls_in_words(outage['calls'])}"


def _down_in_words(down: Mapping[str, Any]) -> str:
    why = cut(down["error"], _SHOWN_CHARS) if down["status"] is None else f"HTTP {down['status']}"
    tries = "1 try" if down["tries"] == 1 else f"{down['tries']} tries"
    return f"{down['endpoint']} since {time_in_words(down['since'])}: {why} ({tries})"


def endpoints_in_words(outage: Mapping[str, Any]) -> str:
    """Return the names of the endpoints."""
    return ", ".join(each["endpoint"] for each in outage["endpoints"])
