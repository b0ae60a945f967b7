"""Asks a provider about a job, again and again while that may succeed later."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar

from llm_datagen.llm.batch.endpoint_state import EndpointState
from llm_datagen.llm.errors import EndpointRefusedError, LLMRequestError, OutageError

T = TypeVar("T")

FIRST_PAUSE = 0.5
"""Seconds of the first pause, about; each further one is twice as long, up to `Batch.poll_wait`."""


class GoneError(Exception):
    """Raised when the provider has no such job."""


class Asking:
    """Asks about the jobs of one endpoint. Used on the event loop of the node.

    Args:
        jobs: those of the endpoint.
    """

    def __init__(self, jobs: EndpointState) -> None:
        self._place, self._node, self._away = jobs.place, jobs.node, jobs.away

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what `call` does, with as many tries as it needs.

        Raises:
            GoneError: when there is no such job.
            EndpointRefusedError: when the provider refuses.
            OutageError: when it does not answer for too long.
        """
        place, since, tries = self._place, None, 0
        while True:
            try:
                answer = await call()
            except LLMRequestError as error:
                self._away.failed(error)
                if error.status == HTTPStatus.NOT_FOUND:
                    raise GoneError from error
                if not error.may_pass:
                    raise EndpointRefusedError(str(error), status=error.status) from error
                now = self._node.clock()
                since, tries = now if since is None else since, tries + 1
                if now - since > place.outage_after:
                    raise OutageError(
                        f"{place.label} does not tell of its jobs for {now - since:.0f} s: {error}"
                    ) from error
                await asyncio.sleep(max(self.pause(tries), error.retry_after or 0.0))
            else:
                self._away.answered()
                return answer

    def pause(self, tries: int) -> float:
        """Return the seconds to wait after so many tries."""
        most = self._node.batch.poll_wait
        return min(most, FIRST_PAUSE * 2.0 ** min(tries, 32)) * random.uniform(0.5, 1.0)
