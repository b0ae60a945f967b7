"""Answers in JSON: of what was asked for, and of what went wrong."""

from __future__ import annotations

import json
from typing import Any

import orjson
from aiohttp import web

from llm_datagen.streams.formats.json_text import dumps

FAULT = "the server has a fault: see what it printed where it was started"


def json_bytes(value: Any) -> bytes:
    """Return `value` as JSON; what JSON has no word for as text."""
    try:
        return dumps(value, default=str)
    except TypeError:  # text that is no Unicode, such as of names of files
        return json.dumps(value, default=str).encode()


async def json_of(request: web.Request) -> Any:
    """Return what the body of a request says.

    Raises:
        ValueError: when it is no JSON.
    """
    return orjson.loads(await request.read())


def json_answer(value: Any, status: int = 200) -> web.Response:
    """Return an answer that holds `value`."""
    return web.Response(body=json_bytes(value), status=status, content_type="application/json")


def error_answer(status: int, text: str) -> web.Response:
    """Return an answer that says what is wrong."""
    return json_answer({"error": text}, status)
