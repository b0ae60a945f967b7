"""Dead letters: rows that failed, and how they are tried again.

A dead letter is a line of ``<output>.errors.jsonl``: the row's id and input, the error, and ``source``: the row's
ordinal in the source and the bytes at which it begins and ends. The file belongs to the stream: a commit record says how
long it is, and recovery cuts it.

To try dead letters again is to say that their source rows are not done: the node that is resumed finds holes, reads them
from the source, and gives the rows the same ids. That is one atomic replacement of the commit log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from llm_datagen.errors import StreamCorruptError
from llm_datagen.streams.commits import CommitLog, Position, read_log
from llm_datagen.streams.spans import Coverage, Span
from llm_datagen.streams.stream import Stream


def position_of(stream: Stream) -> tuple[str, Position] | None:
    """Return the source and the position of a stream, from its seal or its commit log; None when there is neither."""
    manifest = stream.manifest()
    if manifest is not None and manifest.rows is not None:
        return manifest.source, manifest.position()
    return read_log(stream.disk, stream.commits_path)


def read_letters(stream: Stream) -> Iterator[dict[str, Any]]:
    """Yield the dead letters beside a stream that are committed.

    Raises:
        StreamCorruptError: on a line that is none, or when committed ones are missing.
    """
    found = position_of(stream)
    size = found[1].errors_bytes if found else 0
    if not size:
        return
    data = (stream.disk.read_all(stream.errors_path) or b"")[:size]
    if len(data) < size:
        raise StreamCorruptError(
            f"{stream.errors_path} has {len(data)} bytes, but {size} were committed; restore the file"
        )
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            letter = orjson.loads(line)
            _ = letter["_i"], letter["error"]["kind"], letter["source"][2]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise StreamCorruptError(
                f"{stream.errors_path}, line {number}: not a dead letter ({error!r}); restore the file"
            ) from error
        yield letter


def release_letters(stream: Stream) -> int:
    """Let the rows of all dead letters be done again by the node that is resumed next; return how many.

    The stream is unsealed. When the process dies half-way, either all or none of them are released.

    Raises:
        StreamCorruptError: when the dead letters cannot be read.
        StreamBusyError: when the stream is being written.
    """
    found = position_of(stream)
    if found is None or not found[1].dead:
        return 0
    source, position = found
    file = stream.disk.open_append(stream.path)  # nobody else may write meanwhile
    try:
        coverage = Coverage(position.coverage)
        released = 0
        for letter in read_letters(stream):
            row, offset, offset_end = letter["source"]
            coverage.remove(Span(row, row + 1, offset, offset_end))
            released += 1
        position.coverage = coverage
        position.dead = position.errors_bytes = 0
        CommitLog(stream.disk, stream.commits_path, source, sync=True).start(position)
        stream.disk.remove(stream.done_path)
        return released
    finally:
        file.close()
