"""The body of a response: read up to a bound, also when it is compressed, and parsed as JSON."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson

from llm_datagen.streams.formats.json_text import has_long_number, without_lone_surrogates

MAX_RESPONSE_BYTES = 16 << 20
"""The longest body of an answer, unless told otherwise."""
ACCEPTED_ENCODINGS = "gzip, deflate"
_PIECE_BYTES = 1 << 16
_LONGEST_INTEGER = 300
"""Digits. A longer one is no count; Python refuses to read one of 4,301."""


class DamagedBodyError(ValueError):
    """Raised when what was sent cannot be unpacked."""


async def read_body(response: aiohttp.ClientResponse, most: int) -> tuple[bytes, bool]:
    """Return the body, unpacked, and whether it was cut: more than `most` bytes are neither read nor unpacked.

    The response must come from a session that does not unpack by itself.

    Raises:
        DamagedBodyError: when it cannot be unpacked.
        aiohttp.ClientError, TimeoutError: when the connection fails meanwhile.
    """
    found = bytearray()
    unpack = _unpacker(response.headers.get("Content-Encoding", ""))
    async for piece in response.content.iter_chunked(_PIECE_BYTES):
        found += unpack(piece, most + 1 - len(found))
        if len(found) > most:
            response.close()  # else what is still to come would be read before the connection is used again
            return bytes(found[:most]), True
    return bytes(found), False


def parsed(content: bytes) -> Any:
    """Return the JSON of a body: also with what strict parsers refuse, next to which there may be a good answer.

    ``NaN``, integers of any length, raw control characters, a byte order mark. What is no Unicode becomes U+FFFD.

    Raises:
        ValueError: when it is no JSON.
    """
    try:
        value = orjson.loads(content)
        if not has_long_number(content):
            return value
    except orjson.JSONDecodeError:
        pass
    text = content.decode("utf-8-sig", errors="replace")
    try:
        return without_lone_surrogates(json.loads(text, strict=False, parse_int=_integer))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def parsed_or_none(content: bytes) -> Any:
    """Return the JSON of a body, see `parsed`; None when it is no JSON."""
    try:
        return parsed(content)
    except ValueError:
        return None


def is_text(content: bytes) -> bool:
    """Return whether a body is UTF-8, so that nothing of it was lost when it was read."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unpacker(encoding: str) -> Callable[[bytes, int], bytes]:
    match encoding.strip().lower():
        case "" | "identity":
            return lambda piece, most: piece[:most]
        case "gzip" | "x-gzip" | "deflate":
            return _Inflater().unpack
        case _:
            raise DamagedBodyError("it is packed in a way that was not asked for")


class _Inflater:
    """Unpacks zlib and gzip, and raw deflate, no further than it is told to."""

    def __init__(self) -> None:
        self._unpacks: Any = None

    def unpack(self, piece: bytes, most: int) -> bytes:
        try:
            if self._unpacks is None:
                is_raw = piece[0] & 0x0F != 8 and piece[:1] != b"\x1f"
                self._unpacks = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else zlib.MAX_WBITS | 32)
            return bytes(self._unpacks.decompress(piece, most))
        except zlib.error as error:
            raise DamagedBodyError(f"it cannot be unpacked: {error}") from error


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)
