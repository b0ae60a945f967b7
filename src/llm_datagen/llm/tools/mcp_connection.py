"""The connection to an MCP server: kept by one task, started again when it is lost.

Nothing of a call is repeated: whether a server had done it when it died, nobody knows. Whoever called is told, and the
calls that follow wait until it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from llm_datagen.llm.errors import McpServerError
from llm_datagen.llm.tools.mcp_options import McpServer
from llm_datagen.llm.tools.stderr_tail import StderrTail
from llm_datagen.llm.tools.watched_stream import WatchedStream

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult, Tool

RESTART_SECONDS = 600.0
"""In how long a time there are `max_restarts`."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
_GROWTH = 4.0
_MOST_PAGES = 100


class ConnectionLostError(Exception):
    """Raised when a server died during a call."""


class McpConnection:
    """A server, as long as an operator works. Used on the event loop of the node.

    Args:
        server: what the user said.

    Attributes:
        tools: those that the server has, by its names for them, once it was asked.
    """

    def __init__(self, server: McpServer) -> None:
        self._server = server
        self._client: asyncio.Future[Client] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_over = asyncio.Event()  # of the connection, as it is now
        self._is_closing = asyncio.Event()
        self._deaths: deque[float] = deque()
        self._stderr: StderrTail | None = None
        self._why = ""
        self.tools: dict[str, Tool] = {}

    async def open(self) -> None:
        """Start the server, and ask it for its tools.

        Raises:
            McpServerError: when it does not start, or has not all the tools that may be used.
            ConfigError: when an environment variable is not set.
        """
        self._environment, self._headers = self._server.environment(), self._server.request_headers()
        await asyncio.to_thread(_import_sdk)
        self._client = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.get_running_loop().create_task(self._keep())
        await asyncio.shield(self._client)

    async def call(self, name: str, arguments: dict[str, Any]) -> CallToolResult:
        """Call a tool, by the server's name for it.

        Raises:
            ConnectionLostError: when the server died meanwhile.
            McpServerError: when it has died too often; the run fails.
            MCPError: when the server refuses the call.
        """
        from mcp import MCPError
        from mcp.types import CONNECTION_CLOSED

        assert self._client is not None, "the connection was used before open()"
        used = self._client
        client = await asyncio.shield(used)
        try:
            return await client.call_tool(name, arguments)
        except MCPError as error:
            if error.code != CONNECTION_CLOSED:
                raise
            if self._client is used:
                self._lost()
            raise ConnectionLostError from error

    async def close(self) -> None:
        """End the server. May be called more than once."""
        self._is_closing.set()
        self._is_over.set()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            if self._client is not None and not self._client.done():
                keeper.cancel()  # it is about to start
            await asyncio.wait([keeper])
        if self._client is not None and self._client.done() and not self._client.cancelled():
            self._client.exception()  # nobody else may have asked
        self._client = None

    def _lost(self) -> None:
        """End the connection; whoever calls from now on waits for the next one."""
        if self._client is not None and self._client.done():
            self._client = asyncio.get_running_loop().create_future()
        self._is_over.set()

    async def _keep(self) -> None:
        """Keep the connection up, until it is closed or lost for good."""
        while True:
            was_up = await self._connect()
            if self._is_closing.is_set():
                return
            now = time.monotonic()
            self._deaths.append(now)
            while now - self._deaths[0] > RESTART_SECONDS:
                self._deaths.popleft()
            if len(self._deaths) > self._server.max_restarts or not (was_up or self.tools):
                break
            pause = min(_FIRST_PAUSE * _GROWTH ** (len(self._deaths) - 1), _LONGEST_PAUSE)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_closing.wait(), pause)
                return
        assert self._client is not None
        self._client.set_exception(McpServerError(self._reason()))

    async def _connect(self) -> bool:
        """Connect once, and return when that is over: whether the server was there."""
        from mcp import Client

        assert self._client is not None
        self._is_over.clear()
        was_up = False
        try:
            async with asyncio.timeout(self._server.start_timeout) as bound:
                async with Client(self._transport()) as client:
                    await self._take_tools(client)
                    bound.reschedule(None)
                    was_up = True
                    self._client.set_result(client)
                    await self._is_over.wait()
        except TimeoutError:
            self._why = f"it was not ready within {self._server.start_timeout:g} seconds"
        except Exception as error:  # noqa: BLE001 - of the SDK, in groups
            self._why = _words(error)
        finally:
            self._lost()
        return was_up

    async def _take_tools(self, client: Client) -> None:
        found: dict[str, Tool] = {}
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            found |= {tool.name: tool for tool in page.tools}
            cursor = page.next_cursor
            if cursor is None:
                break
        missing = [name for name in self._server.tools if name not in found]
        if missing:
            raise McpServerError(
                f"it has no tool {', '.join(map(repr, missing))}; it has: {', '.join(found) or 'none'}"
            )
        self.tools = self.tools or found

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator[Any]:
        from httpx2 import AsyncClient, Timeout
        from mcp import StdioServerParameters
        from mcp.client.stdio import stdio_client
        from mcp.client.streamable_http import streamable_http_client

        server = self._server
        if server.url is not None:
            async with (
                AsyncClient(headers=self._headers, timeout=Timeout(30.0, read=None)) as http,
                streamable_http_client(server.url, http_client=http) as streams,
            ):
                yield streams
            return
        program, *arguments = server.command or ()
        parameters = StdioServerParameters(command=program, args=arguments, env=self._environment, cwd=server.cwd)
        self._stderr = StderrTail()
        try:
            async with stdio_client(parameters, errlog=self._stderr.file) as (reading, writing):
                yield WatchedStream(reading, self._lost), writing
        finally:
            self._stderr.close()

    def _reason(self) -> str:
        said = self._stderr.last_line() if self._stderr is not None else ""
        what = "cannot be used"
        if self.tools:
            what = f"died {len(self._deaths)} times within ten minutes (max_restarts={self._server.max_restarts})"
        why = self._why or "its connection was closed"
        beside = f"; the last line of its standard error: {said}" if said else ""
        return f"the MCP server {self._server.label} {what}: {why}{beside}"


def _import_sdk() -> None:
    """Import what takes a second, on a thread; what it logs is kept out of the terminal, unless a program wants it."""
    import mcp.client.stdio
    import mcp.client.streamable_http  # noqa: F401

    logging.getLogger("mcp").addHandler(logging.NullHandler())


def _words(error: BaseException) -> str:
    """Return the first error of a group, in words."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, McpServerError) else f"{type(error).__name__}: {error}"
