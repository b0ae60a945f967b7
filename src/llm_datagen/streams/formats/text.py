"""Text: each line is a row ``{"text": …}``, and a blank one, too. Text is only read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llm_datagen.config import UNBOUNDED, DataConfig, set_data_config
from llm_datagen.streams.formats.base import Encoder, Split
from llm_datagen.streams.formats.jsonl import MAX_RECORD_BYTES
from llm_datagen.streams.formats.unreadable import UTF8_BOM, LongRecord, check_encoding, text_of

TEXT_COLUMN = "text"
"""The only column of a row."""


@dataclass(frozen=True, slots=True)
class TextDecoder:
    """Lines as rows.

    Args:
        encoding: the name of the encoding.
    """

    encoding: str

    def __call__(self, record: bytes) -> dict[str, Any]:
        """Return the row of a line, without the CR of its end.

        Raises:
            ValueError: when the line is too long, or not of the encoding.
        """
        if isinstance(record, LongRecord):
            advice = set_data_config("max_record_bytes")
            raise ValueError(f"the line is too long; if it is meant, {advice}")  # noqa: TRY004
        return {TEXT_COLUMN: text_of(record.removesuffix(b"\r"), self.encoding)}


class TextCodec:
    """The format of `.txt` files.

    Args:
        data: the encoding, and what is refused.
    """

    why_only_read = "text holds lines and no columns"

    def __init__(self, data: DataConfig | None = None) -> None:
        self._data = data or DataConfig()
        self.max_record_bytes = self._data.max_record_bytes or MAX_RECORD_BYTES

    def with_data(self, data: DataConfig) -> TextCodec:
        """Return the format with other settings."""
        return TextCodec(data)

    def unbounded(self) -> TextCodec:
        """Return the format without a longest line."""
        codec = TextCodec(self._data)
        codec.max_record_bytes = UNBOUNDED
        return codec

    def read_preamble(self, head: bytes, *, final: bool) -> tuple[TextDecoder, int] | None:
        """Return the decoder, and the offset after a byte order mark if there is one."""
        encoding = self._data.encoding
        if len(head) < len(UTF8_BOM) and UTF8_BOM.startswith(head) and not final:
            return None
        check_encoding(head, encoding)
        return TextDecoder(encoding), len(UTF8_BOM) if head.startswith(UTF8_BOM) and encoding == "utf-8" else 0

    def split(self, data: bytes, *, final: bool) -> Split:
        """Split `data` into lines. What follows the last newline is a line only if there is something."""
        lines = data.split(b"\n")
        rest = lines.pop()
        if final and rest:
            lines.append(rest)
            rest = b""
        split = Split(lines, None, len(data) - len(rest))
        return split.up_to(self.max_record_bytes) if len(data) > self.max_record_bytes else split

    def encoder(self, head: bytes) -> Encoder:
        """Refuse to write."""
        raise ValueError(self.why_only_read)
