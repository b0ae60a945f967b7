"""What the tests of actors share: desks that take reports, threads to the side, a stepped clock, disks that fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
import pykka
import pytest
from pykka._envelope import Envelope

from llm_datagen import messages
from llm_datagen.actors.mailbox import Mailbox
from llm_datagen.actors.stage import Stage
from llm_datagen.messages import Bulk, Write, Writes
from llm_datagen.streams import Block, Stream
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.storage.base import AppendFile, ReadFile, Storage
from llm_datagen.streams.storage.memory import MemoryStorage
from llm_datagen.testing import ManualClock

from .support import PATIENCE_SECONDS

HANG_SECONDS = 60
"""A test that takes longer hangs. (They take milliseconds, but the machine may be busy.)"""

T = TypeVar("T")

# --- threads to the side -----------------------------------------------------------------------------------------

_ASIDE = "aside-"


def aside(func: Callable[..., T], *args: Any) -> Future[T]:
    """Run `func` in a thread of its own; a test fails when it leaves one behind."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(func(*args))
        except BaseException as error:  # noqa: BLE001 - it is the result
            future.set_exception(error)

    threading.Thread(target=run, name=f"{_ASIDE}{getattr(func, '__name__', 'call')}", daemon=True).start()
    return future


def result_of(future: Future[T]) -> T:
    """Return the result of something that must not take long."""
    return future.result(PATIENCE_SECONDS)


def error_of(future: Future[Any]) -> BaseException | None:
    """Return the error of something that must not take long."""
    return future.exception(PATIENCE_SECONDS)


def no_aside_left() -> None:
    """Fail if a side thread is left: it is blocked on something of ours."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for thread in threading.enumerate():
        if thread.name.startswith(_ASIDE):
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} is blocked"


# --- recipients --------------------------------------------------------------------------------------------------


class Desk:
    """Stands for an actor that is told things, and keeps them."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self._changed = threading.Condition()

    def tell(self, message: Any) -> None:
        """Take a message; any thread may call it."""
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def of(self, kind: type[T]) -> list[T]:
        """Return the messages of one kind, in the order in which they came."""
        with self._changed:
            return [message for message in self.messages if isinstance(message, kind)]

    def wait_for(self, kind: type[T], count: int = 1) -> list[T]:
        """Wait until `count` messages of a kind have come, and return them."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while len(found := [message for message in self.messages if isinstance(message, kind)]) < count:
                left = deadline - time.monotonic()
                assert left > 0, f"{len(found)} of {count} {kind.__name__} have come: {self.messages}"
                self._changed.wait(left)
            return found


class DeadDesk:
    """Stands for an actor that has ended."""

    def tell(self, message: Any) -> None:
        """Refuse."""
        raise pykka.ActorDeadError("dead")


class FakeWriter:
    """Stands for a writer's ref: a mailbox, which the test reads."""

    def __init__(self, capacity: int = 1_000_000) -> None:
        self.actor_inbox = Mailbox()
        self.waiting = threading.Semaphore(0)
        self.actor_inbox.bound(capacity, lambda waited, _: self.waiting.release() if waited is None else None)
        self.is_dead = False

    def is_alive(self) -> bool:
        return not self.is_dead

    def tell(self, message: Any) -> None:
        if self.is_dead:
            raise pykka.ActorDeadError("dead")
        self.actor_inbox.put(Envelope(message))

    def die(self) -> None:
        """Die as a stage does."""
        self.is_dead = True
        self.actor_inbox.close()

    def taken(self) -> list[Any]:
        """Take out all that has come; writes that came in one message, one by one."""
        found: list[Any] = []
        while not self.actor_inbox.empty():
            message = self.actor_inbox.get().message
            found += message.writes if isinstance(message, Writes) else [message]
        return found

    def writes(self) -> list[Write]:
        """Take out all that has come: writes, and nothing else."""
        found = self.taken()
        assert all(isinstance(message, Write) for message in found)
        return found


class Log:
    """A platform log in memory."""

    path = None

    def __init__(
        self, lines: list[tuple[str, dict[str, Any]]] | None = None, bound: dict[str, Any] | None = None
    ) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = [] if lines is None else lines
        self._bound = bound or {}

    def info(self, event: str, **fields: Any) -> None:
        """Take a line."""
        self.lines.append((event, {**self._bound, **fields}))

    warning = error = info

    def bind(self, **fields: Any) -> Log:
        """Return a log that adds fields."""
        return Log(self.lines, {**self._bound, **fields})

    def close(self) -> None:
        """Do nothing."""

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of an event's lines."""
        return [fields for found, fields in self.lines if found == event]

    @property
    def text(self) -> str:
        """All of it."""
        return repr(self.lines)


