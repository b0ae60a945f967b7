"""Server-sent events: how a run stands, or which runs there are, whenever that changes.

Whoever listens to the same gets the same: it is looked at once for all, and only while somebody listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor

from aiohttp import web

from llm_datagen.errors import DatagenError, PipelineNotFoundError
from llm_datagen.streams.storage.object_uri import is_object_uri
from llm_datagen.web.answers import FAULT, error_answer, json_bytes
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.looking import page_of_run
from llm_datagen.web.run_list import RunList

LOOK_SECONDS = 0.5
STORE_LOOK_SECONDS = 5.0
"""How often runs are looked at, here and on a store; about as often as run states are saved."""

_SHARE = 4
"""Looking takes at most one part in so many of the time, however many runs there are."""

_LOOKING = 4
"""Feeds that are looked at at once."""

HEARTBEAT_SECONDS = 10.0

_GONE = b"event: gone\ndata: {}\n\n"

Look = Callable[[], bytes]


class _Feed:
    """What is looked at for all who listen to the same. On the event loop."""

    def __init__(self, look: Look, seconds: float, pool: Executor) -> None:
        self._look, self._seconds, self._pool = look, seconds, pool
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.event, self.number, self.listeners = b"", 0, 0

    def begin(self) -> None:
        self.listeners += 1
        if self._task is None:
            self._task = asyncio.create_task(self._poll())

    def end(self) -> None:
        self.listeners -= 1
        if not self.listeners:
            self.close()

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def after(self, number: int) -> tuple[bytes, int]:
        """Return the event that comes after that of a number, with its own number."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.number > number)
            return self.event, self.number

    async def _poll(self) -> None:
        while True:
            began = time.monotonic()
            event = await asyncio.get_running_loop().run_in_executor(self._pool, self._look)
            took = time.monotonic() - began
            if event != self.event:
                async with self._changed:
                    self.event, self.number = event, self.number + 1
                    self._changed.notify_all()
            await asyncio.sleep(max(self._seconds - took, (_SHARE - 1) * took))


class Events:
    """Answers who wants to hear of changes.

    Args:
        folders: the folders of runs that are shown.
        run_list: the list of these runs.

    Attributes:
        listening: how many listen now.
    """

    def __init__(self, folders: ResultsFolders, run_list: RunList) -> None:
        self._folders, self._list = folders, run_list
        self._feeds: dict[str, _Feed] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self.listening = 0
        self._pool = ThreadPoolExecutor(_LOOKING, "web-look")  # of its own: rows that are searched hold up no news

    def add_to(self, app: web.Application) -> None:
        """Add what is answered."""
        app.router.add_get("/api/events", self._listen)
        app.on_shutdown.append(self._close)

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        key, paths = request.query.get("run", ""), self._folders.paths
        if key:
            try:
                paths = (self._folders.find(key).results_dir,)
            except PipelineNotFoundError as error:
                return error_answer(404, str(error))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        feed = self._feeds.setdefault(key, _Feed(lambda: self._event(key), _seconds(paths), self._pool))
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.listening += 1
        feed.begin()
        try:
            await _send(response, feed)
        except (ConnectionError, asyncio.CancelledError):
            pass  # who listened has gone, or the server ends
        finally:
            feed.end()
            if not feed.listeners:
                self._feeds.pop(key, None)
            self.listening -= 1
            self._tasks.discard(task)
        return response

    async def _close(self, app: web.Application) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._pool.shutdown)

    def _event(self, key: str) -> bytes:
        name = "run" if key else "runs"
        try:
            data = page_of_run(self._folders, key) if key else self._list.look()
        except PipelineNotFoundError:
            return _GONE
        except (DatagenError, OSError) as error:
            name, data = "error", {"error": str(error)}
        except Exception:
            logging.getLogger(__name__).exception("events of %r", key)
            name, data = "error", {"error": FAULT}
        return b"event: %s\ndata: %s\n\n" % (name.encode(), json_bytes(data))


def _seconds(paths: Iterable[str]) -> float:
    return STORE_LOOK_SECONDS if any(map(is_object_uri, paths)) else LOOK_SECONDS


async def _send(response: web.StreamResponse, feed: _Feed) -> None:
    number = 0
    while True:
        event = b": still here\n\n"
        with contextlib.suppress(TimeoutError):
            event, number = await asyncio.wait_for(feed.after(number), HEARTBEAT_SECONDS)
        await response.write(event)
