"""Tools of the tests, and a server that calls them: what it answers is a list, one entry for each request of a row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .chat_server import ChatServer, Reply, Seen, completion

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def call(name: str, arguments: Any, call_id: str = "c1") -> dict[str, Any]:
    """Return a call as chat completions have it; arguments that are no text are written as JSON."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def calls(*made: Mapping[str, Any], content: str | None = None, **message: Any) -> dict[str, Any]:
    """Return the completion that makes calls."""
    body = completion(content, finish_reason="tool_calls", usage=USAGE)
    body["choices"][0]["message"] |= {"tool_calls": list(made), **message}
    return body


def says(text: str) -> dict[str, Any]:
    """Return the completion that is an answer."""
    return completion(text, usage=USAGE)


def script(server: ChatServer, *bodies: Mapping[str, Any]) -> None:
    """Answer a row's requests with these, by how many answers its conversation has already."""

    def reply(seen: Seen) -> Reply:
        return Reply(bodies[sum(message["role"] == "assistant" for message in seen.body["messages"])])

    server.reply = reply


def results(server: ChatServer) -> list[str]:
    """Return what the tools returned, as the last request has it."""
    return [message["content"] for message in server.seen[-1].body["messages"] if message["role"] == "tool"]


def add(a: int, b: int = 1) -> int:
    """Adds two numbers.

    Args:
        a: the first
            number.
        b: the second one.

    Returns:
        The sum.
    """
    return a + b


async def echo(text: str) -> dict[str, Sequence[str]]:
    """Returns the words."""
    return {"words": text.split()}
