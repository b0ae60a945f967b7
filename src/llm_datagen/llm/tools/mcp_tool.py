"""A tool of an MCP server: what the model is told of it, and what its results become."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from llm_datagen.llm.tools.mcp_connection import ConnectionLostError, McpConnection
from llm_datagen.llm.tools.results import ResultError
from llm_datagen.llm.tools.threads import TookTooLongError
from llm_datagen.operators import INodeContext

if TYPE_CHECKING:
    from mcp.types import CallToolResult


class McpTool:
    """A tool of a server.

    Args:
        connection: to the server, open.
        name: what the model calls it.
        own_name: what the server calls it.
        timeout: seconds that a call may take; None: as for all.
        places: bounds the calls to the server at once.

    Attributes:
        spec: what the model is told of it.
    """

    def __init__(
        self, connection: McpConnection, name: str, own_name: str, timeout: float | None, places: asyncio.Semaphore
    ) -> None:
        self._connection = connection
        self._own_name = own_name
        self._places = places
        self.name = name
        self.timeout = timeout
        tool = connection.tools[own_name]
        self.spec: dict[str, Any] = {
            "name": name,
            **({"description": tool.description} if tool.description else {}),
            "parameters": {"type": "object", "properties": {}, **tool.input_schema},
        }

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as they are: the server checks them."""
        return dict(given)

    async def call(
        self, arguments: dict[str, Any], _ctx: INodeContext | None, seconds: float, begun: Callable[[], None]
    ) -> str:
        """Call it.

        Raises:
            TookTooLongError: when it takes longer than `seconds`.
            ResultError: when the server says that it failed, or died.
            McpServerError: when the server has died too often.
        """
        from mcp import MCPError

        async with self._places:
            begun()
            bound = asyncio.timeout(seconds)
            try:
                async with bound:
                    result = await self._connection.call(self._own_name, arguments)
            except TimeoutError:
                if bound.expired():
                    raise TookTooLongError from None
                raise
            except ConnectionLostError:
                raise ResultError("the server of the tool died meanwhile; nobody knows whether it was done") from None
            except MCPError as error:
                raise ResultError(f"the server of the tool refuses the call: {error}") from error
        text = "\n".join(_texts(result))
        if result.is_error:
            raise ResultError(text or "the tool failed, and does not say why")
        return text


def _texts(result: CallToolResult) -> Iterator[str]:
    """Yield the parts of a result as texts; of what is none, what it is."""
    from mcp.types import EmbeddedResource, TextContent, TextResourceContents
    from pydantic_core import to_json

    if not result.content and result.structured_content is not None:
        yield to_json(result.structured_content).decode()
    for part in result.content:
        if isinstance(part, TextContent):
            yield part.text
        elif isinstance(part, EmbeddedResource) and isinstance(part.resource, TextResourceContents):
            yield part.resource.text
        else:
            kind = getattr(part, "mime_type", None) or part.type
            yield f"({kind}: only texts can be passed on)"
