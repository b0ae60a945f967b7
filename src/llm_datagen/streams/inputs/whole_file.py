"""The fingerprint of a file that other programs have written whole: no row of it may change between two runs.

Of a file whose rows do not lie at bytes of their own (compressed files, Parquet), it cannot be told which bytes were
read. So the file must stay as it was, and any change is refused, also behind what was read.
"""

from __future__ import annotations

import zlib
from typing import Any

from llm_datagen.errors import StreamChangedError
from llm_datagen.streams.location import StreamFiles
from llm_datagen.streams.storage.base import ReadFile

PARTS = 32
"""So many parts of a file are compared: the first, the last, and others at even distances."""

PART_BYTES = 64 * 1024


def fingerprint_of(stream: StreamFiles, parts: int = PARTS, part_bytes: int = PART_BYTES) -> dict[str, Any] | None:
    """Return the size of a file, and the CRC-32 of some parts of it together; None when it does not exist."""
    size = stream.size()
    if size is None:
        return None
    file = stream.storage.open_read(stream.path)
    try:
        return {"size": size, "crc": _crc(file, size, parts, part_bytes)}
    finally:
        file.close()


def check_fingerprint_of(stream: StreamFiles, known: dict[str, Any]) -> None:
    """Check that a file is what it was.

    Args:
        stream: the file.
        known: what `fingerprint_of` has returned before.

    Raises:
        StreamChangedError: when it is not.
    """
    now = fingerprint_of(stream)
    if now == known:
        return
    if now is None:
        what = "is gone"
    elif now["size"] != known["size"]:
        what = f"has {now['size']} bytes now, and had {known['size']}"
    else:
        what = "was edited"
    raise StreamChangedError(
        f"{stream.path} {what}: rows were read from it before the run was interrupted, and the file must stay as it "
        "was; restore it, or start afresh with if_exists='overwrite'"
    )


def _crc(file: ReadFile, size: int, parts: int, part_bytes: int) -> int:
    crc = 0
    last = max(0, size - part_bytes)
    for at in sorted({last * number // max(1, parts - 1) for number in range(parts)}):
        crc = zlib.crc32(file.read_at(at, part_bytes), crc)
    return crc
