"""What came back of a request, and how much of it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from llm_datagen.llm.http.error_meaning import OK

ERROR_BYTES = 1 << 16
"""The longest body of an error that is read: what follows says no more."""


class Response(NamedTuple):
    """What came back, read.

    Attributes:
        status: the HTTP status.
        headers: of the response.
        content: the body, unpacked, as far as it may go.
        is_cut: whether the body is longer than that.
        has_begun: whether a piece of an answer that is streamed came before what the body says.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    is_cut: bool
    has_begun: bool = False


def longest_body(status: int, max_response_bytes: int) -> int:
    """Return how many bytes of a body are read: of an error, fewer than of an answer."""
    return max_response_bytes if status == OK else min(ERROR_BYTES, max_response_bytes)
