"""Makes calls by a model that this process has loaded, in the place of `HttpTransport`."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from llm_datagen.errors import WorkerDiedError
from llm_datagen.llm.engines.calls import EngineCall, EngineStoppedError, Outcome
from llm_datagen.llm.engines.options import Engine
from llm_datagen.llm.engines.pool import EnginePool, join, leave
from llm_datagen.llm.errors import LLMError, LLMRequestError
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.answering import Answering
from llm_datagen.llm.http.error_meaning import OK, error_in
from llm_datagen.llm.http.failures import Failures
from llm_datagen.llm.http.redaction import Redaction
from llm_datagen.llm.http.response import Response
from llm_datagen.llm.types import ChatAnswer, ChatRequest

_NO_WORKER = 404
"""What it amounts to when there is no worker any more: no call gets an answer here, and waiting does not help."""


class EngineTransport:
    """Makes every call by the workers of an engine, tried once.

    Args:
        address: stands for the engine in messages and reports.
        engine: which library runs the model, and how.
        model: the model's name.
        timeout: seconds that one call may take once a worker has it.
    """

    def __init__(self, address: Address, engine: Engine, model: str, timeout: float) -> None:
        self._address = address
        self._engine = engine
        self._model = model
        self._timeout = timeout
        failures = Failures(address, Redaction(None, address.url), timeout=timeout, max_response_bytes=0)
        self._answering = Answering(address, failures)
        self._pool: EnginePool | None = None

    async def open(self) -> None:
        """Load the model, unless another node has.

        Raises:
            ConfigError: when it cannot be loaded, or the library is not installed.
        """
        self._pool = pool = join(self._engine, self._model)
        try:
            await asyncio.to_thread(pool.load)
        except BaseException:
            await self.close()
            raise

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Have a worker make the call, and return what came back.

        Raises:
            LLMRequestError: when there is no answer.
        """
        if self._pool is None:
            raise LLMError("the transport was called before open()")
        call = EngineCall(self._address.adapter.body(request), self._timeout)
        try:
            outcome = await self._made(self._pool, call)
        except TimeoutError as error:
            raise LLMRequestError(
                f"no answer within {self._timeout:g} s from {self._where(request)}: raise timeout, or lower batch_size",
                may_pass=True,
                amounts_to=408,
            ) from error
        except WorkerDiedError as error:
            raise LLMRequestError(
                f"{error}, while it made the call of {request.row} alone, for the second time: look at the row, or "
                "lower context and batch_size",
                amounts_to=OK,
            ) from error
        except EngineStoppedError as error:
            raise LLMRequestError(
                f"{self._address.label} makes no calls any more: {error}", amounts_to=_NO_WORKER, is_free=True
            ) from error
        finally:
            self._log(self._pool, request)
        data = orjson.loads(outcome.content)
        failed = error_in(data)
        if failed is not None:
            raise self._failure(failed, request)
        return self._answering.answer(Response(OK, {}, outcome.content, False), request, outcome.seconds)

    async def close(self) -> None:
        """Give up the workers. May be called more than once."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(leave, pool)

    @staticmethod
    async def _made(pool: EnginePool, call: EngineCall) -> Outcome:
        made = asyncio.wrap_future(call.future)
        pool.submit(call)
        try:
            return await made
        except asyncio.CancelledError:
            call.is_wanted = False
            raise

    def _failure(self, failed: Any, request: ChatRequest) -> LLMRequestError:
        status, message = int(failed["code"]), str(failed["message"])
        return LLMRequestError(
            f"{self._where(request)}: {message}",
            status=status,
            body=message,
            may_pass=status >= 500,
            is_free=status < 500,
        )

    def _where(self, request: ChatRequest) -> str:
        return f"{self._address.label}, {request.row}"

    @staticmethod
    def _log(pool: EnginePool, request: ChatRequest) -> None:
        if request.ctx is not None:
            for text, fields in pool.news():
                request.ctx.log(text, **fields)
