"""Who answers at a run's control socket: one thread, which passes orders on to the pipeline's actor."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import orjson
import pykka

from llm_datagen.errors import ConfigError, ControlError
from llm_datagen.messages import Cancel, GetStatus, Pause, Reconfigure, Reconfigured, Unpause
from llm_datagen.runtime import RunFolder
from llm_datagen.runtime.control import open_socket, read_line

_ORDERS: dict[str, type[Any]] = {
    "pause": Pause,
    "unpause": Unpause,
    "reconfigure": Reconfigure,
    "cancel": Cancel,
    "status": GetStatus,
}

_CLIENT_SECONDS = 2.0
"""How long a client may take to say what it wants, and to take the answer: others wait meanwhile."""

_ANSWER_SECONDS = 5.0
_SLICE_SECONDS = 0.05

Ref = Callable[[], "pykka.ActorRef[Any] | None"]


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
        self._token = folder.token
        self._listening = listening
        self._path = Path(path)
        self._ref = ref
        self._is_ending = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="datagen-control", daemon=True)

    @classmethod
    def open(cls, folder: RunFolder, ref: Ref) -> Self | None:
        """Begin to answer; None when no socket can be made: then the run goes on without.

        Raises:
            DiskError: when `owner.json` cannot be written.
        """
        opened = open_socket(folder)
        if opened is None:
            return None
        server = cls(folder, *opened, ref)
        server._thread.start()
        try:
            folder.note_control(opened[1])
        except BaseException:
            server.close()
            raise
        return server

    def close(self) -> None:
        """Answer no more; the socket's file is removed. Waits for the thread: for a client at most some seconds."""
        self._is_ending.set()
        self._wake.send(b"x")
        self._thread.join()
        for end in (self._listening, self._wake, self._woken):
            end.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _serve(self) -> None:
        while not self._is_ending.is_set():
            select.select([self._listening, self._woken], [], [])
            if self._is_ending.is_set():
                return
            with contextlib.suppress(OSError):  # the client is gone
                connection, _ = self._listening.accept()
                with connection:
                    select.select([connection, self._woken], [], [], _CLIENT_SECONDS)
                    if self._is_ending.is_set():
                        return
                    connection.settimeout(_CLIENT_SECONDS)
                    connection.sendall(orjson.dumps(self._reply_to(connection)) + b"\n")

    def _reply_to(self, connection: socket.socket) -> dict[str, Any]:
        try:
            return {"answer": self._answer(orjson.loads(read_line(connection)))}
        except ConfigError as error:
            return {"error": str(error), "is_config": True}
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a client sends, the run goes on
            text = str(error) if isinstance(error, ControlError) else repr(error)
            return {"error": text, "is_config": False}

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if (request["pipeline_id"], request["token"]) != (self._pipeline_id, self._token):
            raise ControlError("another run has begun meanwhile: look at it, and try again")
        if request["order"] not in _ORDERS:
            raise ConfigError(f"there is no order {request['order']!r}; the orders are {', '.join(_ORDERS)}")
        try:
            message = _ORDERS[request["order"]](**request["arguments"])
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
            raise ControlError("it is ending: there is nothing to steer any more") from None

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
