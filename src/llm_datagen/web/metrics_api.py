"""Requests of Prometheus: ``/metrics``, by a bearer token."""

from __future__ import annotations

import asyncio

from aiohttp import web

from llm_datagen.errors import DiskError
from llm_datagen.web.answers import error_answer
from llm_datagen.web.folders import ResultsFolders


class MetricsApi:
    """Answers with the metrics of all runs.

    Args:
        folders: the folders of runs that are shown.
    """

    def __init__(self, folders: ResultsFolders) -> None:
        self._folders = folders

    def add_to(self, app: web.Application) -> None:
        """Add what is answered."""
        app.router.add_get("/metrics", self._metrics)

    async def _metrics(self, request: web.Request) -> web.Response:
        from llm_datagen.telemetry.prometheus import CONTENT_TYPE, metrics_text

        try:
            text = await asyncio.to_thread(metrics_text, self._folders.paths)
        except DiskError as error:
            return error_answer(503, str(error))
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})
