"""Encodings other than UTF-8: those in which the signs that split records are the bytes that they are in ASCII.

So records are split as bytes, offsets are those of the file, and each record is decoded by itself.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llm_datagen.config import DataConfig
from llm_datagen.streams.formats.base import Decoder, Encoder
from llm_datagen.streams.formats.unreadable import LongRecord, text_of

_ESCAPED = "llm_datagen.json_escape"


@dataclass(frozen=True, slots=True)
class Transcoding:
    """Decodes records of another encoding by a decoder of UTF-8.

    Args:
        decode: the decoder of UTF-8.
        encoding: the name of the encoding.
    """

    decode: Decoder
    encoding: str

    def __call__(self, record: bytes) -> Any:
        """Return the row of a record.

        Raises:
            ValueError: when it is none.
        """
        if isinstance(record, LongRecord):
            return self.decode(record)
        return self.decode(text_of(record, self.encoding).encode())


def in_encoding(decode: Decoder, data: DataConfig) -> Decoder:
    """Return a decoder of UTF-8 as one of the encoding that the settings say."""
    return decode if data.encoding == "utf-8" else Transcoding(decode, data.encoding)


class JsonTranscoder:
    r"""Encodes rows as JSON in another encoding. Signs that it lacks are written as ``\uXXXX``, so nothing is lost.

    Args:
        inner: the encoder in UTF-8.
        encoding: the name of the encoding.
    """

    def __init__(self, inner: Encoder, encoding: str) -> None:
        self._inner = inner
        self._encoding = encoding
        encode_plain = inner.encode
        self.encode: Callable[[Any], bytes] = lambda row: self._transcoded(encode_plain(row))

    def encode_other(self, row: Any) -> bytes:
        """Return any row as a line."""
        return self._transcoded(self._inner.encode_other(row))

    def preamble(self) -> bytes:
        """Return nothing: JSON lines have no header."""
        return b""

    def _transcoded(self, record: bytes) -> bytes:
        if record.isascii():
            return record
        text = record.decode()
        encoded = text.encode(self._encoding, _ESCAPED)
        # Some encodings write a sign as another one that looks alike: such records are written in ASCII.
        return encoded if encoded.decode(self._encoding) == text else text.encode("ascii", _ESCAPED)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    escaped = "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
    return escaped, error.end


codecs.register_error(_ESCAPED, _escape)
