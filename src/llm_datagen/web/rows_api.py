"""Requests about rows: pages of streams, failures, lineage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from llm_datagen.runs.browse.failures import failure_groups
from llm_datagen.runs.browse.pages import Browser, Page
from llm_datagen.runs.browse.run_streams import find_stream, streams_of_run
from llm_datagen.streams.ids import parse_id
from llm_datagen.web.details_api import number
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.lineage_view import lineage_json
from llm_datagen.web.looking import PlacedRun, placed_run
from llm_datagen.web.row_view import group_json, page_json, rejected_json
from llm_datagen.web.runs_api import answered
from llm_datagen.web.stream_view import ROWS

MOST_ROWS = 500
_SEARCH_SECONDS = 1.0


class RowsApi:
    """Answers requests about rows.

    Args:
        folders: the folders of runs that are shown.
    """

    def __init__(self, folders: ResultsFolders) -> None:
        self._folders = folders
        self._browser = Browser()

    def add_to(self, app: web.Application) -> None:
        """Add what is answered."""
        app.router.add_get("/api/runs/{run}/rows", self._rows)
        app.router.add_get("/api/runs/{run}/rejected", self._rejected)
        app.router.add_get("/api/runs/{run}/failures", self._failures)
        app.router.add_get("/api/runs/{run}/lineage", self._lineage)

    async def _rows(self, request: web.Request) -> web.Response:
        return await self._page(request, page_json)

    async def _rejected(self, request: web.Request) -> web.Response:
        return await self._page(request, rejected_json)

    async def _page(self, request: web.Request, shown: Callable[[Page], Any]) -> web.Response:
        key, text = request.query.get("stream", ""), request.query.get("q", "")
        start = number(request.query.get("from"), 0)
        limit = max(1, min(number(request.query.get("limit"), 50), MOST_ROWS))

        def find(run: PlacedRun) -> Any:
            stream = find_stream(streams_of_run(run.state, run.shards), key.removesuffix(ROWS))
            if text:
                page = self._browser.search(stream, text, start, limit, seconds=_SEARCH_SECONDS)
            else:
                page = self._browser.page(stream, start, limit)
            return shown(page)

        return await self._of_run(request, find)

    async def _failures(self, request: web.Request) -> web.Response:
        def find(run: PlacedRun) -> Any:
            groups = failure_groups(entry for state in run.parts for entry in state["nodes"])
            return {"groups": list(map(group_json, groups)), "total": sum(group.count for group in groups)}

        return await self._of_run(request, find)

    async def _lineage(self, request: web.Request) -> web.Response:
        row_id = parse_id(request.query.get("id", ""))

        def find() -> Any:
            folder = self._folders.find(request.match_info["run"])
            return lineage_json(folder, placed_run(folder), row_id)

        return await answered(find)

    async def _of_run(self, request: web.Request, look: Callable[[PlacedRun], Any]) -> web.Response:
        return await answered(lambda: look(placed_run(self._folders.find(request.match_info["run"]))))
