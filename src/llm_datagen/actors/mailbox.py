"""The mailbox: an actor's inbox with two lanes, a bound, and timers.

Pykka asks an inbox for three methods: `put`, `get`, `empty`. This one adds:

**Two lanes.** Messages that are `Bulk` (they carry rows) wait in the data lane, in order. All others are control:
they never block and are served first. So Cancel overtakes any amount of data, and the end of data, being Bulk with
no rows, does not.

**A bound in rows, and one in bytes.** What was put and not yet `release`d is outstanding. A put that would exceed a
bound blocks its thread, first come, first served. One message larger than the bound is admitted when nothing is
outstanding.

**Timers.** `wake_after` delivers a message to the actor itself after some seconds, without a thread; a later call
for the same key replaces an earlier one, so no stale timer is ever seen.

**Closing.** `close()` frees every blocked put, at once. A put on a closed mailbox fails the message's reply if it
has one, and raises `ActorEndedError` if it has not. Nothing that was put counts as delivered until its receiver
has said so.

Any thread may call `put`, `close` and the properties; only the actor's own thread calls `get`, `put_first` and
`wake_after`.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pykka._envelope import Envelope

from llm_datagen.actors.clock import Clock, SystemClock
from llm_datagen.actors.refs import refuse
from llm_datagen.messages import Bulk, Load
from llm_datagen.streams.storage.waiting import Interrupt

WaitListener = Callable[[float | None, int], None]
"""Called by a thread that is blocked, outside the mailbox's lock: with None when it begins to wait, with the seconds
waited when it goes on; and the rows outstanding at that moment."""


_NOTHING = Load(0, 0)


class Mailbox:
    """An inbox for `pykka.Actor`. See the module's text."""

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()
        """What the timers go by; may be replaced before the mailbox is used."""
        self._lock = threading.Lock()
        self._readable = threading.Condition(self._lock)
        self._writable = threading.Condition(self._lock)
        self._control: deque[Envelope[Any]] = deque()
        self._data: deque[Envelope[Any]] = deque()
        self._blocked: deque[object] = deque()
        self._timers: dict[str, tuple[float, Any]] = {}
        self._capacity: Load | None = None
        self._outstanding = _NOTHING
        self._closed = False
        self._on_wait: WaitListener | None = None
        self.thread: threading.Thread | None = None
        """The thread of the actor that reads this mailbox; set when it is started."""
        self.interrupt = Interrupt()
        """What cuts short the waits of that thread, for a store or a hub."""
        self.current: Envelope[Any] | None = None
        """The message that is being handled; for the actor's own thread."""

    def bound(self, rows: int, on_wait: WaitListener | None = None, *, size: int = sys.maxsize) -> None:
        """Set how many rows, and how many bytes, may be outstanding; `on_wait` is called when a thread has to wait."""
        self._capacity = Load(rows, size)
        self._on_wait = on_wait

    def exceeds_bound(self, load: Load) -> bool:
        """Return whether so much is more than may be outstanding; it is let in when it is one message, and alone."""
        capacity = self._capacity
        return capacity is not None and (load.rows > capacity.rows or load.bytes > capacity.bytes)

    @property
    def outstanding(self) -> int:
        """Rows put and not yet released."""
        return self._outstanding.rows

    @property
    def has_data(self) -> bool:
        """Whether a message is waiting in the data lane."""
        return bool(self._data)

    def put(self, envelope: Envelope[Any]) -> None:
        """Add a message; blocks when it is Bulk and there is no room.

        Raises:
            ActorEndedError: when the mailbox is, or while waiting becomes, closed (and nobody awaits a reply).
        """
        message = envelope.message
        load = message.load if isinstance(message, Bulk) else None
        waited: float | None = None
        with self._lock:
            if load is not None and load.rows and not self._has_room(load):
                waited = self._wait_for_room(load)
            is_closed = self._closed
            if not is_closed:
                if load is None:
                    self._control.append(envelope)
                else:
                    self._count_in(load)
                    self._data.append(envelope)
                self._readable.notify()
            outstanding = self._outstanding.rows
        if waited is not None and self._on_wait is not None:
            self._on_wait(waited, outstanding)
        if is_closed:
            refuse(envelope)

    def offer(self, envelope: Envelope[Any]) -> bool:
        """Add a Bulk message if there is room for it now; return whether it was added. Never blocks.

        Raises:
            ActorEndedError: when the mailbox is closed (and nobody awaits a reply).
        """
        load = envelope.message.load
        with self._lock:
            if not self._closed:
                if not self._has_room(load):
                    return False
                self._count_in(load)
                self._data.append(envelope)
                self._readable.notify()
                return True
        refuse(envelope)
        return True

    def _count_in(self, load: Load) -> None:
        self._outstanding = Load(self._outstanding.rows + load.rows, self._outstanding.bytes + load.bytes)

    def _has_room(self, load: Load) -> bool:
        return self._closed or self._capacity is None or (not self._blocked and self._fits(load, self._capacity))

    def _fits(self, load: Load, capacity: Load) -> bool:
        outstanding = self._outstanding
        is_within = outstanding.rows + load.rows <= capacity.rows and outstanding.bytes + load.bytes <= capacity.bytes
        return outstanding == _NOTHING or is_within

    def _wait_for_room(self, load: Load) -> float:
        """Wait, holding the lock, behind those who wait already; return the seconds waited."""
        assert self._capacity is not None
        started = self.clock.monotonic()
        ticket = object()
        self._blocked.append(ticket)
        try:
            if self._on_wait is not None:
                outstanding = self._outstanding.rows
                self._lock.release()
                try:
                    self._on_wait(None, outstanding)
                finally:
                    self._lock.acquire()
            while not self._closed:
                is_first = self._blocked[0] is ticket
                if is_first and self._fits(load, self._capacity):
                    break
                self._writable.wait()
        finally:
            self._blocked.remove(ticket)
            self._writable.notify_all()  # the next one is first now
        return self.clock.monotonic() - started

    def put_first(self, envelopes: Sequence[Envelope[Any]]) -> None:
        """Add control messages before all that wait, in their order: the actor had put them off."""
        with self._lock:
            self._control.extendleft(reversed(envelopes))

    def release(self, rows: int, size: int = 0) -> None:
        """Count rows and bytes as no longer outstanding: there is room for others."""
        if rows or size:
            with self._lock:
                self._outstanding = Load(self._outstanding.rows - rows, self._outstanding.bytes - size)
                self._writable.notify_all()

    def wake_after(self, seconds: float, message: Any, key: str = "") -> None:
        """Deliver `message` after `seconds`, as control, in place of an earlier timer of the same `key`."""
        with self._lock:
            self._timers[key] = (self.clock.monotonic() + seconds, message)

    def cancel_wake(self, key: str = "") -> None:
        """Forget the timer `key`, if there is one."""
        with self._lock:
            self._timers.pop(key, None)

    def get(self) -> Envelope[Any]:
        """Return the next message: control, then timers that are due, then data. Blocks until there is one."""
        with self._lock:
            while True:
                self.current = self._next()
                if self.current is not None:
                    return self.current
                deadline = min((at for at, _ in self._timers.values()), default=None)
                self.clock.wait_until(self._readable, deadline)

    def _next(self) -> Envelope[Any] | None:
        if self._control:
            return self._control.popleft()
        due = self._due_timer()
        if due is not None:
            return Envelope(due)
        return self._data.popleft() if self._data else None

    def _due_timer(self) -> Any | None:
        if not self._timers:
            return None
        key = min(self._timers, key=lambda name: self._timers[name][0])
        at, message = self._timers[key]
        if at > self.clock.monotonic():
            return None
        del self._timers[key]
        return message

    def empty(self) -> bool:
        """Return whether no message waits (timers do not count)."""
        return not self._control and not self._data

    def close(self) -> None:
        """Refuse every further message and free every blocked put. What is in the mailbox can still be got."""
        with self._lock:
            self._closed = True
            self._timers.clear()
            self._writable.notify_all()
