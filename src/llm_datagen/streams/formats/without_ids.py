"""Rows without their `_i`, or with it under another name: what is written where others than the engine read.

Nothing of the engine reads ids from such a stream: its rows are counted, and their ids stand in its source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llm_datagen.streams.formats.base import Codec, Decoder, Encoder, Split
from llm_datagen.streams.ids import ID_FIELD


class EncoderWithoutIds:
    """Encodes rows without `_i`.

    Args:
        encoder: how the rest of a row is encoded.
        id_column: the column that takes the id; None leaves it out.
    """

    def __init__(self, encoder: Encoder, id_column: str | None) -> None:
        self._encoder = encoder
        self._id_column = id_column

    @property
    def encode(self) -> Callable[[dict[str, Any]], bytes]:
        """What returns the record of a row, without its newline. A TypeError means: ask `encode_other`.

        It raises ValueError when the row has a column of the id's name already.
        """
        return lambda row: self._encoder.encode(self._without_id(row))

    def encode_other(self, row: dict[str, Any]) -> bytes:
        """Return the record of a row that holds more than plain values, without its newline.

        Raises:
            TypeError, ValueError: when the format cannot hold the row, or it has a column of the id's name already.
        """
        return self._encoder.encode_other(self._without_id(row))

    def preamble(self) -> bytes:
        """Return what an empty file must begin with, once rows have been encoded."""
        return self._encoder.preamble()

    def _without_id(self, row: dict[str, Any]) -> dict[str, Any]:
        column = self._id_column
        if column is None:
            return {name: value for name, value in row.items() if name != ID_FIELD}
        _check_free(row, column)
        return {column if name == ID_FIELD else name: value for name, value in row.items()}


class ReservedColumnEncoder(EncoderWithoutIds):
    """Encodes rows with their `_i`, and refuses those that could not be copied without it. See `EncoderWithoutIds`."""

    def _without_id(self, row: dict[str, Any]) -> dict[str, Any]:
        if self._id_column is not None:
            _check_free(row, self._id_column)
        return row


def _check_free(row: dict[str, Any], column: str) -> None:
    if column in row:
        raise ValueError(
            f"row {row[ID_FIELD]!r} has a column {column!r} already, where id_column={column!r} would put its id; "
            "choose another id_column, or rename the column"
        )


class CodecWithoutIds:
    """A format, written without `_i`. It is read as the format is.

    Args:
        codec: the format.
        id_column: the column that takes the id; None leaves it out.
    """

    _kind: type[EncoderWithoutIds] = EncoderWithoutIds

    def __init__(self, codec: Codec, id_column: str | None) -> None:
        self._codec = codec
        self.max_record_bytes: int | None = getattr(codec, "max_record_bytes", None)
        self.why_only_read: str | None = getattr(codec, "why_only_read", None)
        self._id_column = id_column

    def unbounded(self) -> Codec:
        """Return how it is read without a longest record."""
        unbounded = getattr(self._codec, "unbounded", None)
        return self if unbounded is None else type(self)(unbounded(), self._id_column)

    def read_preamble(self, head: bytes, *, final: bool) -> tuple[Decoder, int] | None:
        """Return the decoder and the offset of the first record; see `Codec`."""
        return self._codec.read_preamble(head, final=final)

    def split(self, data: bytes, *, final: bool) -> Split:
        """Split `data` into whole records; see `Codec`."""
        return self._codec.split(data, final=final)

    def encoder(self, head: bytes) -> Encoder:
        """Return an encoder for a file that begins with `head`."""
        return self._kind(self._codec.encoder(head), self._id_column)


class ReservedColumnCodec(CodecWithoutIds):
    """A format, written with `_i`, of rows that an `CodecWithoutIds` copies: what it could not copy is refused."""

    _kind = ReservedColumnEncoder
