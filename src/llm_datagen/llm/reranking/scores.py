"""Scores, checked: one that may be another document's is never taken."""

from __future__ import annotations

import math

from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.http.error_meaning import OK
from llm_datagen.llm.transport import Layer
from llm_datagen.llm.types import ChatAnswer, ChatRequest


class ScoreLayer(Layer):
    """Lets answers through that have a score, a number, for each document.

    Args:
        inner: makes one try.
    """

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call, and check what comes back.

        Raises:
            LLMRequestError: when the scores cannot be used; the call may be made again.
            LLMError: when there is no answer.
        """
        answer = await self._inner.complete(request)
        scores, wanted = answer.extras.get("scores", ()), len(request.messages) - 1
        problem = None
        if len(scores) != wanted:
            problem = f"sent {len(scores)} scores for {wanted} documents"
        elif not all(map(math.isfinite, scores)):
            problem = "sent scores that are no numbers (NaN or infinite)"
        if problem is None:
            return answer
        raise LLMRequestError(
            f"{answer.endpoint}, {request.row} {problem}: nothing of it is taken",
            status=OK,
            may_pass=True,
            usage=answer.usage,
            is_served=True,
            left=answer.left,
        )
