"""Whether reading can go on where it was."""

from __future__ import annotations

import contextlib

from llm_datagen.errors import StreamChangedError
from llm_datagen.streams.coverage import Coverage
from llm_datagen.streams.fingerprint import HINT
from llm_datagen.streams.location import StreamFiles
from llm_datagen.streams.read_limit import readable


def check_resumable(stream: StreamFiles, done: Coverage) -> None:
    """Check that the rows which were read before are still there (M22)."""
    _, offset = done.end()
    promised = readable(stream, follow=True)
    size = None if promised is None else promised.limit  # what lies behind that is cut off before anyone reads it
    if offset and (size is None or size < offset):
        what = "is gone" if size is None else f"has {size} bytes that are accounted for"
        raise StreamChangedError(
            f"{stream.path} {what}, but rows up to byte {offset} were read from it before the run was interrupted; "
            f"{HINT}"
        )
    for segment in done.gaps():
        if not _is_row_start(stream, segment.offset):
            raise StreamChangedError(
                f"{stream.path}: no row begins at byte {segment.offset}, where reading is to go on: the file was "
                f"edited after the run was interrupted; {HINT}"
            )


def _is_row_start(stream: StreamFiles, offset: int) -> bool:
    """Return whether a row can begin at byte `offset`: at the beginning, or behind a newline; or as the format says.

    Or before one: where a stream ended within a line, that line may have got its newline since.
    """
    if offset == 0:
        return True
    is_boundary = getattr(stream.codec_to_read(), "is_boundary", None)
    with contextlib.closing(stream.open_data()) as file:
        if is_boundary is not None:
            return bool(is_boundary(file.read_at(offset - 1, 1), file.read_at(offset, 1)))
        return file.read_at(offset - 1, 1) == b"\n" or file.read_at(offset, 1) in (b"", b"\n", b"\r")
