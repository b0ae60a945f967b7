"""JSON lines: one JSON value a line. Blank lines are passed over."""

from __future__ import annotations

from typing import Any

import orjson

from llm_datagen.streams.codec import Decoder, Encoder, Split

_BOM = b"\xef\xbb\xbf"


def split_lines(data: bytes, *, final: bool) -> Split:
    """Split `data` at newlines into lines that are not blank."""
    lines = data.split(b"\n")
    consumed = len(data)
    if not final:
        consumed -= len(lines.pop())  # what follows the last newline is not whole yet
    elif not lines[-1]:
        lines.pop()
    if b"" not in lines and b"\r" not in lines:
        return Split(lines, None, consumed)
    return without_blanks(lines, consumed)


def without_blanks(lines: list[bytes], consumed: int) -> Split:
    """Return the split of `lines`, each followed by a newline, that leaves out blank ones."""
    records: list[bytes] = []
    ends: list[int] = []
    at = 0
    for line in lines:
        at += len(line) + 1
        if line and line != b"\r":
            records.append(line)
            ends.append(at)
        elif ends:
            ends[-1] = at  # blank lines belong to the record before them
    if ends:
        ends[-1] = consumed
    return Split(records, ends, consumed)


class JsonlEncoder:
    """Rows as JSON lines."""

    encode = staticmethod(orjson.dumps)  # as it is: a Python function around it would cost a tenth of a cheap node

    def encode_other(self, row: dict[str, Any]) -> bytes:
        """Return a row that may hold NumPy's values as a line."""
        return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)

    def preamble(self) -> bytes:
        """Return nothing: JSON lines have no header."""
        return b""


class JsonlCodec:
    """The format of `.jsonl` files."""

    def read_preamble(self, head: bytes, *, final: bool) -> tuple[Decoder, int] | None:
        """Return the decoder, and the offset after a byte order mark if there is one."""
        if len(head) < len(_BOM) and _BOM.startswith(head) and not final:
            return None
        return orjson.loads, len(_BOM) if head.startswith(_BOM) else 0

    def split(self, data: bytes, *, final: bool) -> Split:
        """Split `data` into lines."""
        return split_lines(data, final=final)

    def encoder(self, head: bytes) -> Encoder:
        """Return an encoder."""
        return JsonlEncoder()
