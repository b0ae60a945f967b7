"""Codecs: how rows are written as bytes, and nothing else. A format is one small file that has these three parts.

Splitting, decoding and encoding are separate because they happen in different places: a reader splits blocks into
records, workers decode and encode them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

Decoder = Callable[[bytes], Any]
"""Turns one record into a row. Raises ValueError when it is none. Any thread may call it."""


class Split(NamedTuple):
    """The whole records at the beginning of some bytes.

    Attributes:
        records: the records; their terminators may or may not be kept.
        ends: for each record, where the next one begins, counted from the beginning of the bytes; None when
            each record is followed by exactly one byte that was taken off.
        consumed: how many bytes the records take, with blank lines.
        decode: how to decode these records and all that follow, when not as `read_preamble` has said. It must be able
            to decode what was before, too.
    """

    records: list[bytes]
    ends: list[int] | None
    consumed: int
    decode: Decoder | None = None

    def up_to(self, most: int) -> Split:
        """Return what comes before the first record of more than `most` bytes."""
        for number, record in enumerate(self.records):
            if len(record) > most:
                records, ends = self.records[:number], self.ends
                if ends is None:
                    return Split(records, None, sum(map(len, records)) + number)
                return Split(records, ends[:number], ends[number - 1] if number else 0)
        return self


class Encoder(Protocol):
    """Turns rows into bytes. Any thread may call it."""

    @property
    def encode(self) -> Callable[[dict[str, Any]], bytes]:
        """What returns the record of a row, without its newline. A TypeError means: ask `encode_other`."""

    def encode_other(self, row: dict[str, Any]) -> bytes:
        """Return the record of a row that holds more than plain values, without its newline.

        Raises:
            TypeError, ValueError: when the format cannot hold the row.
        """

    def preamble(self) -> bytes:
        """Return what an empty file must begin with, once rows have been encoded."""


def lines_of(records: list[bytes]) -> bytes:
    """Return records, each with its newline."""
    records.append(b"")
    lines = b"\n".join(records)
    records.pop()
    return lines


class Codec(Protocol):
    """A format of text: every record ends with a newline, though there may be newlines in it as well.

    It may have an attribute `max_record_bytes`: its `split` stops before a longer record, which then is an error, and
    what follows its first line goes on. It may have a method `unbounded()`, which returns it without such a length, and
    a method `with_data(DataConfig)`, which returns it with settings.

    A format whose records do not end with newlines has a method ``is_boundary(before, after)``, which says whether a
    record can end between two bytes (each of length 1, or empty where the data ends). One that says where it ends has a
    method ``split_end(data)``: as `split`, of the last bytes of the data; it raises a ValueError when there is neither
    a record nor such an end. One that is only read has a text `why_only_read`.
    """

    def read_preamble(self, head: bytes, *, final: bool) -> tuple[Decoder, int] | None:
        """Return the decoder and the offset of the first record.

        Args:
            head: the file's first bytes.
            final: whether they are the whole file.

        Returns:
            None when more bytes are needed.

        Raises:
            ValueError: when the file cannot be of this format.
        """

    def split(self, data: bytes, *, final: bool) -> Split:
        """Split `data` into whole records; with `final`, what is left at the end is a record too."""

    def encoder(self, head: bytes) -> Encoder:
        """Return an encoder for a file that begins with `head` (empty for a new file)."""
