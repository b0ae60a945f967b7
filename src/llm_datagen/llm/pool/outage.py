"""An outage: no endpoint of a pool answers. Calls wait here, and the run fails when it takes too long."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from llm_datagen.llm.errors import EndpointRefusedError, LLMCancelledError, OutageError
from llm_datagen.llm.pool.member import Member
from llm_datagen.llm.types import ChatRequest
from llm_datagen.llm.waits import is_paused
from llm_datagen.operators.protocols import IOutageContext
from llm_datagen.runs.outage import OutageReport

_POLL_SECONDS = 0.1


class Outage:
    """Where calls wait while all members of a pool are down. Used on the event loop of the node.

    While the run is paused, no probe is made, and the time does not count.

    One task polls, ten times a second: whether a member answers again (then all go on), is due for a probe (then one
    goes on, to make it), whether the run is being cancelled, and whether the time is over (then all fail). It tells the
    node how the outage stands, so that the run state says so.

    Args:
        members: of the pool.
        outage_after: seconds that all of them may be down.
        clock: returns monotonic seconds.
    """

    def __init__(
        self, members: Sequence[Member], outage_after: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._members = members
        self._outage_after = outage_after
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._poller: asyncio.Task[None] | None = None
        self._told: OutageReport | None = None
        self._paused = 0.0

    @property
    def is_on(self) -> bool:
        """Whether all members are down."""
        return all(member.is_down for member in self._members)

    async def wait(self, request: ChatRequest) -> None:
        """Return when a call may be tried: all members were down when it was called.

        Raises:
            OutageError: when they were down for too long.
            EndpointRefusedError: when all of them refuse every call.
            LLMCancelledError: when the run is being cancelled.
        """
        self._check(request)
        waits = asyncio.get_running_loop().create_future()
        self._waiting.append(waits)
        if self._poller is None or self._poller.done():
            self._log(request)
            self._tell(request)
            self._poller = asyncio.create_task(self._poll(request))
        try:
            await waits
        finally:
            if waits in self._waiting:
                self._waiting.remove(waits)
        self._check(request)

    def answered(self, request: ChatRequest) -> None:
        """Tell the node at once that the outage is over, if a member that has just been asked has ended it."""
        if self._told is not None and not self.is_on:
            self._tell(request)

    async def close(self) -> None:
        """End the polling."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait([self._poller])

    def _check(self, request: ChatRequest) -> None:
        if not self.is_on:
            return
        if request.ctx is not None and request.ctx.is_cancelled():
            raise LLMCancelledError(f"the call of {request.row} waited for an endpoint: the run is cancelled")
        last = self._members[0].breaker.error
        assert last is not None
        why = "; ".join(f"{m.label}, down since {m.breaker.since_text}: {m.breaker.error}" for m in self._members)
        if all(member.breaker.refuses for member in self._members):
            text = f"every call would be refused: {why}"
            raise EndpointRefusedError(text, status=last.status, body=last.body) from last
        if self._is_over():
            text = f"nothing but errors for {self._outage_after:g} s (outage_after): {why}"
            raise OutageError(text, status=last.status, body=last.body) from last

    def _is_over(self) -> bool:
        since = max(member.breaker.since for member in self._members)
        return self._clock() - since - self._paused >= self._outage_after

    def _log(self, request: ChatRequest) -> None:
        if request.ctx is not None:
            labels = ", ".join(member.label for member in self._members)
            request.ctx.log(
                f"outage: calls wait for {labels}; the run fails when it lasts {self._outage_after:g} s",
                level="warning",
                outage_after=self._outage_after,
            )

    def _tell(self, request: ChatRequest) -> None:
        """Tell the node of the outage, if anything of it has changed; or that it is over."""
        outage = OutageReport(endpoints=[member.as_down() for member in self._members], calls=len(self._waiting))
        told = outage if self.is_on else None
        if told != self._told and isinstance(request.ctx, IOutageContext):
            request.ctx.note_outage(", ".join(member.label for member in self._members), told)
        self._told = told

    async def _poll(self, request: ChatRequest) -> None:
        self._paused = 0.0
        while True:
            polled = self._clock()
            await asyncio.sleep(_POLL_SECONDS)
            is_cancelled = request.ctx is not None and request.ctx.is_cancelled()
            if is_paused(request) and not is_cancelled:
                self._paused += self._clock() - polled
                continue
            self._tell(request)
            if not self.is_on or is_cancelled or self._is_over() or all(m.breaker.refuses for m in self._members):
                self._release(len(self._waiting))
                return
            self._release(sum(member.breaker.is_probe_due for member in self._members))

    def _release(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            waits = self._waiting.popleft()
            if not waits.done():
                waits.set_result(None)
