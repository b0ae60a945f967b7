"""Requests about rows: pages of streams, failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from llm_datagen.runs.browse.failures import DeadLetterGroup, failure_groups
from llm_datagen.runs.browse.pages import BrowsedRow, Browser
from llm_datagen.runs.browse.run_streams import find_stream, streams_of_run
from llm_datagen.streams.ids import ID_FIELD, Id
from llm_datagen.web.details_api import number
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.looking import PlacedRun, placed_run
from llm_datagen.web.runs_api import answered
from llm_datagen.web.stream_view import ROWS

MOST_ROWS = 500
_SEARCH_SECONDS = 1.0
_EXACT = 2**53
"""From here on, a number of JavaScript is not exact."""


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
        app.router.add_get("/api/runs/{run}/failures", self._failures)

    async def _rows(self, request: web.Request) -> web.Response:
        key, text = request.query.get("stream", ""), request.query.get("q", "")
        start = number(request.query.get("from"), 0)
        limit = max(1, min(number(request.query.get("limit"), 50), MOST_ROWS))

        def find(run: PlacedRun) -> Any:
            stream = find_stream(streams_of_run(run.state, run.shards), key.removesuffix(ROWS))
            if text:
                page = self._browser.search(stream, text, start, limit, seconds=_SEARCH_SECONDS)
            else:
                page = self._browser.page(stream, start, limit)
            return {
                "rows": list(map(_row, page.rows)),
                "total": page.total,
                "is_total_exact": page.is_total_exact,
                "next": page.next,
                "searched_to": page.searched_to,
            }

        return await self._of_run(request, find)

    async def _failures(self, request: web.Request) -> web.Response:
        def find(run: PlacedRun) -> Any:
            groups = failure_groups(entry for state in run.parts for entry in state["nodes"])
            return {"groups": list(map(_group, groups)), "total": sum(group.count for group in groups)}

        return await self._of_run(request, find)

    async def _of_run(self, request: web.Request, look: Callable[[PlacedRun], Any]) -> web.Response:
        return await answered(lambda: look(placed_run(self._folders.find(request.match_info["run"]))))


def shown_id(row_id: Id) -> Id:
    """Return an id as JavaScript can hold it."""
    return str(row_id) if isinstance(row_id, int) and abs(row_id) >= _EXACT else row_id


def _row(row: BrowsedRow) -> dict[str, Any]:
    return {"number": row.number, "id": shown_id(row.id), "item": _without_id(row.item)}


def _without_id(item: Any) -> Any:
    return {name: value for name, value in item.items() if name != ID_FIELD} if isinstance(item, dict) else item


def _group(group: DeadLetterGroup) -> dict[str, Any]:
    return {
        "node_id": group.node_id,
        "operator": group.operator,
        "kind": group.kind,
        "message": group.text,
        "count": group.count,
        "example": {"id": shown_id(group.row_id), "item": _without_id(group.input), "traceback": group.trace},
    }
