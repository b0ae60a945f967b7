"""JSON objects that carry a checksum of themselves: a seal, a dead letter, the state of a run.

The last field is ``"check"``: the CRC-32, in 8 hex digits, of all bytes before it. So whoever reads the object sees an
ordinary object, and `is_unaltered` sees every byte that is not what it was. Engines read them without looking at the
check: what it guards against is for `llm-datagen verify` to say.
"""

from __future__ import annotations

import zlib

CHECK_FIELD = "check"

_TAIL = b',"check":"%08x"}'
_LENGTH = len(_TAIL % 0)


def with_check(text: bytes) -> bytes:
    """Return a JSON object that is not empty as a line, with its check."""
    head = text.rstrip()[:-1]
    return head + _TAIL % zlib.crc32(head) + b"\n"


def is_unaltered(line: bytes) -> bool:
    """Return whether a line, with its newline, is as `with_check` made it."""
    head = line[: -_LENGTH - 1]
    return line[-_LENGTH - 1 :] == _TAIL % zlib.crc32(head) + b"\n"
