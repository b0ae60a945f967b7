"""What makes calls: a transport at the bottom, and layers around it, each with one concern.

A call walks through the layers of `stack.py` from the outside to the network, and its answer comes back the same way.
"""

from __future__ import annotations

from typing import Protocol

from llm_datagen.llm.types import ChatAnswer, ChatRequest


class Transport(Protocol):
    """Makes calls. All methods run on the event loop of the node."""

    async def open(self) -> None:
        """Get ready. Called once, before the first call."""

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make a call.

        Raises:
            LLMError: when there is no answer.
        """

    async def close(self) -> None:
        """Release connections and files. Called once, after the last call; may be called more than once."""


class Layer:
    """A transport around another one. By itself it passes everything on; a layer overrides what it does.

    Args:
        inner: the transport that it is around.
    """

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    async def open(self) -> None:
        """Open the inner transport."""
        await self._inner.open()

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call by the inner transport.

        Raises:
            LLMError: when there is no answer.
        """
        return await self._inner.complete(request)

    async def close(self) -> None:
        """Close the inner transport. May be called more than once."""
        await self._inner.close()
