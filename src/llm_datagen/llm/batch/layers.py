"""The layers of calls that are rows of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llm_datagen.errors import FatalError
from llm_datagen.llm.batch.node_jobs import NodeJobs
from llm_datagen.llm.batch.transport import NoAnswerInJobError, call_key_of
from llm_datagen.llm.errors import LLMCancelledError, LLMRequestError
from llm_datagen.llm.transport import Layer, Transport
from llm_datagen.llm.types import ChatAnswer, ChatRequest


class JobsLayer(Layer):
    """Names every call, so that it is found again in the job log, and opens that with the first one.

    Args:
        inner: chooses an endpoint, and puts the call into a job there.
        node: the jobs of the node.
    """

    def __init__(self, inner: Transport, node: NodeJobs) -> None:
        super().__init__(inner)
        self._node = node

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call.

        Raises:
            BatchError: when the job log cannot be used.
            LLMError: when there is no answer.
        """
        key = call_key_of(request)
        await self._node.open_for(request)
        try:
            answer = await self._inner.complete(replace(request, call_key=key))
        except LLMRequestError as error:
            if not isinstance(error, FatalError):  # of the run, which says nothing of this call
                self._node.note(key, is_useful=False)
            raise
        self._node.note(key, is_useful=True)
        return answer

    def discard(self, requests: Sequence[ChatRequest]) -> None:
        """Note that the answers of calls cannot be used: when their rows are done again later, they are new calls."""
        for request in requests:
            self._node.note(call_key_of(request), is_useful=False)

    async def close(self) -> None:
        """Close the inner transport, then the job log. May be called more than once."""
        try:
            await super().close()
        finally:
            await self._node.close()


class FallbackLayer(Layer):
    """Makes plain calls of rows of which a job gave no answer.

    Args:
        inner: puts calls into jobs.
        online: makes plain calls.
    """

    def __init__(self, inner: Transport, online: Transport) -> None:
        super().__init__(inner)
        self._online = online

    async def open(self) -> None:
        """Open both."""
        await super().open()
        await self._online.open()

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call.

        Raises:
            LLMError: when there is no answer.
        """
        try:
            return await self._inner.complete(request)
        except NoAnswerInJobError:
            if request.ctx is not None and request.ctx.is_cancelled():
                raise LLMCancelledError(
                    f"the call of {request.row} was given up before it was sent: the run is cancelled"
                ) from None
        return await self._online.complete(request)

    async def close(self) -> None:
        """Close both."""
        try:
            await super().close()
        finally:
            await self._online.close()