# --- time ----------------------------------------------------------------------------------------------------------


class SteppingClock(ManualClock):
    """A manual clock that knows who waits, so that a test can wait until an actor has nothing left to do."""

    def __init__(self) -> None:
        super().__init__()
        self._asleep: dict[threading.Condition, float | None] = {}
        self._changed = threading.Condition()

    def wait_until(self, condition: threading.Condition, deadline: float | None) -> None:
        """Wait, and let it be known."""
        with self._changed:
            self._asleep[condition] = deadline
            self._changed.notify_all()
        try:
            super().wait_until(condition, deadline)
        finally:
            with self._changed:
                self._asleep.pop(condition, None)

    def settle(self, ref: pykka.ActorRef[Any]) -> float | None:
        """Wait until an actor has handled all that it was sent, and waits; return when its next timer is due."""
        inbox = ref.actor_inbox
        assert isinstance(inbox, Mailbox)
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while True:
                # In this order: what is no longer in the mailbox was taken out by a thread that does not wait.
                if inbox.empty() and inbox._readable in self._asleep:
                    due = self._asleep[inbox._readable]
                    if due is None or due > self.monotonic():
                        return due
                assert ref.is_alive(), "the actor has ended"
                assert time.monotonic() < deadline, "the actor does not come to rest"
                self._changed.wait(0.005)

    def step(self, ref: pykka.ActorRef[Any], seconds: float) -> float | None:
        """Move on, and wait until an actor has done what was due."""
        self.advance(seconds)
        return self.settle(ref)


def go_by(clock: ManualClock, kind: type[Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every actor of a kind that is started in the test go by a clock."""

    def create() -> Mailbox:
        mailbox = Mailbox()
        mailbox.clock = clock
        return mailbox

    monkeypatch.setattr(kind, "_create_actor_inbox", staticmethod(create))


# --- messages and rows ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load(Bulk):
    """Some rows."""

    rows: int
    name: Any = None

    @property
    def load(self) -> messages.Load:
        """What it counts for."""
        return messages.Load(self.rows, 0)


def put(mailbox: Mailbox, message: Any, reply_to: pykka.Future[Any] | None = None) -> None:
    """Put a message."""
    mailbox.put(Envelope(message, reply_to))


def got(mailbox: Mailbox) -> Any:
    """Return the next message."""
    return mailbox.get().message


def block_of(values: Iterable[Any], start: int = 0, offset: int = 0) -> Block:
    """Return values as a block of JSON lines."""
    records = [orjson.dumps(value) for value in values]
    return Block(records, start, offset, offset + sum(map(len, records)) + len(records), None, orjson.loads)


def stream_on(storage: Storage, path: str = "out.jsonl") -> Stream:
    """Return the stream of JSON lines at `path` on `storage`."""
    stream = Stream(path)
    stream.storage = storage
    stream.codec = JsonlCodec()
    return stream


# --- disks ---------------------------------------------------------------------------------------------------------


class DiskFullError(OSError):
    """There is no space left on the device."""


@dataclass
class FailingStorage:
    """A disk in memory whose appends can be made to fail, or to wait; and closes, too."""

    inner: MemoryStorage = field(default_factory=MemoryStorage)
    is_full: bool = False
    appended: int = 0
    gate: threading.Event | None = None
    """An append waits for it."""
    at_gate: threading.Event = field(default_factory=threading.Event)
    on_close: Callable[[], None] | None = None

    def size(self, path: str) -> int | None:
        return self.inner.size(path)

    def open_read(self, path: str) -> ReadFile:
        return self.inner.open_read(path)

    def open_append(self, path: str) -> AppendFile:
        return _FailingFile(self, self.inner.open_append(path))

    def read_all(self, path: str) -> bytes | None:
        return self.inner.read_all(path)

    def replace(self, path: str, data: bytes, *, sync: bool) -> None:
        self.inner.replace(path, data, sync=sync)

    def remove(self, path: str) -> None:
        self.inner.remove(path)


class _FailingFile:
    def __init__(self, storage: FailingStorage, file: AppendFile) -> None:
        self._storage = storage
        self._file = file

    def append(self, data: bytes) -> None:
        if self._storage.gate is not None:
            self._storage.at_gate.set()
            assert self._storage.gate.wait(PATIENCE_SECONDS)
        if self._storage.is_full:
            raise DiskFullError("no space left on the device")
        self._storage.appended += 1
        self._file.append(data)

    def truncate(self, length: int) -> None:
        self._file.truncate(length)

    def sync(self) -> None:
        self._file.sync()

    def begin_sync(self, offset: int, length: int) -> None:
        self._file.begin_sync(offset, length)

    def close(self) -> None:
        self._file.close()
        if self._storage.on_close is not None:
            self._storage.on_close()
