"""Dead letters: rows that failed, and how they are tried again.

A dead letter is a line of ``<output>.errors.jsonl``: the row's id and input, the error, and ``source``: the row's
ordinal in the source and the bytes at which it begins and ends. The file belongs to the stream: a commit record says
how long it is, and recovery cuts it.

To try dead letters again is to say that their source rows are not done: the node that is resumed finds holes, reads
them from the source, and gives the rows the same ids. That is one atomic replacement of the commit log.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from llm_datagen.errors import FailureRecord, StreamCorruptError
from llm_datagen.streams.block import Block
from llm_datagen.streams.checksums import CHECK_FIELD, is_unaltered, with_check
from llm_datagen.streams.commit_log import CommitLog
from llm_datagen.streams.coverage import Coverage, Segment, Span
from llm_datagen.streams.dispatch_log import abandoned, forget
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.ids import Id, RootNames
from llm_datagen.streams.location import StreamFiles
from llm_datagen.streams.position import Position
from llm_datagen.streams.recovery import position_of
from llm_datagen.streams.rows import named
from llm_datagen.streams.sink import Sink
from llm_datagen.streams.source import Source

_CHUNK_BYTES = 1 << 20

RAW_BYTES = 1 << 20
"""Bytes of a record that a dead letter keeps when there is no item: as JSON, a damaged one may be six times as long."""

UNPARSED: Any = object()
"""In place of an item: the record could not be parsed."""


def row_or_unparsed(block: Block, number: int, source: Source, root: RootNames | None) -> tuple[Id, Any]:
    """Return the id and the item of a record of a block; of one that is no row, the id it would have and `UNPARSED`."""
    ordinal = block.start + number
    try:
        return named(block.decode(block.records[number]), ordinal, root)
    except ValueError:
        return unparsed_id(ordinal, source, root), UNPARSED


def unparsed_id(ordinal: int, source: Source, root: RootNames | None) -> Id:
    """Return the id that a record would have that is no row, by its number in the source."""
    return root.name(ordinal) if root else source.unparsed_id(ordinal)


def read_dead_letters(
    stream: StreamFiles, *, position: Position | None = None, checked: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the dead letters beside a stream that are committed, one after the other: no more than one is in memory.

    Args:
        stream: the stream.
        position: where it stands, if that is known; else its seal or its commit log is asked.
        checked: whether to refuse dead letters that are not, byte for byte, what was written.

    Raises:
        StreamCorruptError: on a line that is none, or when committed ones are missing.
    """
    if position is None:
        found = position_of(stream)
        position = found[1] if found else Position()
    with closing(committed_lines(stream, stream.errors_path, position.errors_bytes)) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if checked and not is_unaltered(line):
                    raise ValueError("the checksum differs: it was changed")
                value = loads_exactly(line)
                _ = value["_i"], value["error"]["kind"], value["error"]["text"], value["source"][2]
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise StreamCorruptError(
                    f"{stream.errors_path}, line {number}: not a dead letter ({error!r}); restore the file"
                ) from None
            value.pop(CHECK_FIELD, None)
            yield value


def committed_lines(stream: StreamFiles, path: str, size: int) -> Generator[bytes, None, None]:
    """Yield the lines, newlines included, of the first `size` bytes of a file beside a stream.

    Args:
        stream: the stream.
        path: the file's path.
        size: bytes of it that are committed.

    Raises:
        StreamCorruptError: when it is shorter.
    """
    if not size:
        return
    found = stream.storage.size(path) or 0
    if found < size:
        raise StreamCorruptError(f"{path} has {found} bytes, but {size} were committed; restore the file")
    file = stream.storage.open_read(path)
    try:
        begun: list[bytes] = []
        for at in range(0, size, _CHUNK_BYTES):
            *ends, rest = file.read_at(at, min(_CHUNK_BYTES, size - at)).split(b"\n")
            for end in ends:
                yield b"".join([*begun, end, b"\n"])
                begun = []
            begun.append(rest)
        if any(begun):  # no newline at the end: it is no dead letter
            yield b"".join(begun)
    finally:
        file.close()


