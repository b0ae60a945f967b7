"""Vectors: read in the forms that servers send, and checked: a vector that may be another text's is never taken."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llm_datagen.llm.errors import DimensionError, LLMRequestError
from llm_datagen.llm.http.error_meaning import OK
from llm_datagen.llm.transport import Layer
from llm_datagen.llm.types import ChatAnswer, ChatRequest

_FLOAT_BYTES = 4


class VectorLayer(Layer):
    """Lets answers through whose vectors are those that were asked for.

    There is one for each text. Of one request, a vector that is bad by itself (no numbers, all zero) is taken out of
    the answer, as None, if others are good: its text is asked for again.

    Args:
        inner: makes one try.
    """

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call, and check what comes back.

        Raises:
            DimensionError: when all vectors have another length than was asked for.
            LLMRequestError: when the vectors cannot be used. That of a single text may be asked for again.
            LLMError: when there is no answer.
        """
        answer = await self._inner.complete(request)
        vectors, wanted = answer.extras.get("embeddings", ()), len(request.messages)
        if len(vectors) != wanted:
            raise _refused(f"sent {len(vectors)} vectors for {wanted} texts", request, answer)
        asked, lengths = request.params.get("dimensions"), sorted({len(vector) for vector in vectors if vector})
        if len(lengths) > 1:
            raise _refused(f"sent vectors of {' and '.join(map(str, lengths))} numbers in one answer", request, answer)
        if asked is not None and lengths and lengths != [asked]:
            raise DimensionError(
                f"{answer.endpoint}, {request.row} sent vectors of {lengths[0]} numbers where dimensions={asked} is "
                f"asked for: give dimensions={lengths[0]}, leave it out, or ask a model that knows it",
                status=OK,
                usage=answer.usage,
                is_served=True,
                left=answer.left,
            )
        problems = [problem_of(vector) for vector in vectors]
        if all(problems):
            raise _refused(str(problems[0]), request, answer)
        if not any(problems):
            return answer
        good = [None if problem else vector for vector, problem in zip(vectors, problems, strict=True)]
        return replace(answer, extras={**answer.extras, "embeddings": good})


def problem_of(vector: Sequence[float]) -> str | None:
    """Return what is wrong with a vector, to follow the name of the endpoint; None when it is good."""
    if not vector:
        return "sent a vector without numbers"
    if not all(map(math.isfinite, vector)):
        return "sent a vector with numbers that are none (NaN or infinite)"
    return None if any(vector) else "sent a vector of nothing but zeros"


def vector_of(value: Any) -> list[float]:
    """Return a vector as a list of numbers: it is one, or the base64 of little-endian floats of 32 bits.

    Raises:
        TypeError: when it is neither.
        ValueError: when the base64 is damaged.
    """
    if isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
            return list(struct.unpack(f"<{len(data) // _FLOAT_BYTES}f", data))
        except (binascii.Error, struct.error) as error:
            raise ValueError("a vector is no base64 of floats") from error
    kinds = set(map(type, value)) if isinstance(value, list) else {type(value)}
    if not kinds <= {float, int}:
        raise TypeError("a vector is no list of numbers")
    return [float(each) for each in value] if int in kinds else list(value)


def normalized(vector: Sequence[float]) -> list[float]:
    """Return a vector, which is not zero, with the length 1."""
    largest = max(map(abs, vector))  # so that squares of tiny or huge numbers stay in the range of floats
    scaled = [each / largest for each in vector]
    length = math.hypot(*scaled)
    return [each / length for each in scaled]


def _refused(what: str, request: ChatRequest, answer: ChatAnswer) -> LLMRequestError:
    return LLMRequestError(
        f"{answer.endpoint}, {request.row} {what}: nothing of it is taken",
        status=OK,
        may_pass=len(request.messages) == 1,  # of many texts, fewer are asked for at once
        usage=answer.usage,
        is_served=True,
        left=answer.left,
    )
