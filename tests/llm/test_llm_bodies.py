"""Bodies have a bound, packed or not; and a machine that has no files left is no endpoint that is down."""

from __future__ import annotations

import asyncio
import gzip
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from llm_datagen.errors import ConfigError
from llm_datagen.llm import LLMOperator, LLMRequestError
from llm_datagen.llm.errors import LocalResourceError
from llm_datagen.llm.pool.circuit_breaker import FailureKind, failure_kind
from llm_datagen.llm.pool.retry import RetryLayer
from llm_datagen.llm.types import ChatAnswer, ChatRequest

from ..kit import programs
from .chat_server import ChatServer, Context, Reply, completion, run_rows

ROOT = Path(__file__).parents[2]
ROW = {"_i": 5, "q": "x"}
BOMB = gzip.compress(bytes(64 << 20))


def raw(body: bytes, *headers: str, status: str = "200 OK") -> Reply:
    """Return a response of these bytes."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return Reply("", raw="\r\n".join([*lines, "", ""]).encode() + body)


@contextmanager
def endless(status: str) -> Iterator[tuple[str, list[int]]]:
    """Serve a body without an end to every call, until the client goes; the second of the pair are the bytes sent."""
    sent: list[int] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client:
                client.recv(1 << 16)
                client.sendall(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\r\n".encode())
                sent.append(0)
                try:
                    while sent[-1] < 1 << 30:
                        sent[-1] += client.send(b" " * (1 << 16))
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1", sent
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data, wbits=-15)),
        ("identity", bytes),
    ],
)
def test_an_answer_that_is_packed_is_unpacked(server: ChatServer, encoding: str, pack: Any) -> None:
    body = orjson.dumps(completion("yes" * 30_000))
    server.reply = lambda seen: raw(pack(body), f"Content-Encoding: {encoding}")
    (row,) = asyncio.run(run_rows(server.operator(), [ROW]))
    assert row["answer"] == "yes" * 30_000
    assert server.seen[0].headers["accept-encoding"] == "gzip, deflate"


def test_a_body_that_grows_when_it_is_unpacked_is_read_up_to_the_bound(server: ChatServer) -> None:
    server.reply = lambda seen: raw(BOMB, "Content-Encoding: gzip")
    ctx = Context()
    with pytest.raises(LLMRequestError, match="row 5 sent more than 1,000,000 bytes: raise max_resp") as caught:
        asyncio.run(run_rows(server.operator(max_response_bytes=1_000_000, max_retries=3), [ROW], ctx))
    assert type(caught.value) is LLMRequestError
    assert len(server.seen) == 1, "the next one would be as long"
    assert ctx.usage == [{"provider": "127.0.0.1", "model": "tiny", "requests": 1}]


@pytest.mark.slow
@pytest.mark.process
def test_unpacking_takes_no_more_memory_than_the_bound() -> None:
    program = """
import asyncio, resource, sys
from llm_datagen.llm.http.body import _Inflater

bomb = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
inflater, found = _Inflater(), 0
for at in range(0, len(bomb), 65536):
    found += len(inflater.unpack(bomb[at : at + 65536], 1_000_001 - found))
    if found > 1_000_000:
        break
print(found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], input=BOMB, capture_output=True, check=True)
    found, kibibytes = map(int, done.stdout.split())
    assert found == 1_000_001
    assert kibibytes < 16_000, "of 64 MiB"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("200 OK", "sent more than 300,000 bytes"),
        ("500 Internal Server Error", "HTTP 500 .*more than 65,536 bytes of blanks"),
    ],
)
def test_a_body_without_an_end_is_cut_at_the_read(status: str, message: str) -> None:
    with endless(status) as (base_url, sent):
        operator = LLMOperator(
            "x", model="m", base_url=base_url, max_retries=0, outage_after=0, max_response_bytes=300_000
        )
        with pytest.raises(LLMRequestError, match=message) as caught:
            asyncio.run(run_rows(operator, [ROW]))
        assert len(str(caught.value)) < 1500
    # What was sent beyond the bound lay in the buffers of the two sockets.
    assert all(count < 64 << 20 for count in sent)


@pytest.mark.parametrize(
    "reply",
    [
        raw(b"\x1f\x8bno gzip at all", "Content-Encoding: gzip"),
        raw(orjson.dumps(completion("yes")), "Content-Encoding: gzip"),
        raw(gzip.compress(orjson.dumps(completion("yes")))[:-20], "Content-Encoding: gzip"),
        raw(b"yes", "Content-Encoding: br"),
        raw(orjson.dumps(completion("caf\u00e9")).decode().encode("latin-1"), "X-Text: latin-1"),
    ],
)
def test_a_body_that_cannot_be_unpacked_or_is_not_utf_8_is_asked_for_again(server: ChatServer, reply: Reply) -> None:
    replies = [reply, Reply(completion("yes"))]
    server.reply = lambda seen: replies[len(server.seen) - 1]
    assert asyncio.run(run_rows(server.operator(max_retries=1), [ROW])) == [{**ROW, "answer": "yes"}]


def test_a_body_nested_without_end_is_a_failure_like_others(server: ChatServer) -> None:
    server.always("[" * 100_000)
    with pytest.raises(LLMRequestError, match="did not send a chat completion"):
        asyncio.run(run_rows(server.operator(), [ROW]))


def test_a_bound_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_response_bytes must be a whole number"):
        LLMOperator("hi", model="m", max_response_bytes=0)


@pytest.mark.process
def test_too_many_open_files_are_no_outage_and_the_row_waits_for_one(server: ChatServer) -> None:
    program = f"""
import asyncio, os, resource
from llm_datagen.llm import LLMOperator
from tests.llm.chat_server import Context

async def ask():
    operator = LLMOperator(
        "x", model="m", base_url={server.base_url!r}, max_retries=0, outage_after=0, prices={{"input": 1, "output": 1}}
    )
    await operator.setup()
    files, pauses = [], []
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    while True:
        try:
            files.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            break

    async def sleep(seconds, request):
        pauses.append(seconds)
        if len(pauses) == 8:
            while files:
                os.close(files.pop())

    operator._transport._sleep = sleep
    ctx = Context()
    print(await operator.process_item({{"_i": 5}}, ctx), len(pauses), ctx.lines)
    await operator.teardown()

asyncio.run(ask())
"""
    done = programs.run(["-c", program], cwd=ROOT)
    assert done.stdout == "{'_i': 5, 'answer': 'yes'} 8 []\n", done.stderr
    assert len(server.seen) == 1


def test_a_shortage_of_files_that_lasts_fails_the_run_and_no_row() -> None:
    class Short:
        calls = 0

        async def open(self) -> None: ...
        async def close(self) -> None: ...
        async def complete(self, request: ChatRequest) -> ChatAnswer:
            self.calls += 1
            raise LLMRequestError("this machine has no files left", may_pass=True, is_free=True, is_local=True)

    async def sleep(seconds: float, request: ChatRequest) -> None: ...

    short = Short()
    layer = RetryLayer(short, max_retries=0, retry_wait=1.0, sleep=sleep)
    with pytest.raises(LocalResourceError, match="no files left") as caught:
        asyncio.run(layer.complete(ChatRequest(messages=[], params={}, model="m")))
    assert short.calls == 21
    assert failure_kind(caught.value) is FailureKind.NOT_REACHED
