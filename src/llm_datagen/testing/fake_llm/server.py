"""An endpoint of models for tests: real HTTP, chosen answers, faults that depend on a seed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Self

import orjson

from llm_datagen.testing.clock import ManualClock
from llm_datagen.testing.fake_llm.answers import Answer, structured_mode
from llm_datagen.testing.fake_llm.batch.options import LLMBatches
from llm_datagen.testing.fake_llm.batch.service import BatchService
from llm_datagen.testing.fake_llm.bodies import json_of, scores_of, texts_in, vectors_of
from llm_datagen.testing.fake_llm.completions import Completions
from llm_datagen.testing.fake_llm.faults import Latency, LLMFaults, draws
from llm_datagen.testing.fake_llm.http import Connection, HTTPRequest, error_body
from llm_datagen.testing.fake_llm.limits import LLMLimits, Turnstile
from llm_datagen.testing.fake_llm.shapes import Shape, shape_of
from llm_datagen.testing.fake_llm.streamed import broken, events_of
from llm_datagen.testing.fake_llm.thread import ServerThread


class FakeLLMServer:
    """Serves the APIs of models on this machine, from a thread of its own, as long as its block lasts.

    These are ``POST /v1/chat/completions``, OpenAI's ``/v1/responses``, Anthropic's ``/v1/messages``, Gemini's
    ``generateContent``, and the batch APIs of all three and of Mistral; see `url`.

    Also ``/v1/embeddings`` (texts with common words have vectors that are near to one another) and ``/v1/rerank`` (the
    score of a document is the share of the words of the query that it has).

    Which call gets which fault, and takes how long, depends on the seed, the request's body and how often that body
    has come: a run with the same prompts meets the same faults, however its calls are timed. With ``"stream": true``,
    an answer comes as events.

    The counts may be read from any thread, at any time; they go on after the block ends.

    Args:
        answer: a text; a function from the messages to a text, JSON data or `ToolCalls`, called on the server's
            thread; or None: an answer that is valid against the schema in ``response_format``, or a few words when
            there is none.
        latency: seconds that a call takes, or a `Latency`.
        faults: the shares of calls that go wrong; None: none.
        limits: how many calls are let in; None: all.
        seed: of the faults, the latencies and the answers that are made up.
        api_key: calls without this bearer token are answered with 401; None: any call is served.
        structured: how JSON may be asked for; a call that does so otherwise is answered with 400.
        dimensions: how many numbers a vector has, unless the request says it.
        port: to listen on; 0: a free one. Set it to let a server come back under its old URL.
        batches: how jobs are worked on; None: at once, and without faults.
        clock: of the jobs, in seconds since 1970; None: that of this machine, and what `advance` adds.

    Attributes:
        base_url: what a client is given, ``http://127.0.0.1:PORT/v1``; "" before the block begins.
        limits: as given; may be set at any time, from any thread.
        outage: whether every call is answered with 503; may be set at any time, from any thread.
        calls: calls that came in.
        answered: by the text of the last message, the calls that were answered in full and would have been paid for; of
            embeddings, by each text.
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
        dimensions: int = 8,
        port: int = 0,
        batches: LLMBatches | None = None,
        clock: ManualClock | None = None,
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
        self._latency = latency if isinstance(latency, Latency) else Latency(seconds=latency)
        self._faults = faults or LLMFaults()
        self._turnstile = Turnstile()
        self._seed = seed
        self._completions = Completions(answer, seed)
        self._clock = clock
        self._advanced = 0.0
        self._billed = (0, 0)
        self._batches = BatchService(batches or LLMBatches(), self._completions, seed, self.now)
        self._api_key = api_key
        self._structured = structured
        self._dimensions = dimensions
        self._port = port
        self._attempts: Counter[bytes] = Counter()
        self._open = 0
        self._first = self._last = 0.0
        self._prompts: Counter[str] = Counter()
        self._thread = ServerThread(self, "fake-llm")

    def __enter__(self) -> Self:
        self._port = self._thread.start(self._port)
        self.base_url = f"http://127.0.0.1:{self._port}/v1"
        return self

    def __exit__(self, *_exc: object) -> None:
        self._thread.stop()

    @property
    def prompts(self) -> Counter[str]:
        """How often each prompt came, answered or not, by the text of the last message; of embeddings, each text."""
        return self._prompts.copy()

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

    def url(self, adapter: str = "openai") -> str:
        """Return the ``base_url`` for an adapter of this name; for one that is not known, that of chat completions."""
        root = self.base_url.removesuffix("/v1")
        return {"anthropic": root, "azure": root, "gemini": f"{root}/v1beta"}.get(adapter, self.base_url)

    def now(self) -> float:
        """Return the time that the jobs go by, in seconds since 1970."""
        return self._advanced + (time.time() if self._clock is None else self._clock.monotonic())

    def advance(self, seconds: float) -> None:
        """Move the time of the jobs on. May be called from any thread, as `account` may."""
        self._advanced += seconds

    def account(self) -> dict[str, Any]:
        """Return what was registered and what would be billed, by jobs and by calls, as JSON data.

        ``jobs``: the ids of the jobs by their key (an Anthropic job has that of its custom ids), also deleted ones;
        ``running`` and ``undeleted``: ids; ``rows``: by the text of the last message, how often it was answered in
        jobs; ``calls``: the same, by calls; ``custom_ids``: by job and custom id, how often it was answered;
        ``tokens``: of prompts and answers; ``dollars``: by the `LLMBatches.price`; ``files``: the names of those that
        were not deleted. A late job counts once it is registered, an answer once its job has ended.
        """
        return self._batches.account(self.answered.copy(), self._billed)

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
        elif path == "/account" and request.method == "GET":
            connection.respond(200, orjson.dumps(self.account()))
        elif path == "/clock" and request.method == "PUT":
            self.advance(orjson.loads(request.body)["advance"])
            connection.respond(200, b"{}")
        elif (found := shape_of(path.removeprefix("/openai"))) is not None and request.method == "POST":
            self._call(request, connection, *found)
        elif not self._knows(request):
            self._refuse(connection)
        else:
            self._batches.serve(request, connection, self.base_url.removesuffix("/v1"))

    def client_left(self) -> None:
        """Record that a call has lost its client. Called on the server's thread."""
        self.abandoned += 1
        self._open -= 1

    def _knows(self, request: HTTPRequest) -> bool:
        """Return whether a request has the key, in the header of any of the APIs."""
        names = ("x-api-key", "api-key", "x-goog-api-key")
        given = [request.headers.get("authorization", "").removeprefix("Bearer "), *map(request.headers.get, names)]
        return self._api_key is None or self._api_key in given

    def _refuse(self, connection: Connection) -> None:
        self.faults_met["api_key"] += 1
        connection.respond(401, error_body("Incorrect API key provided"))

    def _call(self, request: HTTPRequest, connection: Connection, shape: Shape, model: str) -> None:
        now = time.monotonic()
        self._first = self._first or now
        self._last = now
        self.calls += 1
        if not self._knows(request):
            self._refuse(connection)
            return
        try:
            body = shape.to_chat(orjson.loads(request.body), model)
            self._prompts.update(texts_in(body))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            self._fail(connection, shape, 400, f"the body is no request for an answer: {error!r}")
            return
        self._attempts[request.body] += 1
        mode = structured_mode(body)
        if mode is not None and mode not in self._structured:
            self.faults_met["structured"] += 1
            field = "tools are" if mode == "tool" else f"response_format of type {mode!r} is"
            self._fail(connection, shape, 400, f"{field} not supported by this model")
            return
        if self.outage:
            self.faults_met["outage"] += 1
            self._fail(connection, shape, 503, "there is an outage")
            return
        if not self._turnstile.lets_in(self.limits, self._open, now):
            self.faults_met["limits"] += 1
            self._fail(connection, shape, 429, "too many calls", self._turnstile.headers(self.limits, now))
            return
        fault_draw, latency_draw = draws(self._seed, request.body, self._attempts[request.body])
        fault = self._faults.of(fault_draw)
        if fault == "rate_limit":
            self.faults_met[fault] += 1
            after = self._faults.retry_after
            self._fail(connection, shape, 429, "slow down", "" if after is None else f"Retry-After: {after:g}\r\n")
            return
        self._open += 1
        self.peak = max(self.peak, self._open)
        seconds = self._latency.of(latency_draw)
        self.latencies.append(seconds)
        if seconds:
            connection.later(seconds, self._finish, connection, shape, request.body, body, fault)
        else:
            self._finish(connection, shape, request.body, body, fault)

    def _finish(
        self, connection: Connection, shape: Shape, raw: bytes, body: dict[str, Any], fault: str | None
    ) -> None:
        streams = bool(body.get("stream"))
        if fault is not None:
            self.faults_met[fault] += 1
        if fault == "stalled" and not streams:  # it stays open
            connection.keep_silent()
            return
        self._open -= 1
        self._last = time.monotonic()
        if fault == "reset":
            connection.reset()
            return
        if fault == "server_error":
            self._fail(connection, shape, 500, "something broke")
            return
        if fault == "late_error" and not streams:
            connection.respond(200, error_body("something broke", type="server_error"))
            return
        if fault == "malformed" and not streams:
            connection.respond(200, b'{"choices": [{"message": {"content": "amb')
            return
        try:
            completion, tokens = self._made(raw, body, fault)
        except Exception as error:  # noqa: BLE001 - the answer function is the test's own; the client gets the error
            self._fail(connection, shape, 400, f"no answer could be made: {error!r}")
            return
        self.tokens += sum(tokens)
        if streams:
            self._stream(connection, body, completion, fault, tokens)
            return
        answer = orjson.dumps(shape.from_chat(completion)) if "messages" in body else json_of(completion)
        if fault == "truncated":
            connection.break_off(answer)
            return
        self._bill(body, tokens)
        connection.respond(200, answer, self._turnstile.headers(self.limits, self._last))

    def _stream(
        self,
        connection: Connection,
        body: Mapping[str, Any],
        completion: Mapping[str, Any],
        fault: str | None,
        tokens: tuple[int, int],
    ) -> None:
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        whole = events_of(completion, with_usage=with_usage)
        events, ending = broken(whole, fault)
        if events is whole:
            self._bill(body, tokens)
        if ending == "silent":
            self._open += 1
        connection.stream(events, ending, self._turnstile.headers(self.limits, self._last))

    def _made(self, raw: bytes, body: dict[str, Any], fault: str | None) -> tuple[dict[str, Any], tuple[int, int]]:
        if "messages" in body:
            made = self._completions.make(raw, body, is_cut_off=fault == "cut_off")
            return made, (made["usage"]["prompt_tokens"], made["usage"]["completion_tokens"])
        made, tokens = vectors_of(body, self._dimensions, fault) if "input" in body else scores_of(body, fault)
        return made, (tokens, 0)

    def _bill(self, body: Mapping[str, Any], tokens: tuple[int, int]) -> None:
        self._billed = self._billed[0] + tokens[0], self._billed[1] + tokens[1]
        self.answered.update(texts_in(body))

    def _fail(self, connection: Connection, shape: Shape, status: int, message: str, headers: str = "") -> None:
        connection.respond(status, orjson.dumps(shape.error(status, message)), headers)
