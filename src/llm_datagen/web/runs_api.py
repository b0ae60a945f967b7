"""Requests about runs: which there are, and how one stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from aiohttp import web

from llm_datagen.config.addresses import masked
from llm_datagen.errors import DatagenError, PipelineNotFoundError
from llm_datagen.web.answers import error_answer, json_answer, json_of
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.looking import page_of_run
from llm_datagen.web.run_list import RunList
from llm_datagen.web.security import Guard

SESSION = "/api/session"
"""Where the token is exchanged for a cookie."""


class RunsApi:
    """Answers requests about runs.

    Args:
        folders: the folders of runs that are shown.
        run_list: the list of these runs.
        guard: who is answered.
    """

    def __init__(self, folders: ResultsFolders, run_list: RunList, guard: Guard) -> None:
        self._folders, self._list, self._guard = folders, run_list, guard

    def add_to(self, app: web.Application) -> None:
        """Add what is answered."""
        app.router.add_post(SESSION, self._begin_session)
        app.router.add_get("/api/server", self._server)
        app.router.add_get("/api/runs", self._runs)
        app.router.add_get("/api/runs/{run}", self._run)

    async def _begin_session(self, request: web.Request) -> web.StreamResponse:
        try:
            token = (await json_of(request))["token"]
        except (ValueError, TypeError, LookupError):
            return error_answer(400, 'send {"token": "…"}')
        if not self._guard.is_token(token):
            return error_answer(401, "this is another token: open the address that the server printed")
        response = web.Response(status=204)
        self._guard.let_in(response)
        return response

    async def _server(self, request: web.Request) -> web.Response:
        return json_answer(
            {
                "version": version("llm-datagen"),
                "read_only": self._guard.read_only,
                "folders": [masked(path) for path in self._folders.paths],
            }
        )

    async def _runs(self, request: web.Request) -> web.Response:
        return await answered(self._list.look)

    async def _run(self, request: web.Request) -> web.Response:
        return await answered(lambda: page_of_run(self._folders, request.match_info["run"]))


async def answered(look: Callable[[], Any]) -> web.Response:
    """Return what `look` returns, which may block, or what is wrong."""
    try:
        return json_answer(await asyncio.to_thread(look))
    except PipelineNotFoundError as error:
        return error_answer(404, str(error))
    except (DatagenError, OSError) as error:  # such as a file that this user may not read
        return error_answer(409, str(error))
