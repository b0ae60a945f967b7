"""Requests about rows: pages of streams, failures, traces."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from aiohttp import web

from llm_datagen.errors import StreamError
from llm_datagen.runs.browse.failures import failure_groups
from llm_datagen.runs.browse.pages import Browser, Page
from llm_datagen.runs.browse.reasons import reasons_of
from llm_datagen.runs.browse.run_streams import RunStream, find_stream, streams_of_run
from llm_datagen.streams.ids import parse_id
from llm_datagen.web.details_api import number
from llm_datagen.web.family_view import family_json
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.looking import PlacedRun, placed_run
from llm_datagen.web.row_view import group_json, page_json, reason_json, rejected_json
from llm_datagen.web.runs_api import answered
from llm_datagen.web.stream_view import ROWS

MOST_ROWS = 500
_SEARCH_SECONDS = 1.0
_COUNT_SECONDS = 2.0


class RowsApi:
    """Answers requests about rows.

    Args:
        folders: the folders of runs that are shown.
    """

    def __init__(self, folders: ResultsFolders) -> None:
        self._folders = folders
        self._browser = Browser()
        self._counting: dict[tuple[str, str], asyncio.Task[None]] = {}

    def add_to(self, app: web.Application) -> None:
        """Add what is answered."""
        app.router.add_get("/api/runs/{run}/rows", self._rows)
        app.router.add_get("/api/runs/{run}/rejected", self._rejected)
        app.router.add_get("/api/runs/{run}/failures", self._failures)
        app.router.add_get("/api/runs/{run}/trace", self._trace)

    async def _rows(self, request: web.Request) -> web.Response:
        return await self._page(request, page_json)

    async def _rejected(self, request: web.Request) -> web.Response:
        return await self._page(request, rejected_json)

    async def _page(self, request: web.Request, shown: Callable[[Page], Any]) -> web.Response:
        key, text = request.query.get("stream", ""), request.query.get("q", "")
        start = number(request.query.get("from"), 0)
        limit = max(1, min(number(request.query.get("limit"), 50), MOST_ROWS))

        found: list[RunStream] = []

        def find(run: PlacedRun) -> Any:
            stream = find_stream(streams_of_run(run.state, run.shards), key.removesuffix(ROWS))
            found.append(stream)
            if text:
                page = self._browser.search(stream, text, start, limit, seconds=_SEARCH_SECONDS)
            else:
                page = self._browser.page(stream, start, limit)
            return shown(page)

        answer = await self._of_run(request, find)
        for stream in found:
            self._count_on((request.match_info["run"], key), stream)
        return answer

    def _count_on(self, name: tuple[str, str], stream: RunStream) -> None:
        """Count rows of a stream that is looked at, while nobody waits for them: the next jump may be far."""

        def count() -> None:
            with contextlib.suppress(StreamError, OSError):  # who asks for a page is told
                self._browser.count_on(stream, seconds=_COUNT_SECONDS)

        if name not in self._counting:
            task = self._counting[name] = asyncio.create_task(asyncio.to_thread(count))
            task.add_done_callback(lambda _: self._counting.pop(name))

    async def _failures(self, request: web.Request) -> web.Response:
        def find(run: PlacedRun) -> Any:
            entries = [entry for state in run.parts for entry in state["nodes"]]
            groups = failure_groups(entries)
            return {
                "groups": list(map(group_json, groups)),
                "total": sum(group.count for group in groups),
                "rejected": list(map(reason_json, reasons_of(entries))),
            }

        return await self._of_run(request, find)

    async def _trace(self, request: web.Request) -> web.Response:
        row_id = parse_id(request.query.get("id", ""))

        def find() -> Any:
            folder = self._folders.find(request.match_info["run"])
            return family_json(folder, placed_run(folder), row_id)

        return await answered(find)

    async def _of_run(self, request: web.Request, look: Callable[[PlacedRun], Any]) -> web.Response:
        return await answered(lambda: look(placed_run(self._folders.find(request.match_info["run"]))))
