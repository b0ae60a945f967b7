"""What posts the calls of one endpoint: one interface, for the several ways of doing so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from llm_datagen.llm.http.body import ACCEPTED_ENCODINGS
from llm_datagen.llm.http.response import Response

JSON_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": ACCEPTED_ENCODINGS}
"""Headers of a call whose response is read when it is whole."""


class Post(Protocol):
    """Posts JSON to an endpoint, each time by one request. Used on one event loop."""

    async def send(self, body: Mapping[str, Any], begun: Callable[[int], None]) -> Response:
        """Send a request, and read what comes back as far as it may go.

        Args:
            body: of a call whose answer is not streamed.
            begun: called with the status of the response, before its body is read.

        Raises:
            NetworkError: when no connection is made, or it fails.
            TimeoutError: when the response is not there in time.
            DamagedBodyError: when the body cannot be unpacked.
            LateTokenError, BrokenStreamError: when the answer is streamed, and does not come, or not to its end.
        """
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
