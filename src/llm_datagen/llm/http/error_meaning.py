"""What a failure means, by its status and by what its body says: endpoints do not agree on the status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

OK = 200
"""What a failure amounts to that concerns this call alone: the endpoint works, and the next try may get an answer."""

HINTS = {
    400: "check model, params and the schema",
    401: "check the key",
    402: "the quota is used up: raise it, then resume",
    403: "check that the key may use this model",
    404: "check base_url and model",
    413: "the prompt is too long for this endpoint",
    429: "too many calls at once, or no credit left: lower parallel_size, then resume",
}
"""What to do, by what a failure amounts to."""
_LOOKED_AT_CHARS = 2000
_FILTERS = ("content_filter", "content_policy", "responsibleaipolicy")
"""Parts of codes of a prompt that a filter refused."""
_LONG = ("context_length",)
"""Parts of codes of a prompt that is too long."""
_TOO_LONG = (
    *("maximum context length", "context length", "context window", "prompt is too long", "input is too long"),
    *("too many input tokens", "input token count", "too large for model"),
)
"""The same, of texts that people read."""
_CODES = {
    429: ("rate_limit", "ratelimit", "too_many_requests", "toomanyrequests", "throttl", "resource_exhausted"),
    402: ("insufficient_quota", "insufficient_balance", "insufficient_credits", "billing", "payment_required"),
    503: ("overload", "unavailable", "at_capacity", "server_busy", "model_loading"),
    500: ("server_error", "internal", "api_error", "upstream", "bad_gateway"),
    408: ("timeout", "timed_out", "deadline_exceeded"),
    401: ("invalid_api_key", "authentication", "unauthorized", "unauthenticated"),
    403: ("permission", "forbidden"),
    404: ("not_found", "notfound"),
    400: ("invalid_request", "invalid_argument", "invalid_prompt", "bad_request", *_FILTERS, *_LONG),
}
"""Parts of codes and types, and the HTTP status that they stand for. The first that fits counts."""
_PHRASES = {
    402: ("insufficient quota", "insufficient balance", "insufficient credit", "exceeded your current quota"),
    429: ("rate limit", "rate-limit", "ratelimit", "too many requests", "throttl", "requests per minute"),
    503: ("overloaded", "at capacity", "busy", "unavailable", "is loading", "try again later"),
}
"""The same, of texts that people read."""
_VAGUE = (400, 403, 422, 424)
"""Statuses under which some endpoints send what others send as 429, or 5xx."""
_FAILED_DEPENDENCY = 424


def error_in(data: Any) -> Any:
    """Return the error that the JSON of a response holds, also in the place of an answer; None when it holds none."""
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, dict | Mapping):
        return None
    if data.get("error"):
        return data["error"]
    choices = data.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return (first.get("error") or None) if isinstance(first, dict | Mapping) else None


def amounts_to(status: int, data: Any) -> int:
    """Return the HTTP status that a failure amounts to, by what the body says.

    Args:
        status: the status that was sent.
        data: the JSON of the body; None when it is none.

    Returns:
        `status`, or what the body says in its place: of 200, a status of HTTP, or 200 when it does not say; of 400,
        403, 422 and 424, those of a rate limit, a used-up quota or a failure of the server; of 429, that of a quota;
        413 of a 400 that says that the prompt is too long.
    """
    error = error_in(data)
    found = _status_in(error if error is not None else data, is_error=status != OK or error is not None)
    if status == OK:
        return found or OK
    if status in _VAGUE and found in (402, 408, 429, 500, 503):
        return found
    if status == _FAILED_DEPENDENCY:
        return found or 500
    if status == 400 and found in (None, 400) and _is_too_long(error if error is not None else data):
        return 413
    return 402 if status == 429 and found == 402 else status


def is_filtered(data: Any) -> bool:
    """Return whether the JSON of a failure says that a content filter refused the prompt."""
    return any(part in code for code in _codes(error_in(data)) for part in _FILTERS)


def _is_too_long(error: Any) -> bool:
    codes, text = " ".join(_codes(error)), " ".join(_texts(error))[:_LOOKED_AT_CHARS].lower()
    return any(part in codes for part in _LONG) or any(part in text for part in _TOO_LONG)


def may_pass(status: int) -> bool:
    """Return whether a request that failed with this status may succeed later."""
    return status in (OK, 408, 409, 425, 429) or status >= 500


def _status_in(error: Any, *, is_error: bool) -> int | None:
    if not is_error:
        return None
    codes, texts = list(_codes(error)), list(_texts(error))
    for code in codes:
        number = int(code) if code.isascii() and code.isdecimal() and len(code) == 3 else 0
        if 400 <= number < 600:
            return number
    joined = " ".join(codes)
    named = next((status for status, parts in _CODES.items() if any(part in joined for part in parts)), None)
    if named is not None and named not in (400, 403, 500):
        return named
    text = " ".join(texts)[:_LOOKED_AT_CHARS].lower()
    return next((status for status, parts in _PHRASES.items() if any(part in text for part in parts)), named)


def _codes(error: Any) -> Iterator[str]:
    if isinstance(error, Mapping):
        for name in ("code", "type", "status", "error_code"):
            value = error.get(name)
            if isinstance(value, str | int) and not isinstance(value, bool):
                text = str(value) if isinstance(value, str) or abs(value) < 1000 else ""
                yield text[:_LOOKED_AT_CHARS].lower()


def _texts(error: Any) -> Iterator[str]:
    if isinstance(error, str):
        yield error
    elif isinstance(error, Mapping):
        for name in ("message", "detail", "error"):
            if isinstance(error.get(name), str):
                yield error[name]
