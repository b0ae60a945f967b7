"""Who watches calls, sees each request and its answer, or what it failed of; and may hold the calls back.

For a preview, and for a plan. Watching is for the whole process, because operators are called on threads of nodes that
know nothing of who asked: in a process that previews, nothing else should run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from llm_datagen.llm.cache.response_cache import CachingCaller, Call
from llm_datagen.llm.errors import LLMError
from llm_datagen.llm.types import ChatAnswer, ChatCaller, ChatRequest


class CallHeldBackError(LLMError):
    """Raised in place of a call, where calls are only to be looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedCall:
    """A call that was made, with all its tries; or held back.

    Attributes:
        request: what was asked.
        answer: what came back; None when nothing did.
        error: what it failed of; None when it did not, and when it was held back.
        seconds: how long the row waited for it, with all tries and pauses.
    """

    request: ChatRequest = field(repr=False)
    answer: ChatAnswer | None = field(repr=False)
    error: str | None
    seconds: float

    @property
    def node_id(self) -> str:
        """The node that asked."""
        return self.request.ctx.node_id if self.request.ctx else ""


class Observer:
    """Keeps what calls are made while it is the watch of `watching`.

    Args:
        hold_back: whether calls are only noted, and not made.

    Attributes:
        calls: the calls, in the order in which they ended. Appended to by the threads of nodes.
    """

    def __init__(self, *, hold_back: bool = False) -> None:
        self.hold_back = hold_back
        self.calls: list[ObservedCall] = []

    def of(self, node_id: str) -> list[ObservedCall]:
        """Return the calls of a node."""
        return [call for call in self.calls if call.node_id == node_id]


_watches: list[Observer] = []


@contextmanager
def watching(watch: Observer) -> Iterator[Observer]:
    """Have all calls of operators that are set up within the block noted."""
    _watches.append(watch)
    try:
        yield watch
    finally:
        _watches.remove(watch)


class ObservingCaller:
    """Notes every call.

    Args:
        inner: makes the calls.
        watch: who is told.
    """

    def __init__(self, inner: ChatCaller, watch: Observer) -> None:
        self._inner = inner
        self._watch = watch

    async def open(self) -> None:
        """Open who makes the calls, if any is to be made."""
        if not self._watch.hold_back:
            await self._inner.open()

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call.

        Raises:
            CallHeldBackError: when calls are held back.
            LLMError: when there is no answer.
        """
        started = time.perf_counter()
        answer: ChatAnswer | None = None
        error: str | None = None
        try:
            if self._watch.hold_back:
                raise CallHeldBackError("the call was held back")
            answer = await self._inner.complete(request)
        except CallHeldBackError:
            raise
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
            raise
        finally:
            seconds = time.perf_counter() - started
            self._watch.calls.append(ObservedCall(request=request, answer=answer, error=error, seconds=seconds))
        return answer

    async def discard(self, calls: Sequence[Call]) -> None:
        """Have the journal forget answers, if there is a journal."""
        if isinstance(self._inner, CachingCaller):
            await self._inner.discard(calls)

    async def keep(self, calls: Sequence[Call]) -> None:
        """Have the journal keep answers, if there is a journal."""
        if isinstance(self._inner, CachingCaller):
            await self._inner.keep(calls)

    async def close(self) -> None:
        """Close who makes the calls."""
        if not self._watch.hold_back:
            await self._inner.close()


def is_watched() -> bool:
    """Return whether somebody watches, and waits for the end."""
    return bool(_watches)


def watched(caller: ChatCaller) -> ChatCaller:
    """Return `caller`, with the watch around it when there is one."""
    return ObservingCaller(caller, _watches[-1]) if _watches else caller
