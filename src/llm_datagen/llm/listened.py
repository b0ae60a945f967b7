"""Each try of a call is told to who listens to the run, such as a tracer; see `runs.model_calls`."""

from __future__ import annotations

from http import HTTPStatus

from llm_datagen.llm.cost.plausibility import believable
from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.transport import Layer, Transport
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.runs.model_calls import ModelAnswer, ModelCall, listener_of


class ListenedLayer(Layer):
    """Tells of every call that is sent, if anybody listens to its run.

    Args:
        inner: sends it.
        address: where it goes.
    """

    def __init__(self, inner: Transport, address: Address) -> None:
        super().__init__(inner)
        self._host, self._port = address.host, address.url.port

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call.

        Raises:
            LLMError: when there is no answer.
        """
        ctx = request.ctx
        listener = None if ctx is None else listener_of(ctx.pipeline_id)
        if ctx is None or listener is None:
            return await self._inner.complete(request)
        call = ModelCall(
            pipeline_id=ctx.pipeline_id,
            node_id=ctx.node_id,
            row=request.row,
            host=self._host,
            port=self._port,
            model=request.model,
            params=request.params,
            messages=request.messages,
            operation=request.operation,
        )
        with listener.call(call) as opened:
            try:
                answer = await self._inner.complete(request)
            except LLMRequestError as error:
                opened.failed(_kind(error), believable(error.usage, request)[0])
                raise
            usage, _ = believable(answer.usage, request)
            opened.answered(
                ModelAnswer(
                    model=answer.response_model or answer.model,
                    text=answer.text,
                    finish_reason=answer.finish_reason,
                    ending=str(answer.ends),
                    usage=usage,
                )
            )
        return answer


def _kind(error: LLMRequestError) -> str:
    """Return what a call failed of: the HTTP status of an error, or the name of one."""
    if error.status is not None and error.status >= HTTPStatus.BAD_REQUEST:  # 200: the body is bad
        return str(error.status)
    return type(error if error.__cause__ is None else error.__cause__).__name__
