"""A stream of the MCP SDK whose end is noticed: the SDK says it only to who calls next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self


class WatchedStream:
    """A stream that is read, in the shape that the SDK asks for.

    Args:
        stream: it.
        ended: called when nothing more comes.
    """

    def __init__(self, stream: Any, ended: Callable[[], None]) -> None:
        self._stream = stream
        self._ended = ended

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            self._ended()
            raise

    async def receive(self) -> Any:
        """Return what comes next."""
        return await self._stream.receive()

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> Any:
        return await self._stream.__aexit__(*exc)
