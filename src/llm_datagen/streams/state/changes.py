"""What rows have changed of a state, on its way from the worker to the writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.state.keys import decode_key

Changes = dict[bytes, tuple[bytes | None]]
"""Keys and their values, encoded; None for a key that was deleted. Each change is a tuple of its own."""


@dataclass(slots=True)
class StateChanges:
    """What the rows of a task have changed.

    Attributes:
        lines: the changes, as the state log has them.
        changes: the keys and their values.
    """

    lines: bytes = field(repr=False)
    changes: Changes = field(repr=False)

    @classmethod
    def of(cls, changes: Changes) -> StateChanges:
        """Return changes with their lines."""
        return cls(b"".join(map(_line, changes.items())), changes)


def joined_changes(several: Sequence[StateChanges]) -> StateChanges | None:
    """Return the changes of several tasks, in their order, as one; None for no task."""
    if len(several) <= 1:
        return several[0] if several else None
    changes: Changes = {}
    for each in several:
        changes |= each.changes
    return StateChanges(b"".join(each.lines for each in several), changes)


def _line(change: tuple[bytes, tuple[bytes | None]]) -> bytes:
    key, (value,) = change
    name = dumps(decode_key(key))
    return b"[%s]\n" % name if value is None else b"[%s,%s]\n" % (name, value)
