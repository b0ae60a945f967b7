"""A fake endpoint in a process of its own, that knows what it has sold: to whom, how often, and for how much.

It charges for a call when it comes in, as providers do, also when its answer is lost on the way, or nobody waits for it
any more; not for what it turns away by an HTTP error, unless a gateway says that, which has not waited. An answer names
its prompt, the endpoint, and its own number.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from llm_datagen.testing import FakeLLMServer, Latency, LLMFaults
from llm_datagen.testing.fake_llm.faults import draws
from llm_datagen.testing.fake_llm.http import Connection, HTTPRequest, error_body
from llm_datagen.testing.fake_llm.shapes import Shape

from .forks import serve

PRICES = {"input": 1.0, "output": 2.0}
"""Of all endpoints: US dollars a million tokens."""

_PICO_A_TOKEN = {name: round(usd * 1_000_000) for name, usd in PRICES.items()}
_TURNED_AWAY = ("outage", "rate_limit", "api_key", "limits")


def first_words(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the prompt that a conversation began with."""
    return str(messages[0]["content"])


def stamp(prompt: str) -> str:
    """Return what an answer says of its prompt."""
    return blake2b(prompt.encode(), digest_size=6).hexdigest()


def is_broken(prompt: str, depth: int) -> bool:
    """Return whether an answer does not fit the schema.

    Args:
        prompt: the prompt; its second word says what may be: ``j1``, some first answers; ``j2``, also all of some.
        depth: how many messages the conversation has.
    """
    draw, may = int(stamp(prompt)[:4], 16), prompt.split()[1]
    return (may in ("j1", "j2") and draw % 6 == 0 and depth == 1) or never_fits(prompt)


def never_fits(prompt: str) -> bool:
    """Return whether no answer to a prompt fits the schema."""
    return prompt.split()[1] == "j2" and int(stamp(prompt)[4:8], 16) % 20 == 0


def _choices(body: Mapping[str, Any]) -> int:
    """Return how many answers a call asks for; the prompt is charged for once."""
    return int(body.get("n") or 1)


def _is_late(body: Mapping[str, Any]) -> bool:
    """Return whether the error of a call comes from a gateway, after the work was done."""
    return int(stamp(first_words(body["messages"]))[:2], 16) % 3 == 0


