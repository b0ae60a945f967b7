"""A real HTTP server that speaks chat completions, and answers as it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn

from llm_datagen.llm import LLMOperator
from llm_datagen.streams.rows import Rejected


@dataclass
class Seen:
    """A request that came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Reply:
    """What is sent back: a body that is not a dict is sent as it is. `missing` bytes are promised and not sent.

    `raw` is sent in place of a response. `pieces` are sent one by one in place of the body; with `is_cut`, the
    connection closes after them, although more was promised.
    """

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    missing: int = 0
    raw: bytes = b""
    pieces: Iterable[bytes] | None = None
    is_cut: bool = False


def completion(content: Any, *, finish_reason: str = "stop", usage: Any = None) -> dict[str, Any]:
    """Return the body of a chat completion."""
    counts = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10} if usage is None else usage
    message = {"role": "assistant", "content": content}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], "usage": counts}


@dataclass
class ChatServer:
    """The server: set `reply` to choose its answers."""

    base_url: str = ""
    seen: list[Seen] = field(default_factory=list)
    reply: Callable[[Seen], Reply] = lambda seen: Reply(completion("yes"))
    connections: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def always(self, body: Any, status: int = 200) -> None:
        """Answer every request so."""
        self.reply = lambda seen: Reply(body, status)

    def count(self, change: int) -> None:
        with self.changed:
            self.connections += change
            self.changed.notify_all()

    def wait_until_unconnected(self) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.connections == 0, timeout=10)

    def operator(self, prompt: Any = "{{ q }}", **options: Any) -> LLMOperator:
        """Return an operator that asks this server, and does not try again, or wait, unless told to."""
        return LLMOperator(
            prompt, **{"model": "tiny", "base_url": self.base_url, "max_retries": 0, "outage_after": 0, **options}
        )


def serve(server: ChatServer) -> ThreadingHTTPServer:
    """Start the server on a free port, in threads of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            server.count(1)

        def finish(self) -> None:
            super().finish()
            server.count(-1)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen = Seen(self.path, {key.lower(): value for key, value in self.headers.items()}, body)
            server.seen.append(seen)
            reply = server.reply(seen)
            if reply.raw:
                self.wfile.write(reply.raw)
                self.close_connection = True
                return
            if reply.pieces is not None:
                self.stream(reply, reply.pieces)
                return
            data = json.dumps(reply.body) if isinstance(reply.body, dict) else reply.body
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data.encode()) + reply.missing))
            self.end_headers()
            self.wfile.write(data.encode())
            self.close_connection = reply.missing > 0

        def stream(self, reply: Reply, pieces: Iterable[bytes]) -> None:
            self.send_response(reply.status)
            for name, value in {"Content-Type": "text/event-stream", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in filter(None, pieces):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if reply.is_cut:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class QuietServer(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that gave up is not an error of the server."""

    http = QuietServer(("127.0.0.1", 0), Handler)
    server.base_url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return http


class Context:
    """What an operator is given as `ctx`; remembers what it was told. The run is cancelled, or paused, by its flags."""

    node_id = "node_0"
    pipeline_id = "p"
    folder = None
    state: Any = None

    def __init__(self) -> None:
        self.usage: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.is_over = self.is_on_hold = False

    def report_usage(self, usage: Any) -> None:
        self.usage.append(dict(usage))

    def is_cancelled(self) -> bool:
        return self.is_over

    def reject(self, reason: str) -> NoReturn:
        """Leave the row out."""
        raise Rejected(reason)

    def is_paused(self) -> bool:
        return self.is_on_hold

    def log(self, message: str, **fields: Any) -> None:
        self.lines.append(f"{message} {fields}")


async def run_rows(operator: Any, items: list[Any], ctx: Context | None = None) -> list[Any]:
    """Do what a node does: set up, call, tear down."""
    await operator.setup()
    try:
        return [await operator.process_item(item, ctx or Context()) for item in items]
    finally:
        await operator.teardown()
