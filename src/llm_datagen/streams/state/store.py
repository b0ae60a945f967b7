"""The state of a node: keys and values that an operator keeps from row to row, committed with the rows.

A change counts if and only if the commit of its row does. What rows have changed goes with them to the writer, which
appends it to the state log (`log`) and says in the commit how long that is. So a crash that takes rows back takes their
changes back, too.

Three places hold the state while a node runs. What the call that is being made has changed; what calls before it have
changed, in memory; and what is on the medium, in a table (`table`), which takes changes over in larger pieces. After a
crash the table is brought to the last commit from the log. The log is shortened when the table, on the medium, has
what it says.

The worker calls `begin`, `keep` and `take`, and the operator's own methods, one call at a time. The writer calls
`append`, `committed` and `durable`.
"""

from __future__ import annotations

import heapq
import zlib
from collections import deque
from collections.abc import Iterator
from typing import Any

from llm_datagen.errors import StreamChangedError, StreamCorruptError
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.formats.json_values import has_non_finite
from llm_datagen.streams.location import StreamFiles
from llm_datagen.streams.state.changes import Changes, StateChanges
from llm_datagen.streams.state.keys import Key, decode_key, encode_key
from llm_datagen.streams.state.log import StateLog
from llm_datagen.streams.state.table import StateTable, applied_of
from llm_datagen.streams.storage.local import LocalStorage

APPLY_BYTES = 4 << 20
"""Changes are taken over by the table when they are so many bytes of the log: about twenty times that in memory."""

SHORTEN_BYTES = 64 << 20
"""The log is shortened when so many of its bytes are in the table."""

_CATCH_UP_KEYS = 100_000


