"""All tools of an operator: open as long as it works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from llm_datagen.errors import ConfigError
from llm_datagen.llm.tools.function import FunctionTool
from llm_datagen.llm.tools.options import Tools
from llm_datagen.llm.tools.rounds import CallableTool, FailureLog, RowRounds
from llm_datagen.llm.tools.threads import TookTooLongError, ToolThreads
from llm_datagen.llm.waits import Waits
from llm_datagen.operators import INodeContext
from llm_datagen.operators.fingerprint import Parts, parts_of
from llm_datagen.operators.fingerprint.data import data_digest, data_part

if TYPE_CHECKING:
    from llm_datagen.llm.tools.mcp_connection import McpConnection
    from llm_datagen.llm.tools.mcp_tool import McpTool


class Toolbox:
    """The tools. All methods are called on the event loop of the node.

    Args:
        options: what the user said.
        beside: tools that the API executes itself.
        times_answers: whether the seconds of answers count for `max_seconds`.

    Raises:
        ConfigError: when a tool cannot be used, or two have one name.
    """

    def __init__(self, options: Tools, beside: Sequence[Any] = (), *, times_answers: bool = True) -> None:
        self._options = options
        self._beside = list(beside)
        self._times_answers = times_answers
        self._functions = [FunctionTool(each) for each in options.functions]
        self._connections: list[McpConnection] = []
        self._remote: list[McpTool] = []
        names = [each.name for each in self._functions]
        names += [name for server in options.servers for name in server.tools.values()]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(
                    f"two tools are called {name!r}: give one another name, Tool(function, name=…) or "
                    f"McpServer(allow={{{name!r}: 'another_one'}})"
                )
        self._tools: dict[str, CallableTool] = {}
        self._threads: ToolThreads | None = None

    async def open(self) -> None:
        """Get ready: start the MCP servers.

        Raises:
            McpServerError: when one cannot be used.
            ConfigError: when an environment variable of one is not set.
        """
        self._waits, self._failures = Waits(), FailureLog()
        self._threads = threads = ToolThreads(self._options.threads)
        await self._connect()
        called: list[CallableTool] = [_Called(each, threads) for each in self._functions]
        self._tools = {each.name: each for each in [*called, *self._remote]}

    async def _connect(self) -> None:
        if not self._options.servers:
            return
        from llm_datagen.llm.tools.mcp_connection import McpConnection
        from llm_datagen.llm.tools.mcp_tool import McpTool

        self._connections = [McpConnection(server) for server in self._options.servers]
        opened = await asyncio.gather(*(each.open() for each in self._connections), return_exceptions=True)
        for error in opened:
            if error is not None:
                raise error
        for server, connection in zip(self._options.servers, self._connections, strict=True):
            places = asyncio.Semaphore(server.parallel)
            self._remote += [
                McpTool(connection, name, own_name, server.timeout, places) for own_name, name in server.tools.items()
            ]

    async def close(self) -> None:
        """End the MCP servers, and release threads. May be called more than once."""
        threads, self._threads = self._threads, None
        connections, self._connections = self._connections, []
        self._tools, self._remote = {}, []
        if threads is not None:
            threads.close()
        await asyncio.gather(*(each.close() for each in connections))

    def specs(self) -> list[dict[str, Any]]:
        """Return what a request says of the tools, as chat completions have it; of MCP servers, when they are open."""
        specs = [*(each.spec for each in self._functions), *(each.spec for each in self._remote)]
        return [*self._beside, *({"type": "function", "function": spec} for spec in specs)]

    def begin(self) -> RowRounds:
        """Return the rounds of a row."""
        return RowRounds(self._tools, self._options, self._waits, self._failures, times_answers=self._times_answers)

    def parts(self) -> Parts:
        """Return what the answers depend on, for a fingerprint: what the model is told, and the code of the tools."""
        found: Parts = {"on_tool_error": data_part("on_tool_error", self._options.on_tool_error, shows_text=True)}
        for each in self._functions:
            found[f"tool {each.name}"] = data_digest(each.spec)
            found |= {f"tool {each.name}: {name}": value for name, value in parts_of(each.function).items()}
        for server in self._options.servers:
            program = [PurePath(part).name for part in server.command or ()]
            found[f"MCP server {server.label}"] = data_digest([program, dict(server.tools)])
        return found


class _Called:
    """A function, as it is called for the model.

    Args:
        tool: the function.
        threads: where plain functions are called.
    """

    def __init__(self, tool: FunctionTool, threads: ToolThreads) -> None:
        self._tool = tool
        self._threads = threads
        self.name = tool.name
        self.timeout = tool.timeout

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments."""
        return self._tool.arguments(given)

    async def call(
        self, arguments: dict[str, Any], ctx: INodeContext | None, seconds: float, begun: Callable[[], None]
    ) -> Any:
        """Call it: on the loop, or on a thread."""
        if self._tool.takes_ctx:
            arguments = {**arguments, "ctx": ctx}
        if not self._tool.is_async:
            return await self._threads.call(self._tool.function, arguments, seconds, begun)
        begun()
        bound = asyncio.timeout(seconds)
        try:
            async with bound:
                return await self._tool.function(**arguments)
        except TimeoutError:  # or is it one of the tool's own?
            if bound.expired():
                raise TookTooLongError from None
            raise
