"""An OpenAI-compatible endpoint for tests: real HTTP, chosen answers, faults that depend on a seed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any, Self

import orjson

from llm_datagen.testing.fake_llm.answers import Answer, answer_text, forced_tool, structured_mode
from llm_datagen.testing.fake_llm.faults import Latency, LLMFaults, draws
from llm_datagen.testing.fake_llm.http import Connection, HTTPRequest, error_body
from llm_datagen.testing.fake_llm.limits import LLMLimits, Turnstile

_STARTS_WITHIN = 10.0


class FakeLLMServer:
    """Serves ``POST /v1/chat/completions`` on this machine, from a thread of its own, as long as its block lasts.

    Which call gets which fault, and takes how long, depends on the seed, the request's body and how often that body
    has come: a run with the same prompts meets the same faults, however its calls are timed.

    The counts may be read from any thread, at any time; they go on after the block ends.

    Args:
        answer: a text; a function from the messages to a text or JSON data, called on the server's thread; or None:
            an answer that is valid against the schema in ``response_format``, or a few words when there is none.
        latency: seconds that a call takes, or a `Latency`.
        faults: the shares of calls that go wrong; None: none.
        limits: how many calls are let in; None: all.
        seed: of the faults, the latencies and the answers that are made up.
        api_key: calls without this bearer token are answered with 401; None: any call is served.
        structured: how JSON may be asked for; a call that does so otherwise is answered with 400.
        port: to listen on; 0: a free one. Set it to let a server come back under its old URL.

    Attributes:
        base_url: what a client is given, ``http://127.0.0.1:PORT/v1``; "" before the block begins.
        limits: as given; may be set at any time, from any thread.
        outage: whether every call is answered with 503; may be set at any time, from any thread.
        calls: calls that came in.
        answered: by the text of the last message, the calls that were answered in full and would have been paid for.
        faults_met: the calls that went wrong, by the name of the share, ``limits``, ``outage``, ``api_key`` or
            ``structured``.
        abandoned: calls whose client went away before the answer.
        tokens: prompt and answer tokens in the usage of all answers; a token is four characters. An answer that is
            longer than ``max_tokens`` is cut off.
        peak: the most calls that were being answered at once.
        latencies: the seconds that each call was given, in the order in which they came; without those that were
            turned away at once.

    Raises:
        OSError: when the block begins and the port cannot be had.
    """

    def __init__(
        self,
        *,
        answer: Answer = None,
        latency: float | Latency = 0.0,
        faults: LLMFaults | None = None,
        limits: LLMLimits | None = None,
        seed: int = 0,
        api_key: str | None = None,
        structured: Collection[str] = ("json_schema", "json_object", "tool"),
        port: int = 0,
    ) -> None:
        self.base_url = ""
        self.limits = limits
        self.outage = False
        self.calls = 0
        self.answered: Counter[str] = Counter()
        self.faults_met: Counter[str] = Counter()
        self.abandoned = 0
        self.tokens = 0
        self.peak = 0
        self.latencies: list[float] = []
        self._answer = answer
        self._latency = latency if isinstance(latency, Latency) else Latency(seconds=latency)
        self._faults = faults or LLMFaults()
        self._turnstile = Turnstile()
        self._seed = seed
        self._api_key = api_key
        self._structured = structured
        self._port = port
        self._attempts: Counter[bytes] = Counter()
        self._open = 0
        self._first = self._last = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connections: set[Connection] = set()

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="fake-llm", daemon=True)
        self._thread.start()
        started.result(_STARTS_WITHIN)
        return self

    def __exit__(self, *_exc: object) -> None:
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
        self._loop = self._thread = None

    @property
    def prompts(self) -> Counter[str]:
        """How often each prompt came, answered or not, by the text of the last message."""
        prompts: Counter[str] = Counter()
        for body, times in self._attempts.copy().items():
            prompts[_last_text(orjson.loads(body))] += times
        return prompts

    def stats(self) -> dict[str, Any]:
        """Return the counts as JSON data, as ``GET /stats`` does.

        ``window_s`` are the seconds from the first call to the last answer, ``cpu_s`` those of the server's process.
        """
        return {
            "calls": self.calls,
            "answered": self.answered.total(),
            "answered_twice": sum(1 for times in self.answered.copy().values() if times > 1),
            "faults_met": dict(self.faults_met),
            "abandoned": self.abandoned,
            "tokens": self.tokens,
            "peak": self.peak,
            "window_s": max(0.0, self._last - self._first),
            "cpu_s": time.process_time(),
        }

    def handle(self, request: HTTPRequest, connection: Connection) -> None:
        """Answer a request. Called on the server's thread."""
        path = request.path.partition("?")[0]
        if path == "/stats" and request.method == "GET":
            connection.respond(200, orjson.dumps(self.stats()))
        elif path == "/latencies" and request.method == "GET":
            connection.respond(200, orjson.dumps(self.latencies))
        elif path == "/outage" and request.method in ("PUT", "DELETE"):
            self.outage = request.method == "PUT"
            connection.respond(200, b"{}")
        elif path != "/v1/chat/completions" or request.method != "POST":
            connection.respond(404, error_body(f"there is no {request.method} {path} here"))
        else:
            self._call(request, connection)

    def client_left(self) -> None:
        """Record that a call has lost its client. Called on the server's thread."""
        self.abandoned += 1
        self._open -= 1

    def _call(self, request: HTTPRequest, connection: Connection) -> None:
        now = time.monotonic()
        self._first = self._first or now
        self._last = now
        self.calls += 1
        if self._api_key is not None and request.headers.get("authorization") != f"Bearer {self._api_key}":
            self.faults_met["api_key"] += 1
            connection.respond(401, error_body("Incorrect API key provided"))
            return
        try:
            body = orjson.loads(request.body)
            _last_text(body)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            connection.respond(400, error_body(f"the body is no chat completion request: {error!r}"))
            return
        self._attempts[request.body] += 1
        mode = structured_mode(body)
        if mode is not None and mode not in self._structured:
            self.faults_met["structured"] += 1
            field = "tools are" if mode == "tool" else f"response_format of type {mode!r} is"
            connection.respond(400, error_body(f"{field} not supported by this model"))
            return
        if self.outage:
            self.faults_met["outage"] += 1
            connection.respond(503, error_body("there is an outage"))
            return
        if not self._turnstile.lets_in(self.limits, self._open, now):
            self.faults_met["limits"] += 1
            connection.respond(429, error_body("too many calls"), self._turnstile.headers(self.limits, now))
            return
        fault_draw, latency_draw = draws(self._seed, request.body, self._attempts[request.body])
        fault = self._faults.of(fault_draw)
        if fault == "rate_limit":
            self.faults_met[fault] += 1
            after = self._faults.retry_after
            connection.respond(429, error_body("slow down"), "" if after is None else f"Retry-After: {after:g}\r\n")
            return
        self._open += 1
        self.peak = max(self.peak, self._open)
        seconds = self._latency.of(latency_draw)
        self.latencies.append(seconds)
        if seconds:
            connection.later(seconds, self._finish, connection, request.body, body, fault)
        else:
            self._finish(connection, request.body, body, fault)

    def _finish(self, connection: Connection, raw: bytes, body: dict[str, Any], fault: str | None) -> None:
        self._open -= 1
        self._last = time.monotonic()
        if fault is not None:
            self.faults_met[fault] += 1
        if fault == "reset":
            connection.reset()
            return
        if fault == "server_error":
            connection.respond(500, error_body("something broke"))
            return
        if fault == "malformed":
            connection.respond(200, b'{"choices": [{"message": {"content": "amb')
            return
        try:
            completion = self._completion(raw, body, is_cut_off=fault == "cut_off")
        except Exception as error:  # noqa: BLE001 - the answer function is the test's own; the client gets the error
            connection.respond(400, error_body(f"no answer could be made: {error!r}"))
        else:
            if fault == "truncated":
                connection.break_off(completion)
                return
            self.answered[_last_text(body)] += 1
            connection.respond(200, completion, self._turnstile.headers(self.limits, self._last))

    def _completion(self, raw: bytes, body: dict[str, Any], *, is_cut_off: bool) -> bytes:
        texts = [
            answer_text(self._answer, body, b"%d/%d/" % (self._seed, sample) + raw)
            for sample in range(body.get("n") or 1)
        ]
        if is_cut_off:
            texts = [text[: len(text) // 2] for text in texts]
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if limit and any(len(text) // 4 > limit for text in texts):
            texts, is_cut_off = [text[: limit * 4] for text in texts], True
        prompt_tokens = max(1, len(orjson.dumps(body["messages"])) // 4)
        completion_tokens = sum(max(1, len(text) // 4) for text in texts)
        self.tokens += prompt_tokens + completion_tokens
        reason = "length" if is_cut_off else "stop"
        tool = forced_tool(body)
        return orjson.dumps(
            {
                "id": f"chatcmpl-{self.calls}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": body.get("model", ""),
                "choices": [
                    {"index": index, "message": _message(text, tool), "finish_reason": reason}
                    for index, text in enumerate(texts)
                ],
                "usage": {
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": completion_tokens,
                    "total_tokens": prompt_tokens + completion_tokens,
                },
            }
        )

    def _run(self, started: Future[None]) -> None:
        loop = asyncio.new_event_loop()
        try:
            listening = loop.run_until_complete(
                loop.create_server(lambda: Connection(self, self._connections), "127.0.0.1", self._port, backlog=1024)
            )
        except (OSError, OverflowError) as error:
            loop.close()
            started.set_exception(error)
            return
        self._loop = loop
        self._port = listening.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self._port}/v1"
        started.set_result(None)
        try:
            loop.run_forever()
        finally:
            listening.close()
            for connection in tuple(self._connections):
                connection.abort()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()


def _message(text: str, tool: Mapping[str, Any] | None) -> dict[str, Any]:
    if tool is None:
        return {"role": "assistant", "content": text}
    call = {"id": "call_0", "type": "function", "function": {"name": tool["name"], "arguments": text}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _last_text(body: Any) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else orjson.dumps(content).decode()
