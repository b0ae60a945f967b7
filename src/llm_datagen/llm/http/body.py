"""The body of a response: read up to a bound, also when it is compressed, and parsed as JSON."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import orjson

from llm_datagen.streams.formats.json_text import has_long_number, without_lone_surrogates

MAX_RESPONSE_BYTES = 16 << 20
"""The longest body of an answer, unless told otherwise."""
ACCEPTED_ENCODINGS = "gzip, deflate"
PIECE_BYTES = 1 << 16
"""How much of a body is sent, read or unpacked at a time."""
_LONGEST_INTEGER = 300
"""Digits. A longer one is no count; Python refuses to read one of 4,301."""


class DamagedBodyError(ValueError):
    """Raised when what was sent cannot be unpacked."""


class BoundedBody:
    """A body that comes in pieces: unpacked, and no longer than it may be.

    Args:
        encoding: the ``Content-Encoding`` of the response.
        most: bytes; more are neither kept nor unpacked.

    Raises:
        DamagedBodyError: when it is packed in a way that was not asked for.
    """

    def __init__(self, encoding: str, most: int) -> None:
        self._inflater = _inflater(encoding)
        self._room = most + 1  # the one that is too many shows that there is more
        self._content = BytesIO()

    def add(self, piece: bytes) -> bool:
        """Take a piece. Returns whether there is more now than may be kept: the body is cut, and over.

        Raises:
            DamagedBodyError: when it cannot be unpacked.
        """
        found = piece[: self._room] if self._inflater is None else self._inflater.unpack(piece, self._room)
        self._content.write(found)
        self._room -= len(found)
        if self._room:
            return False
        self._content.truncate(self._content.tell() - 1)
        return True

    def content(self) -> bytes:
        """Return what came."""
        return self._content.getvalue()


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
    return without_lone_surrogates(_leniently(content))


def parsed_event(content: bytes) -> Any:
    """Return the JSON of an event, see `parsed`. Half of a surrogate pair stays: the next event may hold the other.

    Raises:
        ValueError: when it is no JSON.
    """
    try:
        value = orjson.loads(content)
        return value if not has_long_number(content) else _leniently(content)
    except orjson.JSONDecodeError:
        return _leniently(content)


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


def unpacked_pieces(encoding: str) -> Callable[[bytes], Iterator[bytes]]:
    """Return what unpacks the pieces of a body that is read while it comes, a bounded piece at a time.

    Args:
        encoding: the ``Content-Encoding`` of the response.

    Raises:
        DamagedBodyError: when it is packed in a way that was not asked for; by what is returned, when it is damaged.
    """
    inflater = _inflater(encoding)
    return (lambda piece: iter((piece,))) if inflater is None else inflater.pieces


def _leniently(content: bytes) -> Any:
    text = content.decode("utf-8-sig", errors="replace")
    try:
        return json.loads(text, strict=False, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _inflater(encoding: str) -> _Inflater | None:
    """Return what unpacks a body; None when it is not packed."""
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip" | "deflate":
            return _Inflater()
        case _:
            raise DamagedBodyError("it is packed in a way that was not asked for")


class _Inflater:
    """Unpacks zlib and gzip, and raw deflate, no further than it is told to."""

    def __init__(self) -> None:
        self._unpacks: Any = None

    def pieces(self, piece: bytes) -> Iterator[bytes]:
        """Yield what the bytes unpack to."""
        while piece:
            yield self.unpack(piece, PIECE_BYTES)
            piece = self._unpacks.unconsumed_tail

    def unpack(self, piece: bytes, most: int) -> bytes:
        """Return what the bytes unpack to, at most so many bytes."""
        try:
            if self._unpacks is None:
                is_raw = piece[0] & 0x0F != 8 and piece[:1] != b"\x1f"
                self._unpacks = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else zlib.MAX_WBITS | 32)
            return bytes(self._unpacks.decompress(piece, most))
        except zlib.error as error:
            raise DamagedBodyError(f"it cannot be unpacked: {error}") from error


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)
