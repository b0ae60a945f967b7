"""An object store for tests: moto's S3 server on loopback, one in each process that runs tests, started when needed."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

_numbers = itertools.count()


class StoreServer:
    """The server. What was put there stays when it stops and starts again.

    Attributes:
        port: its port.
        intercept: asked before each request, with its WSGI environment, which it may change: what is answered in the
            server's place, such as ``"503 Slow Down"``; None to let it answer.
    """

    def __init__(self) -> None:
        self.port = 0
        self.intercept: Callable[[dict[str, Any]], str | None] | None = None
        self._server: Any = None

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin to answer, at the same port as before."""
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        moto = DomainDispatcherApplication(create_backend_app)

        def answer(environ: dict[str, Any], start_response: Any) -> Any:
            said = self.intercept(environ) if self.intercept is not None else None
            if said is None:
                return moto(environ, start_response)
            start_response(said, [("Content-Length", "0")])
            return []

        self._server = make_server("127.0.0.1", self.port, answer, threaded=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @contextlib.contextmanager
    def intercepted(self, intercept: Callable[[dict[str, Any]], str | None]) -> Iterator[None]:
        """Have requests intercepted during the block."""
        self.intercept = intercept
        try:
            yield
        finally:
            self.intercept = None

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Be away during the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def environment(self) -> dict[str, str]:
        """Return the environment of programs that are to use it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test-key-id",
            "AWS_SECRET_ACCESS_KEY": "test-secret-key",
            "AWS_REGION": "us-east-1",
        }

    def make_bucket(self) -> str:
        """Make an empty bucket, and return its URI."""
        name = f"bucket-{next(_numbers)}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        with urllib.request.urlopen(request, timeout=30):
            return f"s3://{name}"


@pytest.fixture(scope="session")
def store_server() -> Iterator[StoreServer]:
    """The server of this process."""
    import obstore
    from obstore.store import from_url

    server = StoreServer()
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        client = from_url(server.make_bucket(), client_options={"allow_http": True})
        obstore.list_with_delimiter(client)  # the threads of the library, which stay, are there before any test looks
    yield server
    server.stop()


@pytest.fixture
def bucket(store_server: StoreServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, such as ``s3://bucket-3``, which this process and those that it starts can use."""
    for name, value in store_server.environment().items():
        monkeypatch.setenv(name, value)
    return store_server.make_bucket()