class StateStore:
    """The state of a node, opened and brought to the last commit.

    Args:
        stream: the stream that the node writes.
        mark: what its last commit says of the state; None when there was none yet.

    Raises:
        StreamError: when the state cannot be gone on with.
        DiskError: when the disk refuses.
    """

    def __init__(self, stream: StreamFiles, mark: list[int] | None) -> None:
        self._end, self._crc = mark or (0, 0)
        self._may_shorten = isinstance(stream.storage, LocalStorage)
        if mark is None:
            for path in (stream.state_path, *stream.state_table_paths):
                stream.storage.remove(path)
        else:
            check_state(stream, mark)
        self._log = StateLog(stream.storage, stream.state_path)
        self._log.cut(self._end, self._crc)
        self._table = StateTable(stream.state_table_paths[0] if self._may_shorten else None)
        self._call: Changes = {}
        self._kept: Changes = {}
        """What calls have changed, and the table does not have yet."""
        self._new: Changes = {}
        """What calls have changed since the last `take`."""
        self._committed: deque[tuple[int, Changes]] = deque()
        """What was committed, and the table does not have yet, with the end of it in the log."""
        self.durable = self._end
        """The byte of the log up to which it, and the commits that speak of it, are on the medium."""
        self._droppable = self._log.begin
        """The byte of the log up to which nobody needs it: the table has it, on the medium."""
        self._catch_up()

    def _catch_up(self) -> None:
        """Bring the table to the last commit."""
        begin = self._table.applied
        if begin == self._end:
            return
        changes: dict[bytes, bytes | None] = {}
        for key, value in self._log.changes(begin, self._end):
            changes[encode_key(key)] = value
            if len(changes) >= _CATCH_UP_KEYS:  # when cut short, it begins anew: a change may be taken twice
                self._table.apply(changes, begin)
                changes = {}
        self._table.apply(changes, self._end)

    # The worker's part.

    def begin(self) -> None:
        """Begin a call: forget what a call that failed has changed."""
        if self._call:
            self._call = {}
        if self.durable - self._table.applied >= APPLY_BYTES:
            self._apply()

    def keep(self) -> None:
        """End a call whose results count."""
        if self._call:
            self._kept |= self._call
            self._new |= self._call
            self._call = {}

    def take(self) -> StateChanges | None:
        """Return what calls have changed since this was last asked; None for nothing."""
        if not self._new:
            return None
        changes, self._new = self._new, {}
        return StateChanges.of(changes)

    def _apply(self) -> None:
        """Have the table take over what is on the medium."""
        changes: Changes = {}
        end = self._table.applied
        while self._committed and self._committed[0][0] <= self.durable:
            end, committed = self._committed.popleft()
            changes |= committed
        self._table.apply({key: value for key, (value,) in changes.items()}, end)
        for key, change in changes.items():
            if self._kept.get(key) is change:  # it was not changed again
                del self._kept[key]
        if self._may_shorten and end - self._log.begin >= SHORTEN_BYTES:
            self._table.sync()
            self._droppable = end

    # The operator's part.

    def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of a key; `default` when there is none.

        Raises:
            TypeError, ValueError: when it cannot be a key.
        """
        found = self._find(encode_key(key))
        return default if found is None else loads_exactly(found)

    def __getitem__(self, key: Key) -> Any:
        """Return the value of a key.

        Raises:
            KeyError: when there is none.
        """
        found = self._find(encode_key(key))
        if found is None:
            raise KeyError(key)
        return loads_exactly(found)

    def __contains__(self, key: Key) -> bool:
        """Return whether there is a value."""
        return self._find(encode_key(key)) is not None

    def __setitem__(self, key: Key, value: Any) -> None:
        """Set a value: anything that JSON has.

        Raises:
            TypeError, ValueError: when it cannot be a key, or a value.
        """
        data = bytes(memoryview(dumps(value)))  # a copy: orjson's buffer is kilobytes
        if b"null" in data and has_non_finite(value):
            raise ValueError(f"the value of {key!r} holds NaN or an infinity, which JSON has no number for; take None")
        self._call[encode_key(key)] = (data,)

    def __delitem__(self, key: Key) -> None:
        """Delete a key.

        Raises:
            KeyError: when it is not there.
        """
        encoded = encode_key(key)
        if self._find(encoded) is None:
            raise KeyError(key)
        self._call[encoded] = (None,)

    def items(self, *first: str | int) -> Iterator[tuple[Key, Any]]:
        """Yield keys and values in the order of the keys; what is changed meanwhile may be among them or not.

        Args:
            first: the parts that the keys begin with; none for all keys.
        """
        begin = encode_key(first) if first else b""
        end = begin + b"\xff" if first else None
        changed = sorted(
            (key, 0, value)
            for key, (value,) in (self._kept | self._call).items()
            if key >= begin and (end is None or key < end)
        )
        in_table = ((key, 1, value) for key, value in self._table.items(begin, end))
        last = b""
        for key, _, value in heapq.merge(changed, in_table, key=lambda item: item[:2]):
            if key != last and value is not None:  # of a key that is in both, the change comes first: it counts
                yield decode_key(key), loads_exactly(value)
            last = key

    def _find(self, key: bytes) -> bytes | None:
        change = self._call.get(key) or self._kept.get(key)
        return self._table.get(key) if change is None else change[0]

    # The writer's part.

    def append(self, changes: StateChanges, *, sync: bool) -> None:
        """Add changes to the log, and with `sync` put it on the medium; the next commit speaks of them."""
        self._log.append(changes.lines)
        if sync:
            self._log.sync()
        self._end += len(changes.lines)
        self._crc = zlib.crc32(changes.lines, self._crc)

    @property
    def mark(self) -> list[int]:
        """What a commit says of the state."""
        return [self._end, self._crc]

    def committed(self, changes: StateChanges) -> None:
        """Record that changes were committed."""
        self._committed.append((self._end, changes.changes))

    @property
    def is_sync_due(self) -> bool:
        """Whether much of the log is not known to be on the medium."""
        return self._end - self.durable >= APPLY_BYTES

    def sync(self) -> None:
        """Return when the log is on the medium."""
        self._log.sync()

    def synced(self) -> None:
        """Record that the log, and the commits, are on the medium; then drop what nobody needs of the log."""
        self.durable = self._end
        if self._droppable > self._log.begin:
            self._log.drop_before(self._droppable, self._end)

    def close(self) -> None:
        """Close the files. May be called more than once."""
        self._log.close()
        self._table.close()


def check_state(stream: StreamFiles, mark: list[int]) -> None:
    """Check that the state which a commit speaks of is there. Only reads.

    Raises:
        StreamChangedError, StreamCorruptError: when it is not.
    """
    end, crc = mark
    log = StateLog(stream.storage, stream.state_path)
    log.check(end, crc)
    path = stream.state_table_paths[0]
    applied = applied_of(path) if isinstance(stream.storage, LocalStorage) else None
    if (applied or 0) < log.begin:
        what = "is gone" if applied is None else f"has the changes up to byte {applied}"
        raise StreamChangedError(
            f"{path} {what}, and {stream.state_path} begins at byte {log.begin}: the state is lost; restore the "
            "file, or start afresh with if_exists='overwrite'"
        )
    if applied is not None and applied > end:
        raise StreamCorruptError(
            f"{path} has changes up to byte {applied}, and only {end} were committed; restore the files of the "
            "stream, or start afresh with if_exists='overwrite'"
        )
