"""Keys of a state, as bytes that are in the order of the keys.

A key is text, a whole number, or a tuple of these. Each part is a byte for its type, and the value: a number as its
offset from the smallest one, 8 bytes, big-endian; text in UTF-8, with ``00`` as ``00 FF``, and ``00 00`` at its end. So
numbers come before text, and all keys that begin with the same parts lie together. (The tuple layer of FoundationDB
encodes tuples in this way.)
"""

from __future__ import annotations

import struct
from typing import Any

KeyPart = str | int
Key = KeyPart | tuple[KeyPart, ...]

_NUMBER, _TEXT = b"\x01", b"\x02"
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_END = b"\x00\x00"


def encode_key(key: Key) -> bytes:
    """Return a key as bytes; a tuple of one part as that part.

    Raises:
        TypeError: when it is no key.
        ValueError: when a number is over 64 bits, text has lone surrogates, or a tuple is empty.
    """
    if key.__class__ is str:  # most of them
        return _text(key)
    if key.__class__ is tuple and not key:
        raise ValueError("a key of the state is a tuple without parts; give it one")
    return b"".join(map(_part, key if isinstance(key, tuple) else (key,)))


def decode_key(data: bytes) -> Key:
    """Return the key that `encode_key` has encoded."""
    if data[:1] == _TEXT and data.index(_END) == len(data) - 2 and data.count(b"\x00") == 2:  # most of them
        return data[1:-2].decode()
    parts: list[KeyPart] = []
    at = 0
    while at < len(data):
        kind, at = data[at : at + 1], at + 1
        if kind == _NUMBER:
            parts.append(struct.unpack_from(">Q", data, at)[0] + _SMALLEST)
            at += 8
        else:
            end = data.index(_END, at)
            parts.append(data[at:end].replace(b"\x00\xff", b"\x00").decode())
            at = end + 2
    return parts[0] if len(parts) == 1 else tuple(parts)


def _part(part: Any) -> bytes:
    if isinstance(part, str):
        return _text(part)
    if isinstance(part, bool) or not isinstance(part, int):
        raise TypeError(f"a key of the state is text, a whole number, or a tuple of these, not {part!r}")
    if not _SMALLEST <= part <= _LARGEST:
        raise ValueError(f"a key of the state is {part}, which has more than 64 bits; use it as text")
    return _NUMBER + struct.pack(">Q", part - _SMALLEST)


def _text(text: str) -> bytes:
    data = text.encode()
    return _TEXT + (data.replace(b"\x00", b"\x00\xff") if b"\x00" in data else data) + _END
