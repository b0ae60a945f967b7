"""Answers that are streamed: whole ones are data, and nothing else is, whatever the stream does."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.errors import ConfigError
from llm_datagen.llm import ChatAdapter, LLMAnswerError, LLMOperator, LLMRequestError
from llm_datagen.llm.http.adapters import adapter_of
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.client import HttpTransport
from llm_datagen.llm.http.providers.anthropic import AnthropicAdapter
from llm_datagen.llm.http.streaming.aws_frames import AwsFrames
from llm_datagen.llm.http.streaming.chat import ChatStreaming
from llm_datagen.llm.http.streaming.frames import Event, LineFrames, SseFrames
from llm_datagen.llm.http.streaming.options import Stream
from llm_datagen.llm.types import ChatRequest
from llm_datagen.testing import FakeLLMServer, LLMFaults, cassette

from ..kit.support import lines, write_jsonl
from .chat_server import ChatServer, Context, Reply, completion, run_rows
from .providers import streams
from .providers.anthropic import ANTHROPIC
from .providers.api import KEY
from .providers.bedrock import BEDROCK
from .providers.ollama import OLLAMA
from .providers.responses import RESPONSES

ROW = {"_i": 5, "q": "hi"}
TEXT = "Grüße, 😀 und \u2028 so weiter."
EVENTS = list(streams.chat({**completion(TEXT), "model": "tiny"}))
WHOLE = streams.sse(iter(EVENTS))


def asked(server: ChatServer, reply: Reply, ctx: Context | None = None, **options: Any) -> Any:
    """Return the row that comes out when the server answers so, once."""
    server.reply = lambda seen: reply
    (made,) = asyncio.run(run_rows(server.operator(**{"stream": True, **options}), [dict(ROW)], ctx))
    return made


def failed(server: ChatServer, reply: Reply, *, adapter: str = "openai", stream: Any = True, **options: Any) -> Any:
    """Return the error of one try of a call that is answered so."""
    server.reply = lambda seen: reply
    address = Address(server.base_url, adapter_of(adapter), "tiny")
    timeout = options.pop("timeout", 120)
    transport = HttpTransport(address, None, timeout, stream=Stream.of(stream), **options)

    async def ask() -> None:
        await transport.open()
        try:
            await transport.complete(ChatRequest(messages=[{"role": "user", "content": "hi"}], params={}, model="tiny"))
        finally:
            await transport.close()

    with pytest.raises(LLMRequestError) as caught:
        asyncio.run(ask())
    return caught.value


def failure(server: ChatServer, *pieces: bytes, is_cut: bool = False, **options: Any) -> Any:
    """Return the error of one try of a call whose answer is streamed in these pieces."""
    return failed(server, Reply("", pieces=pieces, is_cut=is_cut), **options)


def some(count: int, events: list[tuple[str, Any]] = EVENTS) -> bytes:
    """Return the first events."""
    return streams.sse(iter(events[:count]))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_the_same_wherever_the_bytes_are_cut(end: str, size: int) -> None:
    text = f"\ufeff: hello{end}event: a{end}data: é1{end}data:2{end}id: 7{end}{end}{end}data{end}{end}"
    text += f"retry: 5{end}event: b{end}{end}:{end}data: {{}}{end}whatever{end}{end}data: last{end}"
    frames, found = SseFrames(), list[Event]()
    data = text.encode()
    for at in range(0, len(data), size):
        found += frames.feed(data[at : at + size])
    found += frames.end()
    assert found == [Event("a", "é1\n2".encode()), Event("", b""), Event("", b"{}"), Event("", b"last")]
    assert frames.pending == 0


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_lines_are_the_same_wherever_the_bytes_are_cut(size: int) -> None:
    frames, found = LineFrames(), list[Event]()
    data = '{"a": "é"}\r\n\n  \n{"b": 1}\n{"c": 2}'.encode()
    for at in range(0, len(data), size):
        found += frames.feed(data[at : at + size])
    found += frames.end()
    assert [json.loads(each.data) for each in found] == [{"a": "é"}, {"b": 1}, {"c": 2}]


def test_an_answer_that_comes_byte_by_byte_is_data_and_its_usage_counts(server: ChatServer) -> None:
    ctx = Context()
    reply = Reply("", pieces=[WHOLE[at : at + 1] for at in range(len(WHOLE))])
    assert asked(server, reply, ctx, prices={"input": 1.0, "output": 2.0}) == {**ROW, "answer": TEXT}
    (seen,) = server.seen
    assert (seen.body["stream"], seen.body["stream_options"]) == (True, {"include_usage": True})
    assert seen.headers["accept-encoding"] == "identity"
    used = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "cost": 13e-6}
    assert ctx.usage == [{"provider": "127.0.0.1", "model": "tiny", "requests": 1, **used}]


def test_what_is_said_of_the_stream_is_kept_and_usage_is_not_asked_for_where_that_is_refused(
    server: ChatServer,
) -> None:
    params = {"stream_options": {"include_obfuscation": False}}
    assert asked(server, Reply("", pieces=[WHOLE]), params=params)["answer"] == TEXT
    assert server.seen[-1].body["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert asked(server, Reply("", pieces=[WHOLE]), stream={"asks_usage": False})["answer"] == TEXT
    assert "stream_options" not in server.seen[-1].body


@pytest.mark.parametrize(
    "data",
    [
        WHOLE.replace(b"\n", b"\r\n"),
        WHOLE.replace(b"\n\n", b"\n\n: keep-alive\n\n"),
        WHOLE.replace(b"data: {", b"event: whatever\nid: 1\ndata: {"),
        WHOLE.replace(b", ", b",\ndata: "),
        some(3) + b'data: {"object": "unknown.kind", "x": [1]}\n\n' + WHOLE.removeprefix(some(3)),
        WHOLE.removesuffix(b"\n\n"),
        some(len(EVENTS) - 1),
        WHOLE + b"data: what follows is no answer\n\n",
    ],
    ids=["crlf", "comments", "names", "lines", "unknown", "no blank line", "no [DONE]", "more"],
)
def test_what_streams_may_hold_changes_nothing(server: ChatServer, data: bytes) -> None:
    assert asked(server, Reply("", pieces=[data]))["answer"] == TEXT


def test_a_stream_that_is_packed_is_unpacked(server: ChatServer) -> None:
    packed = gzip.compress(WHOLE)
    pieces = [packed[at : at + 10] for at in range(0, len(packed), 10)]
    assert asked(server, Reply("", pieces=pieces, headers={"Content-Encoding": "gzip"}))["answer"] == TEXT
    with pytest.raises(LLMRequestError, match="sent a damaged body"):
        asked(server, Reply("", pieces=[b"\x1f\x8bno gzip"], headers={"Content-Encoding": "gzip"}))


def test_half_of_a_sign_in_each_of_two_events_is_one_sign(server: ChatServer) -> None:
    chunk = b'data: {"choices": [{"index": 0, "delta": {"content": "\\%s"}}]}\n\n'
    first, second = (chunk % half for half in (b"ud83d", b"ude00"))
    end = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    assert asked(server, Reply("", pieces=[first, second, end]))["answer"] == "😀"


@pytest.mark.parametrize("count", range(len(EVENTS) - 2))
@pytest.mark.sampled(3)
def test_a_stream_that_ends_before_the_answer_is_none_and_may_be_asked_for_again(
    server: ChatServer, count: int
) -> None:
    error = failure(server, some(count))
    message = "the stream ended before the answer did" if count else "did not send a chat completion but: an empty body"
    assert message in str(error)
    assert (error.may_pass, error.is_served, error.is_free, error.usage) == (True, True, False, {})


@pytest.mark.parametrize("count", [0, 1, 4, len(EVENTS) - 1])
def test_a_connection_that_breaks_before_the_last_event_is_a_failure_that_may_pass(
    server: ChatServer, count: int
) -> None:
    error = failure(server, some(count), is_cut=True)
    assert "the connection failed" in str(error)
    assert (error.may_pass, error.is_served, error.is_free) == (True, True, False)


def test_a_connection_that_breaks_after_the_last_event_changes_nothing(server: ChatServer) -> None:
    assert asked(server, Reply("", pieces=[WHOLE], is_cut=True))["answer"] == TEXT


def test_a_call_whose_stream_broke_is_made_again_and_only_the_whole_answer_counts(server: ChatServer) -> None:
    replies = [Reply("", pieces=[some(6)]), Reply("", pieces=[some(6)], is_cut=True), Reply("", pieces=[WHOLE])]
    server.reply = lambda seen: replies[len(server.seen) - 1]
    operator = server.operator(stream=True, max_retries=2, retry_wait=0.001, outage_after=60)
    assert asyncio.run(run_rows(operator, [dict(ROW)])) == [{**ROW, "answer": TEXT}]
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("event", "amounts_to", "may_pass"),
    [
        ('data: {"error": {"message": "That model is overloaded.", "type": "server_error"}}', 200, True),
        ('data: {"error": {"message": "Slow down", "code": "rate_limit_exceeded"}}', 429, True),
        ('event: error\ndata: {"message": "it failed", "code": "internal_error"}', 200, True),
        ("event: error\ndata: no JSON at all", 200, True),
        ('data: {"error": {"message": "bad", "type": "invalid_request_error"}}', 400, False),
    ],
)
def test_an_error_in_mid_stream_means_what_it_says_and_what_came_before_was_paid_for(
    server: ChatServer, event: str, amounts_to: int, may_pass: bool
) -> None:
    error = failure(server, some(4), f"{event}\n\ndata: [DONE]\n\n".encode())
    assert (error.amounts_to, error.may_pass, error.is_served, error.is_free) == (amounts_to, may_pass, True, False)
    first = failure(server, f"{event}\n\n".encode())
    assert first.is_free == (amounts_to in (400, 429))


def test_an_error_that_is_no_stream_is_judged_as_ever(server: ChatServer) -> None:
    server.always({"error": {"message": "slow down"}}, 429)
    with pytest.raises(LLMRequestError, match="HTTP 429") as caught:
        asyncio.run(run_rows(server.operator(stream=True), [dict(ROW)]))
    assert caught.value.is_free


def test_a_server_that_does_not_stream_is_read_as_ever(server: ChatServer) -> None:
    reply = Reply(completion("yes"), headers={"Content-Type": "application/json"})
    assert asked(server, reply)["answer"] == "yes"
    page = Reply("<html>", headers={"Content-Type": "text/html; charset=utf-8"})
    with pytest.raises(LLMRequestError, match=r"did not send a chat completion but: <html> \(check base_url\)"):
        asked(server, page)
    with pytest.raises(LLMRequestError, match=r"did not send a chat completion but: hello \(check base_url\)"):
        asked(server, Reply("", pieces=[b"hello"]))


@pytest.fixture
def left() -> Iterator[threading.Event]:
    """Return what the server waits for; it is set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def hanging(left: threading.Event, *pieces: bytes) -> Reply:
    """Return an answer that stops after these pieces."""

    def sent() -> Iterator[bytes]:
        yield from pieces
        left.wait(60)

    return Reply("", pieces=sent())


