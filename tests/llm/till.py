"""A server's own count of what it is paid: every request that it begins to work on, also those whose answer is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any

from .chat_server import ChatServer, Reply, Seen, completion

PRICES = {"input": 1.0, "output": 2.0}


class Till:
    """Answers the calls of a server, and counts them when they come in.

    Args:
        server: whose calls.
        faults: the share of calls that go wrong: in equal parts refused, broken off, and damaged.
        seconds: that a call takes.
        then: called after each call that came in, with their number.
    """

    def __init__(
        self,
        server: ChatServer,
        *,
        faults: float = 0.0,
        seconds: float = 0.01,
        then: Callable[[int], None] = lambda calls: None,
    ) -> None:
        self.tokens = self.calls = 0
        self.usd = 0.0
        self._faults = faults
        self._seconds = seconds
        self._then = then
        self._random = Random(7)
        self._lock = threading.Lock()
        server.reply = self.reply

    def reply(self, seen: Seen) -> Reply:
        with self._lock:
            self.calls += 1
            calls, draw = self.calls, self._random.random() / max(self._faults, 1e-9)
            if draw < 1 / 3:
                return Reply("slow down", 429)
            usage = self._paid(seen.body, self._random.randint(1, seen.body["max_tokens"]))
        self._then(calls)
        time.sleep(self._seconds)
        if draw < 2 / 3:
            return Reply(completion("yes", usage=usage), missing=100)
        if draw < 1:
            return Reply('{"choices": [{"mess')
        return Reply(completion("yes", usage=usage))

    def _paid(self, body: dict[str, Any], completion_tokens: int) -> dict[str, int]:
        # No tokenizer is worse than one token a byte.
        prompt_tokens = sum(len(message["content"].encode()) for message in body["messages"])
        self.tokens += prompt_tokens + completion_tokens
        self.usd += (prompt_tokens * PRICES["input"] + completion_tokens * PRICES["output"]) / 1e6
        return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
