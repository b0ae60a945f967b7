"""A worker process: what runs in it. Its other end is `processes.Worker`.

It gets one task at a time and answers it. Between the two it may send usage and log lines, and ask for what only the
engine's own process knows. A second thread listens to the engine: it takes note of a cancel while a call runs, and
ends this process at once when the engine has gone.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import orjson

from llm_datagen.config import FailurePolicy, IdScheme
from llm_datagen.errors import FailureRecord, RemoteError, RowFormatError
from llm_datagen.executors.channel import Channel
from llm_datagen.executors.done import Done
from llm_datagen.executors.transport import pack_error
from llm_datagen.executors.work import Kernel
from llm_datagen.operators import Call
from llm_datagen.streams import Block
from llm_datagen.streams.codec import Codec, Encoder

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl+C goes to every process of a terminal, and SIGTERM to every process of a service: the engine decides."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What a worker needs to know, sent once.

    Attributes:
        sys_path: where modules are looked for.
        packed: the operator, and the codec of the output.
        node_id: the node's id.
        pipeline_id: the pipeline's id.
        folder: where the operator may keep files of its own.
        batch_size, id_scheme, is_root, policy, slice_seconds: as in `Kernel`.
    """

    sys_path: list[str]
    packed: bytes
    node_id: str
    pipeline_id: str
    folder: Path | None
    batch_size: int
    id_scheme: IdScheme
    is_root: bool
    policy: FailurePolicy
    slice_seconds: float

    @classmethod
    def of(cls, kernel: Kernel, packed: bytes, policy: FailurePolicy, slice_seconds: float) -> Self:
        """Return what a worker needs to know to do what `kernel` does."""
        return cls(
            sys_path=list(sys.path),
            packed=packed,
            node_id=kernel.ctx.node_id,
            pipeline_id=kernel.ctx.pipeline_id,
            folder=kernel.ctx.folder,
            batch_size=kernel.step,
            id_scheme=kernel.id_scheme,
            is_root=kernel.is_root,
            policy=policy,
            slice_seconds=slice_seconds,
        )


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
        self.is_held = False
        self.kernel: Kernel | None = None
        """What begins no call while it is held."""

    def listen(self) -> None:
        """Take what comes, on a thread of its own, for as long as this process lives."""
        threading.Thread(target=self._listen, name="datagen-listener", daemon=True).start()

    def _listen(self) -> None:
        try:
            while True:
                message = self._channel.receive()
                if message[0] == "cancel":
                    self.is_canceling = True
                elif message[0] == "hold":
                    self._hold(message[1])
                else:
                    if message[0] == "task":
                        self._hold(False)
                    self._inbox.put(message)
        except (EOFError, OSError):
            os._exit(1)  # the engine has gone: nobody wants what is being done here

    def _hold(self, is_held: bool) -> None:
        self.is_held = is_held
        if self.kernel is not None:
            self.kernel.is_held = is_held

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
        equipment: says which node this is.
    """

    def __init__(self, engine: Engine, equipment: Equipment) -> None:
        self._engine = engine
        self.node_id = equipment.node_id
        self.pipeline_id = equipment.pipeline_id
        self.folder = equipment.folder

    def report_usage(self, usage: Mapping[str, Any]) -> None:
        """Report what a call used."""
        plain = {
            str(key): int(value) if isinstance(value, int) else float(value) if isinstance(value, float) else str(value)
            for key, value in usage.items()
            if isinstance(value, int | float | str) and not isinstance(value, bool)
        }
        self._engine.tell("usage", plain)

    def is_cancelled(self) -> bool:
        """Return whether the run is being cancelled."""
        return self._engine.is_canceling

    def is_paused(self) -> bool:
        """Return whether the run is paused."""
        return self._engine.is_held

    def log(self, message: str, **fields: Any) -> None:
        """Write a line to platform.log and tell the hooks."""
        self._engine.tell("log", str(message), {name: _plain(value) for name, value in fields.items()})


class _Source:
    """The source, which only the engine has open. It is one stream: several are merged on threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def unparsed_id(self, number: int) -> int:
        return number

    def row_error(self, error: ValueError, offset: int) -> RowFormatError:
        return RowFormatError(self._engine.ask("row_error", str(error), offset))


class _FirstRowEncoder:
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
        return self._settle(row).encode(row)

    def encode_other(self, row: dict[str, Any]) -> bytes:
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
        return self.settled.preamble() if self.settled else b""


def main() -> None:
    """Be a worker, until the engine says that it is enough, or goes."""
    read_fd, write_fd, parent = map(int, sys.argv[1:])
    for number in SIGNALS:
        # Not SIG_IGN: programs that the operator starts would inherit that.
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for fd in (read_fd, write_fd):
        os.set_inheritable(fd, False)
    _die_with(parent)
    channel = Channel(read_fd, write_fd)
    os.register_at_fork(after_in_child=channel.close)  # a child of the operator must not seem to be this process
    try:
        _serve(channel)
    except BrokenPipeError:
        os._exit(1)  # the engine has gone


def _serve(channel: Channel) -> None:
    engine = Engine(channel)
    equipment: Equipment = channel.receive()
    engine.listen()
    try:
        sys.path[:] = equipment.sys_path
        operator, codec = pickle.loads(equipment.packed)
        kernel, encoder = _kernel(engine, equipment, operator, codec)
        engine.kernel = kernel
        _call(operator, "setup")
    except BaseException as error:  # noqa: BLE001 - whatever it is, the engine hears of it
        engine.tell("failed", FailureRecord.of(error), pack_error(error))
        return
    engine.tell("ready")
    decode: Any = None
    while (message := engine.next())[0] == "task":
        block: Block = message[1]
        if message[2] is not None:
            decode = pickle.loads(message[2])
        block.decode = decode
        done = kernel.run(block)
        engine.tell("done", *_parts(done))
        if kernel.encoder is encoder and encoder.settled is not None:
            kernel.encoder = encoder.settled
        del message, block, done
    failure: tuple[Any, ...] = (None, None)
    try:
        _call(operator, "teardown")
    except BaseException as error:  # noqa: BLE001
        failure = FailureRecord.of(error), pack_error(error)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    engine.tell("ended", *failure)


def _kernel(engine: Engine, equipment: Equipment, operator: Any, codec: Codec) -> tuple[Kernel, _FirstRowEncoder]:
    encoder = _FirstRowEncoder(engine, codec)
    source: Any = _Source(engine)
    kernel = Kernel(
        Call(operator),
        source=source,
        encoder=encoder,
        ctx=WorkerContext(engine, equipment),
        batch_size=equipment.batch_size,
        id_scheme=equipment.id_scheme,
        is_root=equipment.is_root,
        policy=equipment.policy,
        slice_seconds=equipment.slice_seconds,
        calls_a_look=4,  # nobody can take rows away from here
    )
    return kernel, encoder


def _call(operator: Any, method: str) -> None:
    found = getattr(operator, method, None)
    if found is not None:
        found()


def _parts(done: Done) -> tuple[Any, ...]:
    """Return a result without what the engine has itself: the rest, and the items that failed."""
    failure, told = done.failure, None
    if failure is not None:
        told = replace(failure, error=RemoteError(), items=[]), pack_error(failure.error), bool(failure.items)
    return replace(done, rest=None, failure=None), done.rest is not None, told


def _plain(value: Any) -> Any:
    try:
        return orjson.loads(orjson.dumps(value))
    except TypeError:
        return str(value)


def _die_with(parent: int) -> None:
    """Have this process killed when the engine dies: at once, also within a call that never lets a thread run."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before that
