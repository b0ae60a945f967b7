"""The files of the page. Only what lies in the package's folder ``page`` is served, by the names that it has there."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from llm_datagen.web.security import Handler

_FOLDER = Path(__file__).parent / "page"

_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
}


def page_files() -> dict[str, Path]:
    """Return the files of the page by the paths of requests; ``/`` is index.html."""
    found = {f"/{path.relative_to(_FOLDER).as_posix()}": path for path in _FOLDER.rglob("*") if path.suffix in _TYPES}
    return {"/": found["/index.html"], **found}


def add_page(app: web.Application) -> None:
    """Serve the files of the page."""
    for path, file in page_files().items():
        app.router.add_get(path, _file(file))


def _file(path: Path) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        text = path.suffix in {".html", ".js", ".css", ".svg"}
        return web.Response(body=path.read_bytes(), content_type=_TYPES[path.suffix], charset="utf-8" if text else None)

    return answer
