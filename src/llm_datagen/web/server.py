"""The server of the page: its application, and how it is served."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote

from aiohttp import web

from llm_datagen.errors import ConfigError
from llm_datagen.web.answers import FAULT, error_answer
from llm_datagen.web.commands import Commands
from llm_datagen.web.details_api import DetailsApi
from llm_datagen.web.events import Events
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.metrics_api import MetricsApi
from llm_datagen.web.page_files import add_page, page_files
from llm_datagen.web.rows_api import RowsApi
from llm_datagen.web.run_list import RunList
from llm_datagen.web.runs_api import SESSION, RunsApi
from llm_datagen.web.security import Guard, Handler, check_exposure, set_headers

_LARGEST_REQUEST = 1 << 16
_EVERYWHERE = {"0.0.0.0", "::"}
"""Addresses to listen at that are none to open."""

_LARGEST_PORT = 65535
_STOP_SECONDS = 2.0


class Server:
    """A server of the page, which listens at an address from the beginning.

    Args:
        folders: the folders of the runs that are shown.
        host: the address, or a name, to listen at.
        port: the port; 0 for a free one.
        token: what opens it; None makes a random one.
        read_only: whether nothing may be changed.

    Attributes:
        url: the page, with the token in its fragment, which no browser sends anywhere.

    Raises:
        ConfigError: when a folder is none, others could reach it without a token, or the address cannot be used.
    """

    def __init__(
        self,
        folders: Sequence[str | os.PathLike[str]],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        read_only: bool = False,
    ) -> None:
        check_exposure(host, token)
        self._folders = ResultsFolders(folders)
        self._socket = _listen(host, port)
        bound = self._socket.getsockname()[1]
        shown = socket.gethostname() if host in _EVERYWHERE else f"[{host}]" if ":" in host else host
        self._guard = Guard(token, shown, bound, open_paths=[SESSION, *page_files()], read_only=read_only)
        self._list = RunList(self._folders)
        self._events = Events(self._folders, self._list)
        self.address = f"http://{shown}:{bound}/"
        self.url = f"{self.address}#token={quote(self._guard.token, safe='')}"

    @property
    def is_looked_at(self) -> bool:
        """Whether a page is open."""
        return self._events.listening > 0

    def application(self) -> web.Application:
        """Return what answers. Used once."""
        app = web.Application(middlewares=[_errors_as_json, self._guard.keep_out], client_max_size=_LARGEST_REQUEST)
        app.on_response_prepare.append(set_headers)
        add_page(app)
        RunsApi(self._folders, self._list, self._guard).add_to(app)
        DetailsApi(self._folders).add_to(app)
        RowsApi(self._folders).add_to(app)
        MetricsApi(self._folders).add_to(app)
        Commands(self._folders, self._guard).add_to(app)
        self._events.add_to(app)
        return app

    def close(self) -> None:
        """Listen no more. Serving ends with it by itself."""
        self._socket.close()

    def serve(
        self, *, on_ready: Callable[[], object] = lambda: None, until: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """Serve until SIGINT or SIGTERM. On the main thread of a process.

        Args:
            on_ready: called when requests are answered.
            until: serving ends when this does, too.
        """

        async def serve() -> None:
            ended = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, ended.set)
            other = None if until is None else asyncio.create_task(_end_with(until(), ended))
            await self.serve_until(ended, on_ready)
            if other is not None:
                other.cancel()

        asyncio.run(serve())

    async def serve_until(self, ended: asyncio.Event, on_ready: Callable[[], object]) -> None:
        """Serve until `ended`, on the event loop of the caller; see `serve`."""
        runner = web.AppRunner(
            self.application(), access_log=None, handle_signals=False, shutdown_timeout=_STOP_SECONDS,
            handler_cancellation=True,
        )  # fmt: skip
        await runner.setup()
        try:
            await web.SockSite(runner, self._socket).start()
            on_ready()
            await ended.wait()
        finally:
            await runner.cleanup()


async def _end_with(other: Awaitable[object], ended: asyncio.Event) -> None:
    await other
    ended.set()


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= _LARGEST_PORT:
        raise ConfigError(f"--port must be a number from 0 (a free one) to {_LARGEST_PORT}, not {port}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(f"cannot listen at {host}, port {port}: {error}; choose another --port or --host") from None
    listening.setblocking(False)
    return listening


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer in JSON when there is no such thing, or the server has a fault: which, is said where it was started."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return error_answer(error.status, error.reason)
    except ConfigError as error:  # of the query
        return error_answer(400, str(error))
    except Exception:
        logging.getLogger(__name__).exception("%s %s", request.method, request.path)
        return error_answer(500, FAULT)