class Till(FakeLLMServer):
    """Counts by conversation: the number of its messages and its first words.

    Args:
        number: of the endpoint.
        latency: of its calls.
        faults: of its calls; until it is told to be calm.
        seed: of both.
        api_key: that is asked for.
    """

    def __init__(self, number: int, *, latency: Latency, faults: LLMFaults, seed: int, api_key: str) -> None:
        super().__init__(answer=self._said, latency=latency, faults=faults, seed=seed, api_key=api_key)
        self._number = number
        self._given = 0
        self._slow_share = latency.slow_share
        self._sold = {"picodollars": 0, "tokens": 0, "charged": 0}
        self._of: dict[str, Counter[str]] = {}
        self._came_at: list[float] = []

    def handle(self, request: HTTPRequest, connection: Connection) -> None:
        """Answer a request, also those of the driver."""
        if request.path == "/plan":
            self._plan(**orjson.loads(request.body))
            connection.respond(200, b"{}")
        elif request.path == "/sold":
            served = self.answered.total() + self.faults_met["malformed"]
            known = {"of": self._of, "served": served, "broken_off": self.faults_met["truncated"]}
            known["came_at"] = self._came_at
            connection.respond(200, orjson.dumps(self._sold | known))
        else:
            super().handle(request, connection)

    def _plan(self, *, outages: Sequence[Sequence[float]] = (), is_calm: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self.outage = False
        for begin, end in outages:
            loop.call_later(begin, setattr, self, "outage", True)
            loop.call_later(end, setattr, self, "outage", False)
        if is_calm:
            self._faults, self._latency, self._slow_share = LLMFaults(), Latency(), 0.0

    def _call(self, request: HTTPRequest, connection: Connection, shape: Shape, model: str) -> None:
        self._came_at.append(time.monotonic())
        body = orjson.loads(request.body)
        if body["model"] != f"m{self._number}":
            connection.respond(404, error_body(f"there is no model {body['model']} here"))
            return
        messages = body["messages"]
        counts = self._of.setdefault(f"{len(messages)} {first_words(messages)}", Counter())
        fault_draw, latency_draw = draws(self._seed, request.body, self._attempts[request.body] + 1)
        fault = self._faults.of(fault_draw)
        turned_away = sum(self.faults_met[name] for name in _TURNED_AWAY)
        super()._call(request, connection, shape, model)
        is_refused = fault == "server_error" and not _is_late(body)
        if sum(self.faults_met[name] for name in _TURNED_AWAY) == turned_away and not is_refused:
            self._charge(body, is_cut_off=fault == "cut_off")
            counts["charged"] += 1
        if fault is not None and not self.outage:
            counts[fault] += 1
        elif latency_draw < self._slow_share:
            counts["slow"] += 1

    def _charge(self, body: Mapping[str, Any], *, is_cut_off: bool) -> None:
        texts = [self._said(body["messages"]) for _ in range(_choices(body))]
        prompt = max(1, len(orjson.dumps(body["messages"])) // 4)
        tokens = sum(max(1, (len(text) // 2 if is_cut_off else len(text)) // 4) for text in texts)
        self._sold["tokens"] += prompt + tokens
        self._sold["picodollars"] += prompt * _PICO_A_TOKEN["input"] + tokens * _PICO_A_TOKEN["output"]
        self._sold["charged"] += 1

    def _finish(
        self, connection: Connection, shape: Shape, raw: bytes, body: dict[str, Any], fault: str | None
    ) -> None:
        if fault == "server_error" and _is_late(body):
            self._open -= 1
            self.faults_met[fault] += 1
            connection.respond(504, error_body("the gateway has not waited for the answer"))
            return
        answered = self.answered.total()
        super()._finish(connection, shape, raw, body, fault)
        if self.answered.total() > answered:
            messages = body["messages"]
            self._of[f"{len(messages)} {first_words(messages)}"]["answered"] += _choices(body)

    def _said(self, messages: Sequence[Mapping[str, Any]]) -> str:
        prompt = first_words(messages)
        if prompt == "ping":
            return "pong"
        if is_broken(prompt, len(messages)):
            return '{"h": 7}' if int(stamp(prompt), 16) % 2 else "I would rather not."
        self._given += 1
        said = {"h": stamp(prompt), "by": f"{self._number}-{self._given:08}"}
        return json.dumps(said) if prompt.split()[1].startswith("j") else f"{said['h']} {said['by']}"


@dataclass(frozen=True, slots=True)
class TillProcess:
    """A till in a child of the driver. To be made before the driver has any thread.

    Attributes:
        pid: of its process.
        base_url: of the endpoint.
        api_key: that it asks for.
    """

    pid: int
    base_url: str
    api_key: str

    @classmethod
    def start(cls, number: int, *, latency: Latency, faults: LLMFaults, seed: int, api_key: str) -> TillProcess:
        """Fork it, and wait until it serves."""

        @contextmanager
        def till() -> Iterator[str]:
            with Till(number, latency=latency, faults=faults, seed=seed, api_key=api_key) as one:
                yield one.base_url

        pid, base_url = serve(till)
        return cls(pid, base_url, api_key)

    def plan(self, **plan: Any) -> None:
        """Say what happens from now on: ``outages``, pairs of seconds from now; ``is_calm``, no more faults."""
        self._ask("PUT", "/plan", plan)

    def sold(self) -> dict[str, Any]:
        """Return what was sold."""
        return dict(self._ask("GET", "/sold"))

    def stop(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", int(self.base_url.split(":")[2].split("/")[0]), timeout=20)
        try:
            connection.request(method, path, json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()
