"""The fingerprint of a file of which no row may change between two runs, wherever it is.

Of a file whose rows do not lie at bytes of their own (compressed files, Parquet), it cannot be told which bytes were
read. So all that was there must stay as it was, also behind what was read. It may grow at its end.
"""

from __future__ import annotations

import zlib

from llm_datagen.errors import StreamChangedError
from llm_datagen.streams.location import StreamFiles
from llm_datagen.streams.storage.base import Storage

PARTS = 32
"""So many parts of a file are compared: the first, the last, and others at even distances."""

PART_BYTES = 64 * 1024


def fingerprint_of(stream: StreamFiles) -> list[int] | None:
    """Return what `fingerprint_at` does of the file of a stream."""
    return fingerprint_at(stream.storage, stream.path)


def fingerprint_at(storage: Storage, path: str, parts: int = PARTS, part_bytes: int = PART_BYTES) -> list[int] | None:
    """Return the size of a file, and the CRC-32 of some parts of it together; None when it does not exist."""
    size = storage.size(path)
    return None if size is None else [size, _crc(storage, path, size, parts, part_bytes)]


def difference(
    storage: Storage, path: str, known: list[int], parts: int = PARTS, part_bytes: int = PART_BYTES
) -> str | None:
    """Return what a file is that is not what it was; None when it is.

    Args:
        storage: where it lies.
        path: its path.
        known: what `fingerprint_at` has returned before, with the same parts.
        parts: how many.
        part_bytes: how long each is.
    """
    size, crc = known
    now = storage.size(path)
    if now is None:
        return "is gone"
    if now < size:
        return f"has {now} bytes, and had {size}"
    return None if _crc(storage, path, size, parts, part_bytes) == crc else "was edited"


def check_fingerprint_of(stream: StreamFiles, known: list[int]) -> None:
    """Check that a file is what it was, but for what was added to its end.

    Args:
        stream: the file.
        known: what `fingerprint_of` has returned before.

    Raises:
        StreamChangedError: when it is not.
    """
    is_of_file = isinstance(known, list)
    what = difference(stream.storage, stream.path, known) if is_of_file else "was another kind of input"
    if what is not None:
        raise StreamChangedError(
            f"{stream.path} {what}: rows were read from it before the run was interrupted, and the file must stay as "
            "it was, as those rows, which are kept, could be others now. Restore it; or, if it was damaged and is "
            "mended, start afresh with if_exists='overwrite', which does all rows again"
        )


def _crc(storage: Storage, path: str, size: int, parts: int, part_bytes: int) -> int:
    """Return the checksum of parts of the first `size` bytes."""
    file = storage.open_read(path)
    try:
        crc, last = 0, max(0, size - part_bytes)
        for at in sorted({last * number // max(1, parts - 1) for number in range(parts)}):
            crc = zlib.crc32(file.read_at(at, min(part_bytes, size - at)), crc)
        return crc
    finally:
        file.close()
