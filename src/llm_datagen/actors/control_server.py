"""The control server: answers at the control socket of a run.

One thread takes connections and reads requests, of all clients at once: a silent client blocks no other. A few
others pass the commands on to the pipeline's actor, and wait for its answers.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pykka

from llm_datagen.errors import ConfigError, ControlError, DiskError
from llm_datagen.messages import Cancel, GetStatus, Pause, Reconfigure, Reconfigured, Unpause
from llm_datagen.runs import RunFolder
from llm_datagen.runs.control_client import MOST_BYTES, not_inherited, open_socket
from llm_datagen.streams.formats.json_text import dumps, loads_exactly

_COMMANDS: dict[str, type[Any]] = {
    "pause": Pause,
    "unpause": Unpause,
    "reconfigure": Reconfigure,
    "cancel": Cancel,
    "status": GetStatus,
}

_CLIENT_SECONDS = 2.0
"""How long a client may take to say what it wants, and to take the answer."""

_MOST_CLIENTS = 64
"""Connections at once whose request has not come; for a further one, the oldest is closed."""

_ANSWERING = 4
"""Requests that are answered at once."""

_ANSWER_SECONDS = 5.0
_SLICE_SECONDS = 0.05

Ref = Callable[[], "pykka.ActorRef[Any] | None"]


class _Clients:
    """Clients whose request has not come as a whole. Used by one thread."""

    def __init__(self) -> None:
        self._since: dict[socket.socket, float] = {}  # the oldest first
        self._read: dict[socket.socket, bytes] = {}

    @property
    def waiting(self) -> list[socket.socket]:
        """Their connections."""
        return list(self._since)

    def add(self, connection: socket.socket) -> None:
        """Take a client; when there are too many, the oldest goes."""
        not_inherited(connection)
        connection.setblocking(False)
        if len(self._since) >= _MOST_CLIENTS:
            self._drop(next(iter(self._since)))
        self._since[connection], self._read[connection] = time.monotonic(), b""

    def read(self, connection: socket.socket) -> bytes | None:
        """Read what has come; return the request when it is whole, and leave the connection to the caller then."""
        if connection not in self._since:  # it was dropped, or is what wakes the thread
            return None
        try:
            more = connection.recv(4096)
        except BlockingIOError:
            return None
        except OSError:
            more = b""
        line = self._read[connection] + more
        self._read[connection] = line
        if line.endswith(b"\n"):
            del self._since[connection], self._read[connection]
            return line
        if not more or len(line) > MOST_BYTES:
            self._drop(connection)
        return None

    def patience(self) -> float | None:
        """Return the seconds until the oldest has had its time; None when there is none."""
        oldest = next(iter(self._since.values()), None)
        return None if oldest is None else max(0.0, oldest + _CLIENT_SECONDS - time.monotonic())

    def drop_late(self) -> None:
        """Close the connections that have had their time."""
        now = time.monotonic()
        for connection, since in list(self._since.items()):
            if since + _CLIENT_SECONDS <= now:
                self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        del self._since[connection], self._read[connection]
        connection.close()

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._since):
            self._drop(connection)


class ControlServer:
    """Answers other processes of the same user for the time of a run.

    Args:
        folder: the run's folder, locked.
        listening: the socket.
        path: where it lies.
        ref: returns the pipeline's actor, once there is one.
    """

    def __init__(self, folder: RunFolder, listening: socket.socket, path: str, ref: Ref) -> None:
        self._pipeline_id = folder.pipeline_id
        self._token = folder.lock.token
        self._listening = listening
        self._path = Path(path)
        self._ref = ref
        self._is_ending = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._pool = ThreadPoolExecutor(_ANSWERING, "datagen-control-answer")
        self._thread = threading.Thread(target=self._serve, name="datagen-control", daemon=True)

    @classmethod
    def open(cls, folder: RunFolder, ref: Ref) -> Self | None:
        """Begin to answer; None when no socket can be made, or nobody can be told where it is.

        Then the run goes on without.
        """
        opened = open_socket(folder)
        if opened is None:
            return None
        server = cls(folder, *opened, ref)
        server._thread.start()
        try:
            folder.lock.note_control(opened[1])
        except DiskError:
            server.close()
            return None
        except BaseException:
            server.close()
            raise
        return server

    def close(self) -> None:
        """Answer no more; the socket's file is removed. Waits for the threads, which stop waiting for anything."""
        self._is_ending.set()
        self._wake.send(b"x")
        self._thread.join()
        self._pool.shutdown()
        for end in (self._listening, self._wake, self._woken):
            end.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _serve(self) -> None:
        """Take connections, and what comes through them, without waiting for any of them."""
        with contextlib.closing(_Clients()) as clients:
            while not self._is_ending.is_set():
                ready = select.select([self._listening, self._woken, *clients.waiting], [], [], clients.patience())[0]
                if self._is_ending.is_set():
                    return
                for connection in ready:
                    if connection is self._listening:
                        with contextlib.suppress(OSError):  # it is gone
                            clients.add(self._listening.accept()[0])
                    elif (line := clients.read(connection)) is not None:
                        self._pool.submit(self._reply, connection, line)
                clients.drop_late()

    def _reply(self, connection: socket.socket, line: bytes) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(_CLIENT_SECONDS)
            connection.sendall(dumps(self._reply_to(line)) + b"\n")

    def _reply_to(self, line: bytes) -> dict[str, Any]:
        try:
            return {"answer": self._answer(loads_exactly(line))}
        except ConfigError as error:
            return {"error": str(error), "is_config": True}
        except Exception as error:  # noqa: BLE001 - whatever a client sends, the run goes on
            text = str(error) if isinstance(error, ControlError) else repr(error)
            return {"error": text, "is_config": False}

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if (request["pipeline_id"], request["token"]) != (self._pipeline_id, self._token):
            raise ControlError("another run has begun meanwhile: look at it, and try again")
        if request["order"] not in _COMMANDS:
            raise ConfigError(f"there is no command {request['order']!r}; the commands are {', '.join(_COMMANDS)}")
        try:
            message = _COMMANDS[request["order"]](**request["arguments"])
        except TypeError as error:
            raise ConfigError(f"{request['order']}: {error}") from error
        ref = self._ref()
        if ref is None:
            raise ControlError("it is about to start: try again")
        try:
            if isinstance(message, Cancel):
                ref.tell(message)
                return {}
            return _as_dict(self._wait(ref.ask(message, block=False)))
        except pykka.ActorDeadError:
            raise ControlError("it is ending: there is nothing to control any more") from None

    def _wait(self, future: pykka.Future[Any]) -> Any:
        for _ in range(round(_ANSWER_SECONDS / _SLICE_SECONDS)):
            with contextlib.suppress(pykka.Timeout):
                return future.get(timeout=_SLICE_SECONDS)
            if self._is_ending.is_set():
                raise pykka.ActorDeadError
        raise ControlError(f"its actor has not answered in {_ANSWER_SECONDS:g} s")


def _as_dict(answer: Any) -> dict[str, Any]:
    if isinstance(answer, Reconfigured):
        return {
            "node_id": answer.node_id,
            "parallel_size": answer.parallel_size,
            "batch_size": answer.batch_size,
            "rate": answer.rate,
        }
    return {"status": str(answer.status), "paused": answer.paused}
