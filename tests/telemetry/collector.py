"""A collector of OpenTelemetry on loopback, which decodes what it gets; or hangs, or refuses, or breaks off."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_KINDS: dict[str, Callable[[], Any]] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}


class Collector:
    """Decodes all requests.

    Attributes:
        spans: the spans that came.
        metrics: the names of the metrics that came.
        services: the names of the services that have sent them.
        headers: of all requests.
        status: what it answers.
        go: while it is not set, requests get no answer.
        asked: set when a request has come.
    """

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: set[str] = set()
        self.services: set[str] = set()
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.go, self.asked = threading.Event(), threading.Event()
        self.go.set()
        self._http = self._server()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self._http.shutdown()
        self._http.server_close()

    def _take(self, path: str, data: bytes) -> None:
        request = _KINDS[path]()
        request.ParseFromString(data)
        is_traces = path == "/v1/traces"
        for resource in request.resource_spans if is_traces else request.resource_metrics:
            found = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(found["service.name"])
            for scope in resource.scope_spans if is_traces else resource.scope_metrics:
                if is_traces:
                    self.spans += scope.spans
                else:
                    self.metrics |= {metric.name for metric in scope.metrics}

    def _server(self) -> ThreadingHTTPServer:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    data = gzip.decompress(data)
                collector.headers.append(dict(self.headers))
                collector.asked.set()
                collector.go.wait(60)
                if collector.status == 200:
                    collector._take(self.path, data)
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class QuietServer(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that was killed is no error of the server."""

        return QuietServer(("127.0.0.1", 0), Handler)


def attributes_of(span: Any) -> dict[str, Any]:
    """Return the attributes of a span that was decoded; of lists, the texts."""
    return {each.key: _value(each.value) for each in span.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)
