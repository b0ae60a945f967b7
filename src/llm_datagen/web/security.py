"""Who is answered, and what browsers may do with an answer.

A request is answered when
- its ``Host`` is a name of this server: a page of another name that was pointed at this address has that name;
- its ``Origin`` or ``Sec-Fetch-Site``, if a browser sends one, is this server; the page itself may be linked to;
- it has the token, as ``Authorization: Bearer``, or the cookie that the page got for it. The page itself holds nothing
  of a run, and is sent to anybody;
- and, if it changes anything, it is JSON and says its origin or has the token in a header: a form of another page
  cannot do that.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from llm_datagen.errors import ConfigError
from llm_datagen.web.answers import error_answer

SHORTEST_TOKEN = 16

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Server": "llm-datagen",
}

_HTTP_PORT = 80
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_loopback(host: str) -> bool:
    """Return whether an address or a name to listen at is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(host: str, token: str | None) -> None:
    """Check that a server which others reach has a token that somebody chose.

    Raises:
        ConfigError: when it has none, or the token is too short.
    """
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host} can be reached from other machines: give a token, too, of {SHORTEST_TOKEN} characters or "
            "more (--token, or LLM_DATAGEN_UI_TOKEN). What is sent is not encrypted: on a network that others share, "
            "use an SSH tunnel in place of it"
        )
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise ConfigError(f"--token: give {SHORTEST_TOKEN} printable ASCII characters or more")


class Guard:
    """The middleware that keeps out who has no business here.

    Args:
        token: what opens the server; None makes a random one.
        host: the address that the server listens at.
        port: its port.
        open_paths: what is sent to anybody.
        read_only: whether nothing may be changed.

    Attributes:
        token: what opens the server.
        read_only: whether nothing may be changed.
    """

    def __init__(
        self, token: str | None, host: str, port: int, *, open_paths: Iterable[str], read_only: bool = False
    ) -> None:
        self.token = token or secrets.token_urlsafe(32)
        self.read_only = read_only
        self._port = port
        self._open_paths = frozenset(open_paths)
        self._cookie_name = f"llm_datagen_{port}"
        self._cookie = hashlib.sha256(b"cookie of " + self.token.encode()).hexdigest()
        names = [*_LOOPBACK, host]
        if not is_loopback(host):
            names += [socket.gethostname(), socket.getfqdn()]
        self._hosts = {f"{name.lower()}:{port}" for name in names}
        if port == _HTTP_PORT:  # which browsers leave away
            self._hosts.update(name.lower() for name in names)

    @web.middleware
    async def keep_out(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request, or refuse it."""
        refused = self._refused(request)
        return await handler(request) if refused is None else refused

    def _refused(self, request: web.Request) -> web.Response | None:
        host = request.headers.get("Host", "").lower()
        if host not in self._hosts and host != self._reached_at(request):
            return error_answer(421, "this server has another name: open the address that it printed")
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{host}":
            return error_answer(403, "pages of other servers are not answered")
        if request.method == "POST":
            if request.content_type != "application/json":
                return error_answer(415, "send JSON (Content-Type: application/json)")
            if origin is None and not self._has_bearer(request):
                return error_answer(403, "send an Origin, or the token as Authorization: Bearer")
        if request.path in self._open_paths and request.method in {"GET", "HEAD"}:
            return None
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            return error_answer(403, "pages of other servers are not answered")
        if request.path in self._open_paths or self._has_bearer(request) or self._has_cookie(request):
            return None
        return error_answer(401, "the token is missing, or another one: open the address that the server printed")

    def _reached_at(self, request: web.Request) -> str | None:
        """Return the address by which this connection has reached the server: a name may be anybody's, this is not."""
        name = request.transport.get_extra_info("sockname") if request.transport is not None else None
        if not name:
            return None
        return f"[{name[0]}]:{self._port}" if ":" in name[0] else f"{name[0]}:{self._port}"

    def is_token(self, text: object) -> bool:
        """Return whether somebody has the token."""
        return isinstance(text, str) and _are_equal(text, self.token)

    def _has_bearer(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.is_token(token.strip())

    def _has_cookie(self, request: web.Request) -> bool:
        return _are_equal(request.cookies.get(self._cookie_name, ""), self._cookie)

    def let_in(self, response: web.Response) -> None:
        """Give the cookie to who had the token."""
        response.set_cookie(self._cookie_name, self._cookie, httponly=True, samesite="Strict", path="/")


def _are_equal(given: str, secret: str) -> bool:
    """Compare in a time that tells nothing of the secret."""
    return secrets.compare_digest(given.encode(errors="replace"), secret.encode())


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Tell the browser what it may do with an answer. A signal handler: no answer goes without."""
    response.headers.update(_HEADERS)
    response.headers["Cache-Control"] = "no-store" if request.path.startswith(("/api", "/metrics")) else "no-cache"
