"""The server of the page on loopback, and a client that sends what no browser would."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_datagen.web.server import Server

from .support import PATIENCE_SECONDS

TOKEN = "0123456789abcdef"


@dataclass(frozen=True)
class Answer:
    """What the server has sent.

    Attributes:
        status: the status code.
        headers: the headers, by their names in lower case.
        body: the body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What the body says."""
        assert self.headers["content-type"].partition(";")[0] == "application/json"
        return json.loads(self.body)


class Client:
    """Sends requests to a server.

    Args:
        port: its port, on this machine.
        headers: the headers of each request.
    """

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        self.port, self.headers = port, dict(headers)

    def ask(self, path: str, *, method: str = "GET", body: Any = None, **headers: str | None) -> Answer:
        """Send a request; `headers` replace those of the client, `None` leaves one away (``_`` stands for ``-``)."""
        given: dict[str, str | None] = {**self.headers, **{name.replace("_", "-"): headers[name] for name in headers}}
        sent = {name: value for name, value in given.items() if value is not None}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host="Host" in given, skip_accept_encoding=True)
            data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
            for name, value in {**sent, "Content-Length": str(len(data))}.items():
                connection.putheader(name, value)
            connection.endheaders(data)
            found = connection.getresponse()
            return Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())

    def post(self, path: str, body: Any, **headers: str | None) -> Answer:
        """Send JSON."""
        return self.ask(path, method="POST", body=body, Content_Type="application/json", **headers)

    def get(self, path: str) -> Any:
        """Return what an answer says that is there."""
        answer = self.ask(path)
        assert answer.status == 200, answer
        return answer.json

    @contextlib.contextmanager
    def events(self, path: str = "/api/events") -> Iterator[Iterator[tuple[str, Any]]]:
        """Listen to events, each with what it says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=self.headers)
            response = connection.getresponse()
            assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            yield _events(response)


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in response:
        key, _, value = line.decode().rstrip("\n").partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)


@contextlib.contextmanager
def serving(*folders: Path | str, **options: Any) -> Iterator[Client]:
    """Serve folders of runs from a thread; yield a client that has the token."""
    server = Server(folders, token=TOKEN, **options)
    port = int(server.address.rstrip("/").rpartition(":")[2])
    ready = threading.Event()
    loop, ended = asyncio.new_event_loop(), asyncio.Event()

    def serve() -> None:
        loop.run_until_complete(server.serve_until(ended, ready.set))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    thread = threading.Thread(target=serve, name="datagen-web")
    thread.start()
    try:
        assert ready.wait(PATIENCE_SECONDS)
        yield Client(port, {"Authorization": f"Bearer {TOKEN}"})
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


def page_of(pid: int) -> int:
    """Return the process of the page that a process has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(int(child) for child in children if b"beside_run" in cmdline(int(child)))


def cmdline(pid: int) -> bytes:
    """Return the command line of a process; nothing of one that has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
