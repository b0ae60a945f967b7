"""The table of a state compared with its log: SQLite keeps no checksums, and the log has one.

SQLite finds pages that contradict one another, and not a value that has become another one. So the changes that the log
has are taken over once more, by a temporary table, and both are read side by side. Of keys whose changes the log has
no more, only the form is checked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from llm_datagen.errors import StreamCorruptError
from llm_datagen.streams.formats.json_text import loads_exactly
from llm_datagen.streams.location import StreamFiles
from llm_datagen.streams.state.keys import decode_key, encode_key
from llm_datagen.streams.state.log import StateLog
from llm_datagen.streams.state.table import StateTable, TableReader
from llm_datagen.streams.storage.local import LocalStorage

_DELETED = b""
"""In the temporary table, the value of a key that was deleted; no JSON is empty."""

_AT_ONCE = 10_000

_Pair = tuple[bytes, bytes]


def compare_table(stream: StreamFiles) -> None:
    """Check that the table of a state has what the log says. Only reads; takes disk space in a temporary file.

    Args:
        stream: the stream of the node, whose log was checked.

    Raises:
        StreamCorruptError: when the table is damaged.
        DiskError: when it cannot be read.
    """
    path = stream.state_table_paths[0]
    if not isinstance(stream.storage, LocalStorage) or not stream.storage.size(path):
        return
    log = StateLog(stream.storage, stream.state_path)
    mend = (
        f"remove it (and {path}-wal, -shm): a resume makes it anew of {stream.state_path}"
        if log.begin == 0
        else "restore it, or start afresh with if_exists='overwrite'"
    )
    with TableReader(path) as table:
        if flaw := table.flaw():
            raise StreamCorruptError(f"{path} is damaged: {flaw}; {mend}")
        expected = StateTable(None)
        try:
            _take_over(log, table.applied, expected)
            for key, is_value in _differences(table.items(), expected.items(b"", None), is_whole=log.begin == 0):
                what = "has another value than" if is_value else "is there, or is not, against"
                raise StreamCorruptError(
                    f"{path} is damaged: the key {_shown(key)} {what} what {stream.state_path} says; {mend}"
                )
        finally:
            expected.close()


def _take_over(log: StateLog, applied: int, table: StateTable) -> None:
    """Have an empty table take over what a log says up to a byte."""
    changes: dict[bytes, bytes | None] = {}
    if applied <= log.begin:
        return
    for key, value in log.changes(log.begin, applied):
        changes[encode_key(key)] = _DELETED if value is None else value
        if len(changes) >= _AT_ONCE:
            table.apply(changes, 0)
            changes = {}
    table.apply(changes, applied)


def _differences(found: Iterator[_Pair], expected: Iterator[_Pair], *, is_whole: bool) -> Iterator[tuple[bytes, bool]]:
    """Yield keys that differ, and whether both have a value.

    Args:
        found: keys and values of the table, in order.
        expected: those that the log says, in order.
        is_whole: whether the log says all.
    """
    here, there = next(found, None), next(expected, None)
    while here is not None or there is not None:
        if there is None or (here is not None and here[0] < there[0]):
            assert here is not None
            if is_whole or not _is_sound(here):
                yield here[0], False
            here = next(found, None)
        elif here is None or there[0] < here[0]:
            if there[1] != _DELETED:
                yield there[0], False
            there = next(expected, None)
        else:
            if here[1] != there[1]:
                yield here[0], there[1] != _DELETED
            here, there = next(found, None), next(expected, None)


def _is_sound(pair: _Pair) -> bool:
    """Return whether a key and a value can be read."""
    try:
        decode_key(pair[0])
        loads_exactly(pair[1])
    except (ValueError, struct.error):
        return False
    return True


def _shown(key: bytes) -> str:
    try:
        return repr(decode_key(key))
    except (ValueError, struct.error):
        return repr(key)
