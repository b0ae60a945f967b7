"""The engine, as a worker process sees it: it gets reports, and answers what only the engine knows."""

from __future__ import annotations

import os
import pickle
import queue
import threading
from collections.abc import Mapping
from typing import Any, NoReturn

from llm_datagen.errors import FatalError, RowFormatError
from llm_datagen.executors.process.channel import Channel
from llm_datagen.executors.process.setup import WorkerSetup
from llm_datagen.executors.processing import CallGate
from llm_datagen.operators.protocols import IState
from llm_datagen.streams.formats.base import Codec, Encoder
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.rows import Rejected


class Engine:
    """The engine's process, as a worker sees it. Any thread may tell; only the main thread asks.

    Args:
        channel: the way to it.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.is_canceling = False
        self.gate = CallGate()
        """What the engine shuts while the run is paused."""

    def listen(self) -> None:
        """Take what comes, on a thread of its own, for as long as this process lives."""
        threading.Thread(target=self._listen, name="datagen-listener", daemon=True).start()

    def _listen(self) -> None:
        try:
            while True:
                message = self._channel.receive()
                if message[0] == "cancel":
                    self.is_canceling = True
                elif message[0] == "pause":
                    self.gate.is_paused = message[1]
                else:
                    if message[0] == "task":
                        self.gate.is_paused = False
                    self._inbox.put(message)
        except (EOFError, OSError):
            os._exit(1)  # the engine has gone: nobody wants what is being done here

    def next(self) -> tuple[Any, ...]:
        """Return the next task or answer; wait for it."""
        return self._inbox.get()

    def tell(self, *message: Any) -> None:
        """Send a message."""
        with self._lock:
            self._channel.send(message)

    def ask(self, *message: Any) -> Any:
        """Send a question and return the answer."""
        self.tell(*message)
        return self.next()[1]


class WorkerContext:
    """The `ctx` of an operator in a worker process. Any thread may use it.

    Args:
        engine: the other end.
        setup: says which node this is.
    """

    def __init__(self, engine: Engine, setup: WorkerSetup) -> None:
        self._engine = engine
        self.node_id = setup.node_id
        self.pipeline_id = setup.pipeline_id
        self.folder = setup.folder

    @property
    def state(self) -> IState:
        """Refuse: there is none in a worker process.

        Raises:
            FatalError: always.
        """
        raise FatalError("operators in worker processes have no ctx.state; leave executor='process' out for this node")

    def report_usage(self, usage: Mapping[str, Any]) -> None:
        """Report what a call used."""
        plain = {
            str(key): int(value) if isinstance(value, int) else float(value) if isinstance(value, float) else str(value)
            for key, value in usage.items()
            if isinstance(value, int | float | str) and not isinstance(value, bool)
        }
        self._engine.tell("usage", plain)

    def reject(self, reason: str) -> NoReturn:
        """Leave out the row of the call that is running, for a reason."""
        raise Rejected(reason)

    def is_cancelled(self) -> bool:
        """Return whether the run is being cancelled."""
        return self._engine.is_canceling

    def is_paused(self) -> bool:
        """Return whether the run is paused."""
        return self._engine.gate.is_paused

    def log(self, message: str, **fields: Any) -> None:
        """Write a line to platform.log and tell the hooks."""
        self._engine.tell("log", str(message), {name: _plain(value) for name, value in fields.items()})


class RemoteSource:
    """The source, which only the engine has open. It is one stream: several are merged on threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def unparsed_id(self, number: int) -> int:
        """Return the id of a record that is no row."""
        return number

    def row_error(self, error: ValueError, offset: int) -> RowFormatError:
        """Return the error that says which line cannot be parsed, and why."""
        return RowFormatError(self._engine.ask("row_error", str(error), offset))


class RemoteAllowance:
    """How many rows may fail, which only the engine knows."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def take(self, rows: int, settled: int) -> bool:
        """Return whether a worker may go on after rows that failed."""
        return bool(self._engine.ask("may_fail", rows, settled))


class FirstRowEncoder:
    """Encodes the first row: what it decides for the file (a header, say) is decided by the engine, for all workers.

    Args:
        engine: the other end.
        codec: the output's format.
    """

    def __init__(self, engine: Engine, codec: Codec) -> None:
        self._engine = engine
        self._codec = codec
        self.settled: Encoder | None = None

    def encode(self, row: dict[str, Any]) -> bytes:
        """Return the record of a row."""
        return self._settle(row).encode(row)

    def encode_other(self, row: dict[str, Any]) -> bytes:
        """Return the record of a row that holds more than plain values."""
        return self._settle(row).encode_other(row)

    def _settle(self, row: dict[str, Any]) -> Encoder:
        if self.settled is None:
            try:
                pickle.dumps(row)
            except Exception:  # noqa: BLE001 - such a row is no row of any format, but may have decided the header
                row = dict.fromkeys(row)
            self.settled = self._codec.encoder(self._engine.ask("first_row", row))
        return self.settled

    def preamble(self) -> bytes:
        """Return what the file begins with, once that is known."""
        return self.settled.preamble() if self.settled else b""


def _plain(value: Any) -> Any:
    try:
        return loads_exactly(dumps(value))
    except TypeError:
        return str(value)
