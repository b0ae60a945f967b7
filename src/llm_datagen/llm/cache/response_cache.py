"""The response cache: answers that were paid for are stored, and never asked for again.

An answer is stored **before** anyone sees it. So a row whose process died, a rerun, and a pipeline whose later nodes
were changed make no call for what was answered. Only successes are cached: what was cut off, withheld or empty is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import zlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import orjson

from llm_datagen.llm.cache.scope import SharedAnswerNotice
from llm_datagen.llm.cache.sqlite import CacheFile
from llm_datagen.llm.errors import CacheError
from llm_datagen.llm.finish_reasons import Ending
from llm_datagen.llm.tool_calls import calls_tools
from llm_datagen.llm.transport import Layer, Transport
from llm_datagen.llm.types import RESULTS, ChatAnswer, ChatRequest
from llm_datagen.streams.formats.json_text import dumps, loads_exactly

T = TypeVar("T")
_CHECK_BYTES = 8
Outcome = ChatAnswer | BaseException
"""What came of a request: its answer, or what was raised."""
Call = tuple[ChatRequest, ChatAnswer]
"""What was asked, and what came back."""


class CacheLayer(Layer):
    """Answers from the cache, and makes the call for what is not in it.

    Equal requests that are in flight at once are asked once: the others wait for the first, and ask, one after the
    other, only when it failed. Writes are done by a thread of its own, many in one transaction when they
    come fast; the event loop reads, and never waits for a disk to sync.

    Args:
        inner: makes the calls.
        path: the file, on a local disk. Several operators and processes may share it.
    """

    def __init__(self, inner: Transport, path: str | Path) -> None:
        super().__init__(inner)
        self._file = CacheFile(Path(path))
        self._thread: ThreadPoolExecutor | None = None
        self._in_flight: dict[bytes, asyncio.Future[None]] = {}
        self._unwritten: dict[bytes, bytes] = {}
        self._is_failing = False
        self._notice = SharedAnswerNotice()

    async def open(self) -> None:
        """Open the file, then the inner transport.

        Raises:
            CacheError: when the file cannot be used.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="llm-cache")
        try:
            await self._in_thread(self._file.open)
            await super().open()
        except BaseException:
            await self.close()
            raise

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Return the cached answer, or make the call and store what it brings.

        Raises:
            LLMError: when there is no answer.
            CacheError: when the cache cannot be read or written. No call is made then until it can be: what
                cannot be stored would be paid for twice.
        """
        key = key_of(request)
        while True:
            # The answer of a row that was cancelled meanwhile may be on its way to the file.
            if self._is_failing or key in self._unwritten:
                await self._save()
            answer, bad = self._stored(key, request)
            if answer is not None:
                return answer
            if bad:
                await self._in_thread(partial(self._file.delete, bad))
            first = self._in_flight.get(key)
            if first is None:
                return await self._ask(key, request)
            await asyncio.wait([first])

    async def complete_all(
        self, requests: Sequence[ChatRequest], ask: Callable[[Sequence[ChatRequest]], Awaitable[list[Outcome]]]
    ) -> list[Outcome]:
        """Return the cached answers to a row's requests; have the others made together, and store what they bring.

        Raises:
            CacheError: when the cache cannot be read or written.
        """
        keys = [key_of(request) for request in requests]
        found: dict[int, Outcome] = {}
        while len(found) < len(requests):
            if self._is_failing or not self._unwritten.keys().isdisjoint(keys):
                await self._save()
            mine: list[int] = []
            bad: list[tuple[bytes, bytes]] = []
            waits: set[asyncio.Future[None]] = set()
            for number, key in enumerate(keys):  # nothing else runs meanwhile: what is free is taken at once
                if number in found:
                    continue
                answer, unusable = self._stored(key, requests[number])
                first = self._in_flight.get(key)
                if answer is not None:
                    found[number] = answer
                elif first is not None:
                    waits.add(first)
                else:
                    self._in_flight[key] = asyncio.get_running_loop().create_future()
                    mine.append(number)
                    bad += unusable
            if mine:
                made = await self._ask_all([(keys[number], requests[number]) for number in mine], bad, ask)
                found.update(zip(mine, made, strict=True))
            elif waits:
                await asyncio.wait(waits)
        return [found[number] for number in range(len(requests))]

    async def discard(self, calls: Sequence[Call]) -> None:
        """Forget answers that cannot be used: the next time, the calls are made again.

        What another row has got for an equal request meanwhile stays.

        Raises:
            CacheError: when the file cannot be written.
        """
        stored = _as_stored(calls)
        earlier = [(key, answer[_CHECK_BYTES:]) for key, answer in stored.items()]
        await self._in_thread(lambda: self._file.delete([*stored.items(), *earlier]))

    async def store(self, calls: Sequence[Call]) -> None:
        """Store answers that another row with equal requests may have discarded.

        Raises:
            CacheError: when they cannot be written.
        """
        self._unwritten.update(_as_stored(calls))
        await self._save()

    async def close(self) -> None:
        """Close the inner transport, and the file when all is written, if it can be. May be called more than once."""
        try:
            await super().close()
        finally:
            thread, self._thread = self._thread, None
            if thread is not None:
                with contextlib.suppress(CacheError):  # it has been raised before
                    await asyncio.wrap_future(thread.submit(self._write))
                await asyncio.wrap_future(thread.submit(self._file.close))
                thread.shutdown(wait=False)

    def _stored(self, key: bytes, request: ChatRequest) -> tuple[ChatAnswer | None, list[tuple[bytes, bytes]]]:
        """Return the answer that the file has, and what it has in place of one: that is to be deleted."""
        stored = self._file.get(key)
        if stored is None:
            return None, []
        answer = _read(key, stored)
        if answer is None or not _is_cacheable(request, answer):
            # It was changed in the file; or an earlier version stored what was cut off, by an end unknown to it.
            return None, [(key, stored)]
        self._notice.note(key, request)
        return replace(answer, cost=0.0, saved=answer.cost, is_cached=True), []

    async def _ask_all(
        self,
        wanted: Sequence[tuple[bytes, ChatRequest]],
        bad: Sequence[tuple[bytes, bytes]],
        ask: Callable[[Sequence[ChatRequest]], Awaitable[list[Outcome]]],
    ) -> list[Outcome]:
        """Have requests made whose keys are taken, and store what comes."""
        try:
            if bad:
                await self._in_thread(partial(self._file.delete, bad))
            made = await ask([request for _, request in wanted])
            for (key, request), answer in zip(wanted, made, strict=True):
                if isinstance(answer, ChatAnswer) and _is_cacheable(request, answer):
                    self._notice.note(key, request)
                    self._unwritten[key] = _encoded(key, answer)
            if self._unwritten:
                await self._save()
            return made
        finally:
            for key, _ in wanted:
                self._in_flight.pop(key).set_result(None)

    async def _ask(self, key: bytes, request: ChatRequest) -> ChatAnswer:
        done = self._in_flight[key] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._inner.complete(request)
            if _is_cacheable(request, answer):
                self._notice.note(key, request)
                self._unwritten[key] = _encoded(key, answer)
                await self._save()
            return answer
        finally:
            del self._in_flight[key]
            done.set_result(None)

    async def _save(self) -> None:
        try:
            await self._in_thread(self._write)
        except CacheError:
            self._is_failing = True
            raise
        self._is_failing = False

    def _write(self) -> None:
        answers = self._unwritten.copy()
        if answers:  # else the write before this one took them along
            self._file.put(answers)
        for key in answers:
            del self._unwritten[key]

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            raise CacheError(f"the cache {self._file.path} is not open: call open() first")
        # Shielded: an answer that has come is written, also when the row that asked is cancelled.
        return await asyncio.shield(asyncio.wrap_future(self._thread.submit(work)))


def _as_stored(calls: Sequence[Call]) -> dict[bytes, bytes]:
    """Return what is in the file for calls: answers that came from there are as they were when they were made."""
    return {
        (key := key_of(request)): _encoded(
            key, replace(answer, cost=answer.saved, saved=None, is_cached=False) if answer.is_cached else answer
        )
        for request, answer in calls
    }


def _encoded(key: bytes, answer: ChatAnswer) -> bytes:
    """Return what is in the file for an answer: the CRC-32 of key and answer, in 8 hex digits, then the answer."""
    values = {field.name: getattr(answer, field.name) for field in fields(answer)}
    del values["others"]
    values["left"] = None  # of that moment
    if answer.response_model is None:  # as earlier versions wrote it: what is discarded is found by its bytes
        del values["response_model"]
    text = dumps(values)
    return b"%08x%s" % (zlib.crc32(key + text), text)


def _read(key: bytes, stored: bytes) -> ChatAnswer | None:
    """Return the answer that the file has; None when it is not what was stored. Earlier versions wrote no checksum."""
    text = stored if stored.startswith(b"{") else stored[_CHECK_BYTES:]
    if text is not stored and stored[:_CHECK_BYTES] != b"%08x" % zlib.crc32(key + text):
        return None
    try:
        return ChatAnswer(**loads_exactly(text))
    except (ValueError, TypeError):
        return None


def _is_cacheable(request: ChatRequest, answer: ChatAnswer) -> bool:
    """Return whether an answer may be cached: it has come, and it is whole."""
    if request.operation != "chat":  # vectors and scores were checked when they came
        return RESULTS[request.operation] in answer.extras
    has_text = answer.text is not None and answer.ends is Ending.FINISHED
    is_call = request.has_tools and (answer.ends is Ending.TOOL or calls_tools(answer))
    return (has_text or is_call) and "refusal" not in answer.extras


def key_of(request: ChatRequest) -> bytes:
    """Return the key of an answer: the SHA-256 of all that it is found by, from the model to the operation."""
    asked = [request.model, request.params, request.messages, request.sample]
    if request.cache_scope:
        asked.append(request.cache_scope)
    if request.operation != "chat":
        asked.append({"operation": request.operation})
    return hashlib.sha256(dumps(asked, option=orjson.OPT_SORT_KEYS)).digest()
