"""Rejected rows: source rows that an operator left out with a reason, kept beside its output if the node says so.

A line of ``<output>.rejected.jsonl`` is ``{"_i": …, "item": …, "reason": …}``. The file belongs to the stream, as that
of the dead letters: a mark in each commit says how many rows were rejected and how long the file is, and recovery cuts
it. A rejected row is a filtered one: who counts filtered rows counts it, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from llm_datagen.errors import StreamCorruptError
from llm_datagen.errors.escape import shortened
from llm_datagen.streams.checksums import CHECK_FIELD, is_unaltered, with_check
from llm_datagen.streams.dead_letters import committed_lines
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.ids import Id
from llm_datagen.streams.location import StreamFiles
from llm_datagen.streams.position import Position
from llm_datagen.streams.recovery import last_position

_SHOWN_CHARS = 10_000


def rejected_row(row_id: Id, item: Any, reason: str) -> bytes:
    """Return a rejected row as a line. An item that the operator has changed to what JSON cannot hold is its repr."""
    try:
        return with_check(dumps({"_i": row_id, "item": item, "reason": reason}))
    except TypeError:
        return with_check(dumps({"_i": row_id, "item": shortened(repr(item), _SHOWN_CHARS), "reason": reason}))


def read_rejected(
    stream: StreamFiles, *, position: Position | None = None, checked: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the rejected rows beside a stream that are committed, one after the other.

    Args:
        stream: the stream.
        position: where it stands, if that is known; else its seal or its commit log is asked.
        checked: whether to refuse lines that are not, byte for byte, what was written.

    Raises:
        StreamCorruptError: on a line that is none, or when committed ones are missing.
    """
    size = (last_position(stream) if position is None else position).rejected_bytes
    path = stream.rejected_path
    with closing(committed_lines(stream, path, size)) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if checked and not is_unaltered(line):
                    raise ValueError("the checksum differs: it was changed")
                value = loads_exactly(line)
                _ = value["_i"], value["item"], value["reason"]
            except (ValueError, KeyError, TypeError) as error:
                raise StreamCorruptError(
                    f"{path}, line {number}: not a rejected row ({error!r}); restore the file"
                ) from None
            value.pop(CHECK_FIELD, None)
            yield value