def test_a_first_token_that_is_late_is_a_failure_and_what_keeps_the_connection_open_is_no_token(
    server: ChatServer, left: threading.Event
) -> None:
    stream = Stream(first_token_timeout=0.1, token_timeout=50)
    error = failed(server, hanging(left, b": keep-alive\n\n", some(1)), stream=stream)
    assert re.search(r"no first token within 0\.1 s .*raise first_token_timeout of stream", str(error))
    assert (error.may_pass, error.is_served, error.is_free) == (True, True, False)


def test_a_token_that_is_late_is_a_failure(server: ChatServer, left: threading.Event) -> None:
    error = failed(server, hanging(left, some(4), b": keep-alive\n\n"), stream={"token_timeout": 0.1})
    assert re.search(r"no further token within 0\.1 s .*raise token_timeout of stream", str(error))
    assert (error.may_pass, error.is_served, error.is_free) == (True, True, False)


def test_an_endpoint_that_says_nothing_at_all_has_no_first_token(server: ChatServer, left: threading.Event) -> None:
    class Silent:
        pieces = None

        @property
        def raw(self) -> bytes:
            left.wait(60)
            return b"x"

    error = failed(server, cast(Reply, Silent()), stream={"first_token_timeout": 0.1})
    assert "no first token within 0.1 s" in str(error)
    assert (error.may_pass, error.is_served) == (True, False)


