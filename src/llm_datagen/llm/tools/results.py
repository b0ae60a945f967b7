"""What a tool returned, as the text that the model gets."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticSerializationError, to_json


class ResultError(ValueError):
    """Raised when a result cannot be given to the model; the text says why, without the result."""


def result_text(result: Any, most: int) -> str:
    """Return a text as it is, and anything else as JSON: also models, dataclasses, dates, sets.

    Args:
        result: what a tool returned.
        most: bytes that it may have.

    Raises:
        ResultError: when it has more, or cannot be written as JSON.
    """
    try:
        data = result.encode() if isinstance(result, str) else to_json(result, inf_nan_mode="constants")
    except UnicodeEncodeError:
        raise ResultError("the result holds half of a surrogate pair, which is no text") from None
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise ResultError(f"the result cannot be written as JSON: {error}") from None
    if len(data) > most:
        raise ResultError(f"the result is too long: {len(data):,} bytes, and {most:,} are allowed; ask for less")
    return data.decode()
