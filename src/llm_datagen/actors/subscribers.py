"""Subscribers: who is told which events."""

from __future__ import annotations

from collections.abc import Sequence

from llm_datagen.actors.stage import Recipient, tell
from llm_datagen.messages import Event


class Subscribers:
    """Who gets which events. Used by one thread, but for `want`."""

    def __init__(self) -> None:
        self._known: list[tuple[Recipient, tuple[type, ...]]] = []

    def add(self, ref: Recipient, kinds: Sequence[type] = ()) -> None:
        """Tell `ref` from now on; with `kinds`, only events of these classes."""
        self._known.append((ref, tuple(kinds)))

    def want(self, *wanted: type) -> bool:
        """Return whether anybody hears of events of one of these classes. Any thread may ask."""
        return any(not kinds or any(issubclass(each, kinds) for each in wanted) for _, kinds in self._known)

    def publish(self, event: Event) -> None:
        """Tell `event` to all who subscribe to it. Who cannot be told is removed."""
        self._known = [(ref, kinds) for ref, kinds in self._known if _told(ref, kinds, event)]


def _told(ref: Recipient, kinds: tuple[type, ...], event: Event) -> bool:
    try:
        return (bool(kinds) and not isinstance(event, kinds)) or tell(ref, event)
    except BaseException:  # noqa: BLE001 - foreign code: a subscriber that cannot be told is removed
        return False
