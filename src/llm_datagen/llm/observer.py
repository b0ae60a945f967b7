"""Who observes calls sees each request and its answer, or what it failed of; and may skip the calls.

For a preview, and for a plan. Observing is for the whole process, because operators are called on threads of nodes that
know nothing of who asked: in a process that previews, nothing else should run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from llm_datagen.llm.errors import LLMError
from llm_datagen.llm.transport import Layer, Transport
from llm_datagen.llm.types import ChatAnswer, ChatRequest


class CallSkippedError(LLMError):
    """Raised in place of a call, where calls are only to be looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedCall:
    """A call that was made, with all its tries; or skipped.

    Attributes:
        request: what was asked.
        answer: what came back; None when nothing did.
        error: what it failed of; None when it did not, and when it was skipped.
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
    """Keeps what calls are made within `observing`.

    Args:
        skip_calls: whether calls are only noted, and not made.

    Attributes:
        calls: the calls, in the order in which they ended. Appended to by the threads of nodes.
    """

    def __init__(self, *, skip_calls: bool = False) -> None:
        self.skip_calls = skip_calls
        self.calls: list[ObservedCall] = []

    def of(self, node_id: str) -> list[ObservedCall]:
        """Return the calls of a node."""
        return [call for call in self.calls if call.node_id == node_id]


_observers: list[Observer] = []


@contextmanager
def observing(observer: Observer) -> Iterator[Observer]:
    """Have all calls of operators that are set up within the block noted."""
    _observers.append(observer)
    try:
        yield observer
    finally:
        _observers.remove(observer)


class ObserverLayer(Layer):
    """Notes every call.

    Args:
        inner: makes the calls.
        observer: who is told.
    """

    def __init__(self, inner: Transport, observer: Observer) -> None:
        super().__init__(inner)
        self._observer = observer

    async def open(self) -> None:
        """Open the inner transport, if any call is to be made."""
        if not self._observer.skip_calls:
            await super().open()

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call.

        Raises:
            CallSkippedError: when calls are skipped.
            LLMError: when there is no answer.
        """
        started = time.perf_counter()
        answer: ChatAnswer | None = None
        error: str | None = None
        try:
            if self._observer.skip_calls:
                raise CallSkippedError("the call was skipped")
            answer = await self._inner.complete(request)
        except CallSkippedError:
            raise
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
            raise
        finally:
            seconds = time.perf_counter() - started
            self._observer.calls.append(ObservedCall(request=request, answer=answer, error=error, seconds=seconds))
        return answer

    @property
    def skips_calls(self) -> bool:
        """Whether calls are only noted, so that nothing below is open."""
        return self._observer.skip_calls

    def note_cached(self, request: ChatRequest, answer: ChatAnswer) -> None:
        """Note an answer that came from the cache, and for which no call was made."""
        self._observer.calls.append(ObservedCall(request=request, answer=answer, error=None, seconds=0.0))

    async def close(self) -> None:
        """Close the inner transport, if it was opened."""
        if not self._observer.skip_calls:
            await super().close()


def is_observed() -> bool:
    """Return whether calls are observed, so that somebody waits for the end."""
    return bool(_observers)


def with_observer(inner: Transport) -> Transport:
    """Return `inner`, with an observer around it when there is one."""
    return ObserverLayer(inner, _observers[-1]) if _observers else inner
