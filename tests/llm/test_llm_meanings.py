"""What a failure means is read from its body where its status does not say it; pauses that endpoints ask for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llm_datagen.llm import EndpointRefusedError, LLMRequestError, OutageError
from llm_datagen.llm.http.error_meaning import amounts_to
from llm_datagen.llm.limits.headers import rate_limits, retry_after
from llm_datagen.llm.types import Quota

from .chat_server import ChatServer, Reply, completion, run_rows

ROW = {"_i": 3, "q": "x"}
PING = 1


def tries(server: ChatServer, reply: Reply, **options: Any) -> tuple[int, LLMRequestError]:
    """Return how many calls were made for a row that never gets an answer, and what it failed of."""
    server.reply = lambda seen: reply
    with pytest.raises(LLMRequestError) as caught:
        asyncio.run(run_rows(server.operator(max_retries=2, retry_wait=0.0001, **options), [ROW]))
    return len(server.seen), caught.value


def error(**fields: Any) -> dict[str, Any]:
    return {"error": fields}


@pytest.mark.parametrize(
    ("status", "body", "means"),
    [
        (400, error(message="Rate limit reached for requests"), 429),
        (400, error(code="rate_limit_exceeded", message="no"), 429),
        (403, error(message="Too many requests, please slow down"), 429),
        (403, {"message": "User Rate Limit Exceeded"}, 429),
        (403, error(code="insufficient_quota"), 402),
        (403, error(message="the key may not use this model"), 403),
        (400, error(type="invalid_request_error", message="bad schema"), 400),
        (400, [error(status="UNAVAILABLE", code=503, message="x")], 503),
        (400, error(message="the prompt contains what is not allowed", code=400), 400),
        (400, error(message="Input is too long for requested model.", code=400), 413),
        (400, error(code="context_length_exceeded", message="no"), 413),
        (422, error(message="Input is too long"), 422),
        (424, error(message="the model crashed"), 500),
        (424, error(message="rate limit"), 429),
        (424, error(code="invalid_request_error", message="bad"), 400),
        (424, None, 500),
        (429, error(code="insufficient_quota"), 402),
        (429, error(message="You exceeded your current quota, please check your plan"), 402),
        (429, error(message="slow down"), 429),
        (529, {"type": "error", "error": {"type": "overloaded_error"}}, 529),
        (200, error(code=429, message="x"), 429),
        (200, error(code="429"), 429),
        (200, error(type="overloaded_error", message="x"), 503),
        (200, error(code=400, message="bad"), 400),
        (200, error(type="invalid_request_error"), 400),
        (200, error(code="model_not_found"), 404),
        (200, {"error": "the server is busy"}, 503),
        (200, {"error": "no luck"}, 200),
        (200, {"choices": [{"error": {"code": 502, "message": "x"}}]}, 502),
        (200, error(code=10**400), 200),
        (500, error(message="rate limit"), 500),
    ],
)
def test_a_failure_amounts_to_what_its_body_says(status: int, body: Any, means: int) -> None:
    assert amounts_to(status, body) == means


@pytest.mark.integration
@pytest.mark.parametrize(
    ("reply", "calls"),
    [
        (Reply(error(message="Rate limit reached"), 400), 3),
        (Reply(error(message="too many requests"), 403), 3),
        (Reply(error(code=429, message="slow down")), 3),
        (Reply(error(message="no luck")), 3),
        (Reply(error(type="invalid_request_error", message="bad")), 1),
        (Reply(error(message="bad"), 400), 1),
    ],
)
def test_a_failure_of_the_row_is_retried_by_its_meaning_and_is_no_outage(
    server: ChatServer, reply: Reply, calls: int
) -> None:
    made, failure = tries(server, reply, outage_after=60)
    assert (made, type(failure)) == (calls, LLMRequestError)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(error(type="overloaded_error", message="x")), OutageError),
        (Reply({"detail": "failed dependency"}, 424), OutageError),
        (Reply(error(type="overloaded_error"), 529), OutageError),
        (Reply(error(code=401, message="wrong key")), EndpointRefusedError),
        (Reply(error(code="insufficient_quota"), 403), EndpointRefusedError),
    ],
)
def test_a_failure_of_the_endpoint_is_one_also_when_its_status_does_not_say_so(
    server: ChatServer, reply: Reply, kind: type[LLMRequestError]
) -> None:
    assert type(tries(server, reply)[1]) is kind


@pytest.mark.integration
def test_a_rate_limit_in_a_body_is_waited_for_and_the_row_is_done(server: ChatServer) -> None:
    replies = [Reply(error(message="Rate limit reached"), 403, {"retry-after-ms": "1"}), Reply(completion("yes"))]
    server.reply = lambda seen: replies[len(server.seen) - 1]
    operator = server.operator(max_retries=1, retry_wait=0.0001)
    assert asyncio.run(run_rows(operator, [ROW])) == [{**ROW, "answer": "yes"}]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "1500ms"}, 1.5),
        ({"retry-after": "1m30s"}, 90.0),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "-5"}, 0.0),
        ({"retry-after-ms": "nan", "retry-after": "2"}, 2.0),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "9" * 30}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "-" + "9" * 30}, 0.0),
        ({"retry-after": "1900000005"}, 5.0),
        ({"retry-after": "1900000005000"}, 5.0),
        ({"retry-after": "Wed, 99 Jan 2020 00:00:00 GMT"}, None),
        ({"retry-after": "86400"}, 86400.0),
    ],
)
def test_a_pause_is_read_in_every_form_and_nonsense_is_not_said(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=lambda: 1_900_000_000.0) == seconds


@pytest.mark.parametrize(
    ("remaining", "reset", "left"),
    [
        ("3", "2s", Quota(remaining=3, reset=2.0)),
        ("9" * 5000, "2s", None),
        ("3", "9" * 5000, None),
        ("-3", "2s", None),
        ("²", "2s", None),
        ("9" * 30, "2s", Quota(remaining=10**15, reset=2.0)),
        ("3", "-2", None),
        ("3", "1e999", None),
    ],
)
def test_what_headers_say_of_limits_is_bounded(remaining: str, reset: str, left: Quota | None) -> None:
    said = rate_limits({"x-ratelimit-remaining-requests": remaining, "x-ratelimit-reset-requests": reset})
    assert (said and said.requests) == left


@pytest.mark.integration
def test_headers_of_nonsense_spoil_no_answer(server: ChatServer) -> None:
    headers = {"x-ratelimit-remaining-tokens": "7" * 5000, "x-ratelimit-reset-tokens": "1s", "retry-after": "soon"}
    server.reply = lambda seen: Reply(completion("yes"), headers=headers)
    assert asyncio.run(run_rows(server.operator(), [ROW])) == [{**ROW, "answer": "yes"}]
