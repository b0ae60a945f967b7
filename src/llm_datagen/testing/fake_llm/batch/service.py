"""The batch APIs of a server: which one a request is for, and what goes wrong with any of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import orjson

from llm_datagen.testing.fake_llm.batch.account import account_of
from llm_datagen.testing.fake_llm.batch.anthropic import AnthropicBatches
from llm_datagen.testing.fake_llm.batch.desk import Desk, RefusedError
from llm_datagen.testing.fake_llm.batch.gemini import GeminiBatches
from llm_datagen.testing.fake_llm.batch.openai import OpenAIBatches
from llm_datagen.testing.fake_llm.batch.options import LLMBatches
from llm_datagen.testing.fake_llm.batch.replies import Asked, BatchApi, Reply
from llm_datagen.testing.fake_llm.completions import Completions
from llm_datagen.testing.fake_llm.http import Connection, HTTPRequest, error_body

_MESSAGES = {"server_error": (500, "something broke"), "rate_limit": (429, "slow down")}


class BatchService:
    """Answers the requests of the batch APIs.

    Args:
        options: how jobs are worked on.
        completions: makes the answers.
        seed: of the faults.
        clock: returns the seconds since 1970.
    """

    def __init__(self, options: LLMBatches, completions: Completions, seed: int, clock: Callable[[], float]) -> None:
        self._desk = Desk(options, completions, seed, clock)
        self._openai = OpenAIBatches(self._desk)
        self._anthropic = AnthropicBatches(self._desk)
        self._gemini = GeminiBatches(self._desk)

    def serve(self, request: HTTPRequest, connection: Connection, origin: str) -> None:
        """Answer a request. Called on the server's thread.

        Args:
            request: the request.
            connection: takes the answer.
            origin: of the server, such as ``http://127.0.0.1:80``.
        """
        reply = self._reply(request, origin)
        if reply is None:
            message = f"there is no {request.method} {request.path.partition('?')[0]} here"
            connection.respond(404, error_body(message))
        elif reply.breaks == "reset":
            connection.reset()
        elif reply.breaks == "half":
            connection.break_off(reply.body)
        else:
            connection.respond(reply.status, reply.body, reply.headers)

    def account(self, calls: Counter[str], tokens: tuple[int, int]) -> dict[str, Any]:
        """Return the account; see `account_of`. May be called from any thread."""
        return account_of(self._desk, calls, tokens)

    def _reply(self, request: HTTPRequest, origin: str) -> Reply | None:
        path, _, query = request.path.removeprefix("/openai").partition("?")
        asked = Asked(request.method, path, dict(parse_qsl(query)), request.headers, request.body, origin)
        api = self._api(path)
        fault = self._desk.options.faults.of_request(self._desk.draw("request"))
        if fault is not None:
            status, message = _MESSAGES[fault]
            return self._failed(api, status, message)
        try:
            return api.answer(asked)
        except RefusedError as error:
            return self._failed(api, error.status, str(error))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            return self._failed(api, 400, f"the request is not valid: {error!r}")

    def _api(self, path: str) -> BatchApi:
        if path.startswith("/v1/messages"):
            return self._anthropic
        return self._gemini if "/v1beta/" in path else self._openai

    def _failed(self, api: BatchApi, status: int, message: str) -> Reply:
        return Reply(status, orjson.dumps(api.shape.error(status, message)))
