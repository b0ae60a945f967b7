"""An object store for tests: moto's S3 server on loopback, one in each process that runs tests, started when needed."""

from __future__ import annotations

import contextlib
import itertools
import logging
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

_numbers = itertools.count()


class StoreServer:
    """The server. What was put there stays when it stops and starts again.

    Attributes:
        port: its port.
    """

    def __init__(self) -> None:
        self.port = 0
        self._server: Any = None

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin to answer, at the same port as before."""
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.stop()
            self._server = None

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