def test_timeout_is_that_of_the_whole_answer(server: ChatServer, left: threading.Event) -> None:
    error = failed(server, hanging(left, some(4)), stream=Stream(token_timeout=50), timeout=0.3)
    assert "no answer within 0.3 s" in str(error)


def test_a_stream_that_is_not_closed_after_the_last_event_is_whole(server: ChatServer, left: threading.Event) -> None:
    assert asked(server, hanging(left, WHOLE), stream={"token_timeout": 30})["answer"] == TEXT


def test_a_run_that_is_cancelled_leaves_the_stream(server: ChatServer, left: threading.Event) -> None:
    began = threading.Event()

    def sent() -> Iterator[bytes]:
        yield some(4)
        began.set()
        left.wait(60)

    server.reply = lambda seen: Reply("", pieces=sent())

    async def cancelled() -> None:
        task = asyncio.create_task(run_rows(server.operator(stream=True), [dict(ROW)]))
        await asyncio.to_thread(began.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    left.set()
    assert server.wait_until_unconnected()


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 5000, b"y" * 5000, b"z" * 5000],
        [b'data: {"choices": [{"index": 0, "delta": {"content": "%s"}}]}\n\n' % (b"x" * 100)] * 200,
        [b"x" * 100_000],
    ],
    ids=["event", "answer", "line"],
)
def test_no_more_is_kept_than_may_be(server: ChatServer, pieces: list[bytes]) -> None:
    error = failure(server, *pieces, max_response_bytes=10_000)
    assert "sent more than 10,000 bytes: raise max_response_bytes" in str(error)
    assert (error.may_pass, error.is_served) == (False, True)