@functools.lru_cache(maxsize=1)
def _time_text(milliseconds: int) -> str:
    """Return a time as text: once for all dead letters of a millisecond."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def dead_letter(
    row_id: Id, item: Any, *, record: bytes, node_id: str, error: FailureRecord, attempts: int, source: Span
) -> bytes:
    """Return a dead letter as a line.

    Args:
        row_id: the row's id.
        item: what the operator was, or would have been, given; `UNPARSED` when that cannot be known.
        record: the row as it lies in the source, to be kept in place of an item that cannot be: its beginning, when
            it is longer than `RAW_BYTES`, with how long it is.
        node_id: the node that it failed in.
        error: why it failed.
        attempts: calls that were made for it.
        source: where it lies in the source: a span of one row.
    """
    value: dict[str, Any] = {
        "_i": row_id,
        "node_id": node_id,
        "input": item,
        "error": {"kind": error.kind, "text": error.text, "trace": error.trace},
        "attempts": attempts,
        "source": [source.start, source.offset, source.offset_end],
        "at": _time_text(time.time_ns() // 1_000_000),
    }
    if item is not UNPARSED:
        try:
            return with_check(dumps(value))
        except TypeError:  # what can be parsed cannot always be written: not when it is nested too deeply
            pass
    del value["input"]
    record = bytes(record)
    value["raw"] = record[:RAW_BYTES].decode("utf-8", "backslashreplace")
    if len(record) > RAW_BYTES:
        value["raw_bytes"] = len(record)
    return with_check(dumps(value))


def dead_letter_abandoned(sink: Sink, source: Source, node_id: str, root: RootNames | None) -> int:
    """Dead-letter the rows that were handed out when the process died (at_most_once); return how many.

    Raises:
        StreamError: when the source cannot be read.
    """
    stream = sink.stream
    spans = abandoned(stream, sink.position)
    error = FailureRecord(
        "Abandoned", "the row had been handed to the operator when the process died; nobody knows what came of it", ""
    )
    for span in spans:
        cursor = source.cursor([Segment(span.start, span.offset, span.end, span.offset_end)], follow=False)
        try:
            while (block := cursor.read(1)) is not None:
                row_id, item = row_or_unparsed(block, 0, source, root)
                place = block.span
                line = dead_letter(
                    row_id,
                    item,
                    record=block.records[0],
                    node_id=node_id,
                    error=error,
                    attempts=1,
                    source=place,
                )
                sink.append(b"", rows=0, spans=[place], dead=1, dead_letters=line)
        finally:
            cursor.close()
    if stream.dispatched_path in stream.files:
        stream.storage.remove(stream.dispatched_path)
    return sum(span.end - span.start for span in spans)


def check_dead_letters(stream: StreamFiles) -> None:
    """Check that the dead letters of a stream can be released. Only reads.

    Raises:
        StreamCorruptError: when they cannot be read, or are not those that were committed.
    """
    found = position_of(stream)
    if found is not None:
        _released(stream, found[1])


def has_dead_letters(stream: StreamFiles) -> bool:
    """Return whether the output of a node has dead letters."""
    found = position_of(stream)
    return found is not None and found[1].dead > 0


def release_dead_letters(stream: StreamFiles) -> int:
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
    file = stream.storage.open_append(stream.path)  # nobody else may write meanwhile
    try:
        released, coverage = _released(stream, position)
        # First: else, when the process dies in between, they would count as abandoned.
        forget(stream, released)
        position.coverage = coverage
        position.dead = position.errors_bytes = 0
        CommitLog(stream.storage, stream.commits_path, source, sync=True).start(position)
        stream.storage.remove(stream.done_path)
        return len(released)
    finally:
        file.close()


def _released(stream: StreamFiles, position: Position) -> tuple[list[Span], Coverage]:
    """Return the source rows of all dead letters, and what is covered without them."""
    coverage = Coverage(position.coverage)
    released: list[Span] = []
    for found in read_dead_letters(stream, checked=True):
        row, offset, offset_end = found["source"]
        released.append(Span(row, row + 1, offset, offset_end))
        try:
            coverage.remove(released[-1])
        except LookupError as error:
            raise StreamCorruptError(f"{stream.errors_path}: row {row}: {error}; restore the file") from error
    if len(released) != position.dead:
        raise StreamCorruptError(
            f"{stream.errors_path} holds {len(released)} dead letters, and {position.dead} were committed; "
            "restore the file"
        )
    return released, coverage
