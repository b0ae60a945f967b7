"""Object stores on loopback: moto's S3, and in front of any of them the bad weather that tests ask for."""

from __future__ import annotations

import selectors
import socket
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

from llm_datagen.streams.storage.bucket import Bucket
from llm_datagen.streams.storage.objects import OBJECT_STORAGE

Environ = dict[str, Any]
Application = Callable[[Environ, Any], Iterable[bytes]]
Fault = Callable[[Environ, Any, Application], Iterable[bytes]]

SECRET = "not-in-any-file"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
_CONDITIONS = {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"}


class Request(NamedTuple):
    """A request that the server has got.

    Attributes:
        method: its method.
        key: the object.
    """

    method: str
    key: str


class StoreServer:
    """An object store, in a thread of this process.

    Args:
        application: answers without faults.

    Attributes:
        requests: those that it has got since `begin`.
        application: the same.
        endpoint: its address.
        environment: the variables by which clients find it.
        authorization: a header that requests of tests have.
        reset_path: a POST there removes everything.
    """

    authorization = "of a test"
    reset_path = ""
    environment: dict[str, str]

    def __init__(self, application: Application) -> None:
        from werkzeug import serving

        class Quiet(serving.WSGIRequestHandler):
            protocol_version = "HTTP/1.1"

            def log(self, type: str, message: str, *args: Any) -> None:
                """Print nothing."""

        self.application = application
        self._lock = threading.Lock()
        self._faults: list[tuple[Callable[[Request], bool], int, Fault]] = []
        self.requests: list[Request] = []
        # Werkzeug does not close the selector of a connection that a client resets: this kind has no open file.
        without_file = SimpleNamespace(DefaultSelector=selectors.PollSelector, EVENT_READ=selectors.EVENT_READ)
        vars(serving)["selectors"] = without_file
        self._server = serving.make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, name="object-store", daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.port}"

    def begin(self) -> None:
        """Forget what was asked of it, and all faults."""
        with self._lock:
            self._faults.clear()
            self.requests.clear()

    def put_bucket(self, name: str) -> None:
        """Make a bucket."""
        self.put(name)

    def put(self, path: str, data: bytes | None = None) -> None:
        """Put what this path names, as no client of ours would."""
        headers = {"Authorization": self.authorization}
        request = urllib.request.Request(f"{self.endpoint}/{path}", data=data, headers=headers, method="PUT")
        urllib.request.urlopen(request).close()

    def fail(self, method: str, ending: str, fault: Fault, *, times: int = 1) -> None:
        """Have the next requests fail.

        Args:
            method: of requests with this method; empty: with any.
            ending: of objects whose key holds this.
            fault: how.
            times: how many of them.
        """
        with self._lock:
            self._faults.append(
                (lambda request: method in {request.method, ""} and ending in request.key, times, fault)
            )

    def _answer(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        request = Request(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        with self._lock:
            self.requests.append(request)
            fault = self._fault_of(request)
        if fault is not None:
            return fault(environ, start_response, self.application)
        answer: Iterable[bytes] = self.application(environ, start_response)
        return answer

    def _fault_of(self, request: Request) -> Fault | None:
        for number, (is_meant, times, fault) in enumerate(self._faults):
            if is_meant(request):
                self._faults[number : number + 1] = [(is_meant, times - 1, fault)] if times > 1 else []
                return fault
        return None

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()


class S3Server(StoreServer):
    """Moto's S3, in a thread of this process."""

    reset_path = "/moto-api/reset"

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        moto: Any = DomainDispatcherApplication(create_backend_app)
        one_at_a_time = threading.Lock()

        def application(environ: Environ, start_response: Any) -> Any:
            """Answer. Moto looks whether the condition of a write holds, and writes later: no other comes between."""
            if environ["REQUEST_METHOD"] in {"GET", "HEAD"} or not _CONDITIONS & environ.keys():
                return moto(environ, start_response)
            with one_at_a_time:
                return moto(environ, start_response)

        super().__init__(application)
        self.environment = {**ENVIRONMENT, "AWS_ENDPOINT_URL": self.endpoint}


class S3Bucket:
    """A bucket of its own, in S3 unless the server is another one.

    Args:
        server: where it is.
        scheme: of addresses there.
    """

    def __init__(self, server: StoreServer, scheme: str = "s3") -> None:
        self.scheme = scheme
        self.server = server
        self.name = f"bucket-{uuid.uuid4().hex[:8]}"
        server.put_bucket(self.name)

    @property
    def place(self) -> str:
        """The address of the bucket."""
        return f"{self.scheme}://{self.name}"

    def uri(self, key: str) -> str:
        """Return the address of an object."""
        return f"{self.place}/{key}"

    def put(self, key: str, data: bytes) -> str:
        """Put an object; return its address."""
        OBJECT_STORAGE.replace(self.uri(key), data, sync=True)
        return self.uri(key)

    def get(self, key: str) -> bytes | None:
        """Return what an object holds, as any client sees it; None when there is none."""
        bucket, name = OBJECT_STORAGE.bucket_and_key(self.uri(key))
        found = bucket.get(name)
        return None if found is None else found[0]

    def all_keys(self) -> set[str]:
        """Return the keys of all objects."""
        bucket, _ = OBJECT_STORAGE.bucket_and_key(self.uri("-"))
        return {key for key, _ in bucket.list("")}


def at_write(patch: Callable[[type, str, Any], None], number: int, cut: Callable[[], None], *, is_late: bool) -> None:
    """Cut this process short at a write to a store.

    Args:
        patch: sets an attribute.
        number: the write, from 1.
        cut: how: it raises, or ends the process.
        is_late: whether what is written is there then.
    """
    count = 0

    def counted(method: Any) -> Any:
        def write(self: Bucket, *args: Any) -> Any:
            nonlocal count
            count += 1
            is_meant = count == number
            if is_meant and not is_late:
                cut()
            result = method(self, *args)
            if is_meant:
                cut()
            return result

        return write

    for name in ("put", "put_if", "put_pieces", "delete"):
        patch(Bucket, name, counted(getattr(Bucket, name)))


def status(code: int, name: str = "") -> Fault:
    """Answer with an error, and do nothing."""

    def fault(environ: Environ, start_response: Any, _: Application) -> Iterable[bytes]:
        _read(environ)
        body = f"<Error><Code>{name}</Code><Message>AKIA-secret</Message></Error>".encode() if name else b""
        start_response(f"{code} {name or 'Error'}", [("Content-Length", str(len(body)))])
        return [body]

    return fault


def hanging(until: threading.Event) -> Fault:
    """Answer nothing until something has happened."""

    def fault(environ: Environ, start_response: Any, application: Application) -> Iterable[bytes]:
        until.wait()
        return application(environ, start_response)

    return fault


def reset(environ: Environ, start_response: Any, _: Application) -> Iterable[bytes]:
    """Break the connection before anything is done."""
    _read(environ)
    _break(environ)
    return []


def lost_answer(environ: Environ, start_response: Any, application: Application) -> Iterable[bytes]:
    """Do what is asked, and break the connection before the answer is sent."""
    list(application(environ, lambda *_: None))
    _break(environ)
    return []


def without_conditions(environ: Environ, start_response: Any, application: Application) -> Iterable[bytes]:
    """Put the object whatever the condition of the put says."""
    environ.pop("HTTP_IF_NONE_MATCH", None)
    environ.pop("HTTP_IF_MATCH", None)
    environ.pop("HTTP_X_GOOG_IF_GENERATION_MATCH", None)
    return application(environ, start_response)


def short(environ: Environ, start_response: Any, application: Application) -> Iterable[bytes]:
    """Send half of the bytes, and say that these are all."""
    answers: list[tuple[str, list[tuple[str, str]]]] = []
    body = b"".join(application(environ, lambda status, headers, *_: answers.append((status, headers))))
    [(status, headers)] = answers
    kept = [(name, value) for name, value in headers if name.lower() not in {"content-length", "transfer-encoding"}]
    sent = body[: len(body) // 2] if status.startswith("2") else body
    start_response(status, [*kept, ("Content-Length", str(len(sent)))])
    return [sent]


def _read(environ: Environ) -> None:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


def _break(environ: Environ) -> None:
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
