"""A server's event loop, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

from llm_datagen.testing.fake_llm.http import Connection, Service

_STARTS_WITHIN = 10.0


class ServerThread:
    """Listens on loopback and hands requests to a service.

    Args:
        service: who answers. It is called on this thread.
        name: of the thread.
    """

    def __init__(self, service: Service, name: str) -> None:
        self._service = service
        self._name = name
        self._connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self, port: int) -> int:
        """Begin to listen, and return the port.

        Args:
            port: 0: a free one.

        Raises:
            OSError: when the port cannot be had.
        """
        started: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(port, started), name=self._name, daemon=True)
        self._thread.start()
        return started.result(_STARTS_WITHIN)

    def stop(self) -> None:
        """Close every connection, and end the thread."""
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
        self._loop = self._thread = None

    def _run(self, port: int, started: Future[int]) -> None:
        loop = asyncio.new_event_loop()
        try:
            listening = loop.run_until_complete(
                loop.create_server(
                    lambda: Connection(self._service, self._connections), "127.0.0.1", port, backlog=1024
                )
            )
        except (OSError, OverflowError) as error:
            loop.close()
            started.set_exception(error)
            return
        self._loop = loop
        started.set_result(listening.sockets[0].getsockname()[1])
        try:
            loop.run_forever()
        finally:
            listening.close()
            for connection in tuple(self._connections):
                connection.abort()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