def test_what_is_around_the_pieces_of_an_answer_does_not_count(server: ChatServer) -> None:
    events = b"".join(
        b'data: {"pad": "%s", "choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n' % (b"p" * 500)
        for _ in range(200)
    )
    end = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    assert asked(server, Reply("", pieces=[events, end]), max_response_bytes=10_000)["answer"] == "x" * 200


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (b"data: {not JSON}\n\n", r"broke off: an event cannot be read: \{not JSON\}"),
        (b'data: {"choices": [{"index": 0, "delta": {"content": 7}}]}\n\n', "broke off: an event cannot be read"),
        (b'data: {"choices": [{"index": 0, "delta": {"content": "\xff"}}]}\n\n', "broke off: it is not UTF-8"),
    ],
)
def test_an_event_that_cannot_be_read_is_never_passed_over(server: ChatServer, event: bytes, message: str) -> None:
    error = failure(server, some(4), event, WHOLE.removeprefix(some(4)))
    assert re.search(message, str(error))
    assert (error.may_pass, error.is_served, error.is_free) == (True, True, False)


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error": {"message": "bad key %s", "type": "authentication"}}\n\n',
        b"event: error\ndata: bad key %s\n\n",
        b"data: {%s}\n\n",
        b'data: {"choices": [{"index": "%s", "delta": 7}]}\n\n',
    ],
)
def test_the_key_shows_in_no_error_of_a_stream(server: ChatServer, event: bytes) -> None:
    server.reply = lambda seen: Reply("", pieces=[some(4), event % KEY.encode()])
    with pytest.raises(LLMRequestError) as caught:
        asyncio.run(run_rows(server.operator(stream=True, api_key=KEY, outage_after=60), [dict(ROW)]))
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert not any(KEY[at : at + 8] in shown for at in range(len(KEY) - 7))


