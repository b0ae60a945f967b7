"""An MCP server of the SDK. Arguments: nothing, for standard input and output; or a port, for Streamable HTTP.

Each start adds a line to the file ``starts``, if the environment variable STARTS names one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.types import ImageContent

server = MCPServer("books")
if "STARTS" in os.environ:
    with Path(os.environ["STARTS"]).open("a") as file:
        file.write(f"{os.getpid()}\n")
print("the books are open", file=sys.stderr, flush=True)


@server.tool()
def shelf(book: str) -> str:
    """Tells where a book stands."""
    return f"shelf of {book}"


@server.tool()
def secret() -> str:
    """Tells what it was given."""
    return f"{os.environ.get('BOOKS_KEY')} {os.environ.get('OTHER_KEY')}"


@server.tool()
def cover() -> list[str | ImageContent]:
    """Shows a cover."""
    return ["the cover", ImageContent(type="image", data="AAAA", mime_type="image/png")]


@server.tool()
def burn() -> str:
    """Ends the library."""
    print("fire!", file=sys.stderr, flush=True)
    os._exit(3)


@server.tool()
async def search(book: str) -> str:
    """Searches for hours."""
    await anyio.sleep_forever()
    return "here"


@server.tool()
def lend(days: int) -> str:
    """Lends a book."""
    raise ValueError("not lent")


if __name__ == "__main__":
    if sys.argv[1:]:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
