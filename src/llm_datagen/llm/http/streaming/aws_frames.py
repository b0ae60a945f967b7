"""The event streams of AWS: messages of binary headers and a body, each with two checksums.

A message: its length and that of its headers (4 bytes each, the highest first), the CRC-32 of these 8 bytes, the
headers, the body, the CRC-32 of all of this. A header: the length of its name (1 byte), the name, the type of its value
(1 byte), the value; only texts (type 7: 2 bytes of length, then UTF-8) are looked at.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from llm_datagen.llm.http.body import DamagedBodyError
from llm_datagen.llm.http.streaming.frames import Event
from llm_datagen.streams.formats.json_text import dumps

_PRELUDE = struct.Struct(">III")
_CHECKSUM = struct.Struct(">I")
_LONGEST = 24 << 20
"""What the format allows, with room for the headers."""
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""The bytes of a value, by its type; of types 6 and 7, two bytes say it."""
_BYTES, _TEXT = 6, 7


class AwsFrames:
    """Messages of an event stream. An exception is an event with its name, and an error one of the name ``error``."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes that are kept because no whole message is in them yet."""
        return len(self._buffer)

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the messages that end in these bytes.

        Raises:
            DamagedBodyError: when a checksum is wrong.
        """
        self._buffer += piece
        while len(self._buffer) >= _PRELUDE.size:
            length, headers, checksum = _PRELUDE.unpack_from(self._buffer)
            if zlib.crc32(self._buffer[: _PRELUDE.size - _CHECKSUM.size]) != checksum or not (
                _PRELUDE.size + headers + _CHECKSUM.size <= length <= _LONGEST
            ):
                raise DamagedBodyError("it is no event stream of AWS")
            if len(self._buffer) < length:
                return
            message = bytes(self._buffer[:length])
            del self._buffer[:length]
            if zlib.crc32(message[: -_CHECKSUM.size]) != _CHECKSUM.unpack_from(message, length - _CHECKSUM.size)[0]:
                raise DamagedBodyError("a message of the event stream has a wrong checksum")
            begin = _PRELUDE.size + headers
            named = _texts(message[_PRELUDE.size : begin])
            if named.get(":message-type") == "error":
                told = {"code": named.get(":error-code", ""), "message": named.get(":error-message", "")}
                yield Event("error", dumps(told))
                continue
            name = next((named[of] for of in (":exception-type", ":event-type") if of in named), "")
            yield Event(name, message[begin : -_CHECKSUM.size])

    def end(self) -> Iterator[Event]:
        """Yield nothing: half a message is none."""
        return iter(())


def _texts(headers: bytes) -> dict[str, str]:
    """Return the headers that are texts."""
    found, at = {}, 0
    try:
        while at < len(headers):
            name = headers[at + 1 : at + 1 + headers[at]].decode()
            at += 1 + headers[at]
            kind = headers[at]
            at += 1
            if kind in (_BYTES, _TEXT):
                size = int.from_bytes(headers[at : at + 2])
                at += 2
            else:
                size = _FIXED[kind]
            if kind == _TEXT:
                found[name] = headers[at : at + size].decode()
            at += size
    except (LookupError, ValueError) as error:
        raise DamagedBodyError(f"a message of the event stream has headers that cannot be read: {error!r}") from error
    return found