def test_a_whole_stream_whose_answer_was_cut_off_is_no_data(server: ChatServer) -> None:
    data = streams.sse(streams.chat(completion("ye", finish_reason="length")))
    with pytest.raises(LLMAnswerError, match="was cut off at the token limit"):
        asked(server, Reply("", pieces=[data]))


CALLS = [
    {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x"'}},
    {"index": 0, "function": {"arguments": ": 1}"}},
    {"index": 0, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
]
"""Calls by a server that gives all of them one index."""


@pytest.mark.parametrize("with_index", [True, False])
def test_pieces_of_calls_are_told_apart(server: ChatServer, with_index: bool) -> None:
    def sent() -> streams.Events:
        for call in CALLS:
            given = call if with_index else {name: value for name, value in call.items() if name != "index"}
            yield "", {"choices": [{"index": 0, "delta": {"tool_calls": [given]}}]}
        yield "", {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
        yield "", "[DONE]"

    made = asked(
        server,
        Reply("", pieces=[streams.sse(sent())]),
        params={"tools": [{"type": "function", "function": {"name": "f"}}]},
        extra_columns={"tool_calls": "calls"},
    )
    assert made["calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_details_of_thoughts_grow_by_their_index() -> None:
    assembler = ChatStreaming().assembler()
    for text, signature in (("he", None), ("llo", None), ("", "s")):
        detail = {"type": "reasoning.text", "index": 0, "text": text, "signature": signature}
        data = {"choices": [{"index": 0, "delta": {"reasoning_details": [detail]}}]}
        assembler.take(Event("", json.dumps(data).encode()))
    whole = {"type": "reasoning.text", "index": 0, "text": "hello", "signature": "s"}
    assert assembler.body()["choices"][0]["message"]["reasoning_details"] == [whole]


def test_the_cache_is_shared_with_calls_that_do_not_stream(server: ChatServer, tmp_path: Any) -> None:
    cache = str(tmp_path / "cache.db")
    assert asked(server, Reply("", pieces=[WHOLE]), cache=cache)["answer"] == TEXT
    server.always(completion("other"))
    assert asyncio.run(run_rows(server.operator(cache=cache), [dict(ROW)])) == [{**ROW, "answer": TEXT}]
    assert len(server.seen) == 1
    assert LLMOperator("x", model="m", stream=True).fingerprint() == LLMOperator("x", model="m").fingerprint()


def test_anthropic_fails_in_mid_stream_as_it_says(server: ChatServer) -> None:
    events = list(streams.messages(ANTHROPIC.answer.body))
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    options: dict[str, Any] = {"adapter": "anthropic"}
    caught = failure(server, streams.sse(iter([*events[:8], ("error", error)])), **options)
    assert "Overloaded" in str(caught)
    assert (caught.may_pass, caught.is_served, caught.is_free, caught.usage) == (True, True, False, {})
    for count in range(1, len(events) - 1):
        assert failure(server, streams.sse(iter(events[:count])), **options).may_pass
    lost = [event for event in events if event[0] != "content_block_start"]
    assert "an event cannot be read" in str(failure(server, streams.sse(iter(lost)), **options))


AWS = streams.aws(streams.converse(BEDROCK.answer.body))


@pytest.mark.parametrize("size", [1, 5, 64, 100_000])
def test_messages_of_aws_are_the_same_wherever_the_bytes_are_cut(size: int) -> None:
    known = bytes.fromhex("0000001e00000000baf2f68a7b22666f6f223a2022626172227dae7258e4")  # as others write it
    odd = streams.aws_message("x", b"{}", a=b"\x00", b=b"\x06\x00\x02\xff\xfe", c=b"\x09" + bytes(16))
    data, frames, found = known + odd + AWS, AwsFrames(), list[Event]()
    for at in range(0, len(data), size):
        found += frames.feed(data[at : at + size])
    assert [each.name for each in found[:3]] == ["", "x", "messageStart"]
    assert (json.loads(found[0].data), found[-1].name, frames.pending) == ({"foo": "bar"}, "metadata", 0)
    assert [*frames.end()] == []


def test_a_message_of_aws_that_is_damaged_is_a_failure_that_may_pass(server: ChatServer) -> None:
    for at in (0, 9, 20, 60, len(AWS) // 2, len(AWS) - 3):
        damaged = AWS[:at] + bytes([AWS[at] ^ 1]) + AWS[at + 1 :]
        error = failure(server, damaged, adapter="bedrock")
        assert "damaged body: " in str(error), at
        assert (error.may_pass, error.is_served) == (True, True)


@pytest.mark.parametrize(
    ("name", "amounts_to", "may_pass"),
    [
        ("throttlingException", 429, True),
        ("serviceUnavailableException", 200, True),
        ("validationException", 400, False),
    ],
)
def test_an_exception_in_mid_stream_means_what_its_name_says(
    server: ChatServer, name: str, amounts_to: int, may_pass: bool
) -> None:
    begun = streams.aws(iter(list(streams.converse(BEDROCK.answer.body))[:3]))
    error = failure(server, begun, streams.aws_message(name, b'{"message": "Too bad."}'), adapter="bedrock")
    assert "Too bad." in str(error)
    assert (error.amounts_to, error.may_pass, error.is_served, error.is_free) == (amounts_to, may_pass, True, False)
    told = {":message-type": "error", ":error-code": "internal", ":error-message": "Gone."}
    headers = {key: b"\x07" + len(value).to_bytes(2) + value.encode() for key, value in told.items()}
    assert "Gone." in str(failure(server, begun, streams.aws_message("", b"", **headers), adapter="bedrock"))


def test_gemini_may_say_stop_all_along_and_a_cut_stream_is_no_answer_all_the_same(server: ChatServer) -> None:
    chunk = 'data: {"candidates": [{"content": {"parts": [{"text": "%s"}]}, "finishReason": "STOP"}]}\r\n\r\n'
    sent = [(chunk % text).encode() for text in ("he", "llo")]
    options: dict[str, Any] = {"adapter": "gemini"}
    assert "the connection failed" in str(failure(server, *sent, is_cut=True, **options))
    assert asked(server, Reply("", pieces=sent), **options)["answer"] == "hello"
    refused = b'data: {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}\n\n'
    error = failure(server, refused, **options)
    assert (error.amounts_to, error.may_pass) == (503, True)


def test_the_items_of_a_response_count_where_the_last_event_leaves_them_out(server: ChatServer) -> None:
    events = [
        (name, {**data, "response": {**data["response"], "output": []}} if name == "response.completed" else data)
        for name, data in streams.response(RESPONSES.answer.body)
    ]
    options: dict[str, Any] = {"adapter": "openai-responses"}
    assert asked(server, Reply("", pieces=[streams.sse(iter(events))]), **options)["answer"] == "yes"
    assert "the stream ended before" in str(failure(server, streams.sse(iter(events[:-1])), **options))
    told = {"type": "error", "code": "rate_limit_exceeded", "message": "Slow down.", "param": None}
    error = failure(server, streams.sse(iter([*events[:4], ("error", told)])), **options)
    assert (error.amounts_to, error.may_pass, error.is_free) == (429, True, False)


def test_ollama_fails_in_a_line_and_may_answer_in_one(server: ChatServer) -> None:
    events = list(streams.ollama(OLLAMA.answer.body))
    options: dict[str, Any] = {"adapter": "ollama"}
    error = failure(server, streams.lines(iter([*events[:2], ("", {"error": "the runner was stopped"})])), **options)
    assert "the runner was stopped" in str(error)
    assert (error.may_pass, error.is_free) == (True, False)
    assert "the stream ended before" in str(failure(server, streams.lines(iter(events[:-1])), **options))
    whole = Reply(OLLAMA.answer.body, headers={"Content-Type": "application/json; charset=utf-8"})
    assert asked(server, whole, **options)["answer"] == "yes"


def test_logprobs_grow_with_the_answer(server: ChatServer) -> None:
    def sent() -> streams.Events:
        for piece in ("ye", "s"):
            logprobs = {"content": [{"token": piece, "logprob": -0.5}], "refusal": None}
            yield "", {"choices": [{"index": 0, "delta": {"content": piece}, "logprobs": logprobs}]}
        yield "", {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None}]}

    made = asked(server, Reply("", pieces=[streams.sse(sent())]), extra_columns={"logprobs": "p"})
    assert made["p"] == {"content": [{"token": "ye", "logprob": -0.5}, {"token": "s", "logprob": -0.5}]}


def test_an_option_that_is_wrong_is_refused_and_an_adapter_that_cannot_stream(server: ChatServer) -> None:
    with pytest.raises(ConfigError, match=r"stream\['token_timeout'\] must be a positive number of seconds, not 0"):
        server.operator(stream={"token_timeout": 0})
    with pytest.raises(ConfigError, match="tokens_timeout"):
        server.operator(stream={"tokens_timeout": 1})
    with pytest.raises(ConfigError, match="stream must be a Stream or a dict, not 'yes'"):
        server.operator(stream="yes")
    with pytest.raises(ConfigError, match="give stream or batch_api, not both: rows in jobs are not streamed"):
        server.operator(stream=True, batch_api=True)
    server.operator(stream=True, batch_api={"fallback": "online"})
    with pytest.raises(ConfigError, match="Silent does not say how its API streams: leave stream out"):
        server.operator(stream=True, adapter=f"{__name__}:Silent")


class Silent(AnthropicAdapter):
    """An adapter that does not stream."""

    streaming = ChatAdapter.streaming  # type: ignore[assignment]


def test_a_run_whose_streams_go_wrong_in_every_way_has_every_row_once(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"q": f"q{number}"} for number in range(60)])
    shares = dict.fromkeys(("truncated", "malformed", "late_error", "reset", "server_error"), 0.06)
    with FakeLLMServer(
        answer=lambda messages: f"to {messages[-1]['content']}, " * 5, faults=LLMFaults(**shares)
    ) as fake:
        operator = LLMOperator(
            "{{ q }}",
            model="m",
            base_url=fake.base_url,
            stream=True,
            max_retries=20,
            retry_wait=0.001,
            prices={"input": 1.0, "output": 2.0},
        )
        pipeline = UnifiedPipeline(
            [operator],
            f"jsonl://{tmp_path / 'in.jsonl'}",
            f"jsonl://{tmp_path / 'out.jsonl'}",
            results_dir=str(tmp_path / "results"),
            parallel_size=8,
        )
        report = pipeline.create("a").run()
    made = lines(tmp_path / "out.jsonl")
    assert sorted(row["answer"] for row in made) == sorted(f"to q{number}, " * 5 for number in range(60))
    pings = fake.answered.pop("ping", 0)  # of the circuit breaker, one token each, when several calls in a row failed
    assert (set(fake.answered.values()), set(fake.faults_met)) == ({1}, set(shares))
    (usage,) = report.nodes[0].usage
    assert usage["completion_tokens"] == sum(len(row["answer"]) // 4 for row in made) + pings
    assert usage["requests"] == fake.calls - fake.faults_met["reset"] - fake.faults_met["server_error"]


def test_a_cassette_that_was_recorded_of_streams_is_played(server: ChatServer, tmp_path: Path) -> None:
    with cassette(tmp_path / "calls.jsonl", "once"):
        assert asked(server, Reply("", pieces=[WHOLE]))["answer"] == TEXT
    for stream in (True, False):
        with cassette(tmp_path / "calls.jsonl"):
            assert asked(server, Reply("never sent"), stream=stream)["answer"] == TEXT
    assert len(server.seen) == 1
