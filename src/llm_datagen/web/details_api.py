"""Requests about one run beside how it stands: its course, its log, its cost; and two runs side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from llm_datagen.errors import ConfigError
from llm_datagen.runs import RunFolder
from llm_datagen.shards.run_view import RunView, read_run
from llm_datagen.web.compare_view import compare_json
from llm_datagen.web.cost_view import cost_json, timeline_json
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.log_view import log_json
from llm_datagen.web.looking import home_of
from llm_datagen.web.runs_api import answered

_Look = Callable[[RunFolder, RunView], Any]


class DetailsApi:
    """Answers requests about one run, or two.

    Args:
        folders: the folders of runs that are shown.
    """

    def __init__(self, folders: ResultsFolders) -> None:
        self._folders = folders

    def add_to(self, app: web.Application) -> None:
        """Add what is answered."""
        app.router.add_get("/api/runs/{run}/timeline", self._timeline)
        app.router.add_get("/api/runs/{run}/cost", self._cost)
        app.router.add_get("/api/runs/{run}/log", self._log)
        app.router.add_get("/api/compare", self._compare)

    async def _timeline(self, request: web.Request) -> web.Response:
        return await self._of_run(request, timeline_json)

    async def _cost(self, request: web.Request) -> web.Response:
        return await self._of_run(request, cost_json)

    async def _log(self, request: web.Request) -> web.Response:
        query = request.query
        given = {name: query[name] for name in ("after", "node", "event", "without", "level") if name in query}
        limit = number(query.get("limit"), 200)
        return await self._of_run(request, lambda folder, run: log_json(run, home_of(folder), limit=limit, **given))

    async def _compare(self, request: web.Request) -> web.Response:
        keys = [request.query.get(name, "") for name in ("a", "b")]
        return await answered(lambda: compare_json(*(read_run(self._folders.find(key)) for key in keys)))

    async def _of_run(self, request: web.Request, look: _Look) -> web.Response:
        def find() -> Any:
            folder = self._folders.find(request.match_info["run"])
            return look(folder, read_run(folder))

        return await answered(find)


def number(text: str | None, default: int) -> int:
    """Return the number in a query; `default` when it has none.

    Raises:
        ConfigError: when it is none.
    """
    if text is None or text == "":
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise ConfigError(f"{text!r} is no number")
    return int(text)
