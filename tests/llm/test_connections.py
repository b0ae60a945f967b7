"""Connections of our own: how they are made, kept for the next call, and closed; nothing is left open."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import ssl
import sys
import threading
from asyncio import StreamReader, StreamWriter
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.http.client import HttpTransport
from llm_datagen.llm.http.direct.connection import Connection
from llm_datagen.llm.http.direct.direct_post import DirectPost
from llm_datagen.llm.http.network import CA_VARIABLES
from llm_datagen.llm.types import ChatAnswer

from .raw_server import REQUEST, answer, request, request_of, server, transport, turns

UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\n\r\n" + answer("until it closes").partition(b"\r\n\r\n")[2]


class Hosts(dict[str, list[str]]):
    """The addresses of hosts, in place of what the network says.

    Attributes:
        looked_up: the names that were asked for.
        answers: whether they are told.
    """

    def __init__(self) -> None:
        super().__init__()
        self.looked_up: list[str] = []
        self.answers = threading.Event()
        self.answers.set()
        self._look_up = socket.getaddrinfo

    def look_up(self, host: str, port: int, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return self._look_up(host, port, family, type, proto, flags)
        self.looked_up.append(host)
        self.answers.wait(10)
        host.encode("idna")
        if host not in self:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found for each in self[host] for found in self._look_up(each, port, family, type, proto, flags)]


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    found = Hosts()
    monkeypatch.setattr(socket, "getaddrinfo", found.look_up)
    return found


async def echo(reader: StreamReader, writer: StreamWriter, number: int) -> None:
    """Answer every request with what it asks."""
    while True:
        _, body = await request_of(reader)
        writer.write(answer(json.loads(body)["messages"][0]["content"]))


async def failure(opened: HttpTransport) -> tuple[str, bool, bool, bool]:
    """Make a call that fails; returns what it says, and whether it may pass, is free, and was served."""
    with pytest.raises(LLMRequestError) as caught:
        await opened.complete(REQUEST)
    error = caught.value
    assert "secret" not in str(error)
    return str(error), error.may_pass, error.is_free, error.is_served


def post_of(opened: HttpTransport) -> DirectPost:
    assert isinstance(opened._post, DirectPost)
    return opened._post


def port_of(base_url: str) -> int:
    return int(base_url.rpartition(":")[2].partition("/")[0])


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "says", "may_pass"),
    [
        ("127.0.0.1", "Connect call failed ('127.0.0.1'", True),
        ("[::1]", "cannot connect to [::1]:", True),
        ("two", "Connect call failed ('127.0.0.1'", True),
        ("unknown", "Name or service not known", True),
        ("a" * 64, "label", False),
    ],
)
def test_a_call_that_no_connection_is_made_for_costs_nothing(
    host: str, says: str, may_pass: bool, hosts: Hosts
) -> None:
    hosts["two"] = ["127.0.0.1", "127.0.0.2"]

    async def call() -> tuple[str, bool, bool, bool]:
        async with transport(f"http://{host}:{free_port()}/v1") as opened:
            return await failure(opened)

    text, *told = asyncio.run(call())
    assert says in text
    assert told == [may_pass, True, False]


def test_calls_that_begin_together_look_up_their_host_once_and_a_failed_look_up_is_not_believed(hosts: Hosts) -> None:
    async def calls() -> None:
        async with server(echo) as base_url, transport(base_url.replace("127.0.0.1", "near")) as opened:
            failed = await asyncio.gather(*(failure(opened) for _ in range(5)))
            assert {"Name or service not known" in text for text, *_ in failed} == {True}
            assert hosts.looked_up == ["near"]
            hosts["near"] = ["127.0.0.1"]
            found = await asyncio.gather(*(opened.complete(request(f"q{number}")) for number in range(20)))
            assert [each.text for each in found] == [f"q{number}" for number in range(20)]

    asyncio.run(calls())
    assert hosts.looked_up == ["near", "near"]


def test_the_servers_behind_a_name_share_its_connections(hosts: Hosts) -> None:
    hosts["both"] = ["127.0.0.1", "127.0.0.2"]
    seen: Counter[str] = Counter()

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        seen[writer.get_extra_info("sockname")[0]] += 1
        await request_of(reader)
        writer.write(answer("a", "Connection: close"))
        writer.close()

    async def calls() -> None:
        first = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = first.sockets[0].getsockname()[1]
        try:
            second = await asyncio.start_server(serve, "127.0.0.2", port)
        except OSError:
            first.close()
            pytest.skip("this machine has one address only")
        async with first, second, transport(f"http://both:{port}/v1") as opened:
            for _ in range(10):
                assert (await opened.complete(REQUEST)).text == "a"

    asyncio.run(calls())
    assert seen == {"127.0.0.1": 5, "127.0.0.2": 5}


def test_an_address_that_refuses_or_hangs_is_passed_over(hosts: Hosts) -> None:
    hosts["refusing"] = ["::1", "127.0.0.1"]
    hosts["hanging"] = ["127.0.0.2", "127.0.0.1"]

    async def calls() -> None:
        async with server(echo) as base_url:
            with ExitStack() as sockets:
                full = sockets.enter_context(socket.socket())
                full.bind(("127.0.0.2", port_of(base_url)))
                full.listen(0)
                for _ in range(4):  # after these it takes no more
                    waiting = sockets.enter_context(socket.socket())
                    waiting.setblocking(False)
                    waiting.connect_ex(full.getsockname())
                for host in ("refusing", "hanging"):
                    async with transport(base_url.replace("127.0.0.1", host)) as opened:
                        found = await asyncio.gather(*(opened.complete(REQUEST) for _ in range(2)))
                        assert [each.text for each in found] == ["q", "q"]

    asyncio.run(calls())


def test_a_look_up_that_hangs_is_given_up_and_costs_nothing(hosts: Hosts) -> None:
    """Also when it fails after all, when nobody waits for it."""
    told: list[Any] = []

    async def call() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with transport("http://hanging:80/v1", timeout=0.05) as opened:
            text, *found = await failure(opened)
            assert "no connection to hanging:80 within 0.05 s" in text
            assert found == [True, True, False]
            hosts.answers.set()
            await turns()

    hosts.answers.clear()
    asyncio.run(call())
    gc.collect()
    assert told == []


@pytest.mark.parametrize("first", [answer("unasked"), b""])
def test_a_server_that_has_spoken_or_closed_when_its_connection_is_made_is_not_asked(
    first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = asyncio.BaseEventLoop.create_connection
    requests: list[bytes] = []

    async def spoken(self: asyncio.BaseEventLoop, *arguments: Any, **options: Any) -> Any:
        connection = await connect(self, *arguments, **options)
        server_side, _ = listening.accept()
        server_side.sendall(first)
        server_side.shutdown(socket.SHUT_WR)
        peers.append(server_side)
        return connection

    async def call() -> None:
        async with transport(f"http://127.0.0.1:{listening.getsockname()[1]}/v1") as opened:
            text, *found = await failure(opened)
            assert "closed the connection, or answered, before it was asked" in text
            assert found == [True, True, False]
        with suppress(ConnectionResetError):
            requests.append(peers[0].recv(100))

    peers: list[socket.socket] = []
    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", spoken)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        asyncio.run(call())
    (peer,) = peers
    peer.close()
    assert b"".join(requests) == b""


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (b"", []),
        (b"HTTP/1.1 100 Continue\r\n\r\n", []),
        (answer("late")[:30], []),
        (answer("late")[:-1], [200]),
        (UNTIL_CLOSE, [200]),
    ],
)
def test_a_response_that_does_not_come_to_its_end_is_waited_for_until_the_timeout(
    first: bytes, told: list[int]
) -> None:
    begun: list[int] = []

    async def exchange() -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_connection(Connection, sock=ours)
        call = asyncio.ensure_future(connection.exchange(b"", 1000, begun.append, loop.time() + 0.02))
        await asyncio.sleep(0)
        connection.data_received(first)
        with theirs, pytest.raises(TimeoutError):
            await call
        assert not connection.is_clean
        assert transport.is_closing()

    asyncio.run(exchange())
    assert begun == told


@pytest.fixture
def tls(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What servers need whose certificate is trusted, for this machine."""
    for name in CA_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(CA_VARIABLES[0], str(certificate[0]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.mark.process
def test_a_certificate_that_is_trusted_is_that_of_the_host(
    tls: ssl.SSLContext, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts["other"] = hosts["localhost"] = ["127.0.0.1"]
    connections: list[int] = []

    async def serve(reader: StreamReader, writer: StreamWriter, number: int) -> None:
        connections.append(number)
        await echo(reader, writer, number)

    async def calls() -> None:
        async with server(serve, tls=tls) as base_url:
            for host in ("127.0.0.1", "localhost"):
                async with transport(base_url.replace("127.0.0.1", host)) as opened:
                    assert [(await opened.complete(request(text))).text for text in "abc"] == ["a", "b", "c"]
            assert connections == [1, 2]
            async with transport(base_url.replace("127.0.0.1", "other")) as opened:
                text, *told = await failure(opened)
                assert "Hostname mismatch, certificate is not valid for 'other'" in text
                assert told == [False, True, False]
            monkeypatch.delenv(CA_VARIABLES[0])
            async with transport(base_url) as opened:
                text, *told = await failure(opened)
                assert "certificate verify failed" in text
                assert told == [False, True, False]
        assert connections == [1, 2]

    asyncio.run(calls())


@pytest.mark.process
@pytest.mark.parametrize(
    ("first", "says", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "wrong version number", [False, True, False]),
        (b"", "Connection", [True, True, False]),
        (None, "no connection to 127.0.0.1:", [True, True, False]),
    ],
)
def test_a_server_without_tls_is_told_nothing(
    first: bytes | None, says: str, told: list[bool], tls: ssl.SSLContext
) -> None:
    async def serve(reader: StreamReader, writer: StreamWriter, _: int) -> None:
        assert (await reader.read(1 << 16))[:1] == b"\x16"  # how TLS begins
        writer.write(first or b"")
        if first is None:
            assert await reader.read() == b""

    async def call() -> None:
        timeout = 0.2 if first is None else 60
        async with server(serve) as base_url, transport(base_url.replace("http", "https"), timeout=timeout) as opened:
            text, *found = await failure(opened)
            assert says in text
            assert found == told

    asyncio.run(call())


@pytest.mark.process
def test_a_connection_by_tls_whose_request_was_not_taken_is_not_used_again(tls: ssl.SSLContext) -> None:
    """The next request would wait behind the rest of it."""
    numbers: list[int] = []

    async def serve(reader: StreamReader, writer: StreamWriter, number: int) -> None:
        numbers.append(number)
        if number > 1:
            await echo(reader, writer, number)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await answered.wait()

    async def calls() -> None:
        async with server(serve, tls=tls) as base_url, transport(base_url) as opened:
            with pytest.raises(LLMRequestError, match="HTTP 413"):
                await opened.complete(request("x" * (16 << 20)))
            assert (await opened.complete(request("b"))).text == "b"
            answered.set()

    answered = asyncio.Event()
    asyncio.run(calls())
    assert numbers == [1, 2]


@pytest.mark.process
@pytest.mark.parametrize("says_so", [True, False])
def test_a_response_that_ends_with_its_connection_is_whole(says_so: bool, tls: ssl.SSLContext) -> None:
    """Also when TLS is not ended in due form, as servers do."""

    async def serve(reader: StreamReader, writer: StreamWriter, _: int) -> None:
        await request_of(reader)
        writer.write(UNTIL_CLOSE)
        await turns()
        if not says_so:
            writer.transport.abort()

    async def calls() -> None:
        async with server(serve, tls=tls) as base_url, transport(base_url) as opened:
            assert [(await opened.complete(REQUEST)).text for _ in range(2)] == ["until it closes"] * 2

    asyncio.run(calls())


@pytest.mark.parametrize("is_direct", [True, False])
@pytest.mark.parametrize("last", [b"", answer("another row's"), b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_a_connection_is_not_used_again_after_what_the_loop_had_no_time_to_read(last: bytes, is_direct: bool) -> None:
    """A loop with hundreds of calls reads a connection tenths of a second after something came, or its end."""
    writers: list[StreamWriter] = []
    numbers: list[int] = []

    async def serve(reader: StreamReader, writer: StreamWriter, number: int) -> None:
        writers.append(writer)
        while True:
            _, body = await request_of(reader)
            numbers.append(number)
            writer.write(answer(json.loads(body)["messages"][0]["content"]))

    async def calls() -> None:
        async with server(serve) as base_url, transport(base_url, is_direct=is_direct) as opened:
            assert (await opened.complete(request("a"))).text == "a"
            writers[0].write(last)
            if not last:
                writers[0].write_eof()
            # The loop has no turn between that and the next call.
            assert (await opened.complete(request("b"))).text == "b"

    asyncio.run(calls())
    assert numbers == [1, 2]


def test_a_connection_that_nobody_used_for_fifteen_seconds_is_closed() -> None:
    async def calls() -> None:
        numbers: list[int] = []

        async def serve(reader: StreamReader, writer: StreamWriter, number: int) -> None:
            numbers.append(number)
            await echo(reader, writer, number)

        async with server(serve) as base_url, transport(base_url) as opened:
            await asyncio.gather(*(opened.complete(REQUEST) for _ in range(3)))
            idle = post_of(opened)._connections._idle
            assert len(idle) == len(numbers) == 3
            old = idle[0]
            old.last_used -= 14
            idle[1].last_used -= 13
            await opened.complete(REQUEST)
            assert old.is_clean
            old.last_used -= 1.1
            await opened.complete(REQUEST)
            assert not old.is_clean
            assert len(idle) == 2
            assert sorted(numbers) == [1, 2, 3]

    asyncio.run(calls())


@pytest.mark.parametrize(
    ("first", "says", "is_free"),
    [(b"HTTP/1.0 413 Too Large\r\n\r\nlong", "HTTP 413", True), (b"", "before its response was complete", False)],
)
def test_a_server_that_ends_what_it_sends_before_it_has_read_the_request_is_not_waited_for(
    first: bytes, says: str, is_free: bool
) -> None:
    async def serve(reader: StreamReader, writer: StreamWriter, _: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(first)
        writer.write_eof()
        await ended.wait()

    async def call() -> None:
        async with server(serve) as base_url, transport(base_url, timeout=60) as opened:
            with pytest.raises(LLMRequestError, match=says) as caught:
                await asyncio.wait_for(opened.complete(request("x" * (16 << 20))), 30)
            assert caught.value.is_free == is_free
            ended.set()

    ended = asyncio.Event()
    asyncio.run(call())


def test_a_connection_whose_socket_is_closed_is_not_idle_though_its_number_is_that_of_another() -> None:
    """By TLS, it is closed a turn before the connection is told."""

    async def check() -> list[bool]:
        ours, theirs = socket.socketpair()
        transport, connection = await asyncio.get_running_loop().create_connection(Connection, sock=ours)
        number, others = ours.fileno(), socket.socketpair()
        found = [connection.is_idle()]
        transport.abort()
        await asyncio.sleep(0)
        found.append(connection.is_idle())
        with theirs, others[0], others[1]:
            os.dup2(others[0].fileno(), number)
            found.append(connection.is_idle())
            os.close(number)
        return found

    assert asyncio.run(check()) == [True, False, False]


def test_what_is_in_flight_at_the_close_ends_at_once_and_no_half_of_an_answer_is_one() -> None:
    closed, asked = asyncio.Event(), asyncio.Event()

    async def serve(reader: StreamReader, writer: StreamWriter, _: int) -> None:
        await request_of(reader)
        writer.write(UNTIL_CLOSE)
        asked.set()
        assert await reader.read() == b""
        closed.set()

    async def calls() -> None:
        async with server(serve) as base_url, transport(base_url) as opened:
            call = asyncio.ensure_future(failure(opened))
            await asked.wait()
            await turns()
            await opened.close()
            text, *told = await call
            assert "closed on this side" in text
            assert told == [True, False, True]
            await asyncio.wait_for(closed.wait(), 10)

    asyncio.run(calls())


def test_a_connection_that_is_made_while_all_are_closed_is_closed_too(hosts: Hosts) -> None:
    hosts["near"] = ["127.0.0.1"]
    requests: list[int] = []

    async def serve(reader: StreamReader, writer: StreamWriter, number: int) -> None:
        await request_of(reader)
        requests.append(number)

    async def calls() -> None:
        async with server(serve) as base_url, transport(base_url.replace("127.0.0.1", "near")) as opened:
            call = asyncio.ensure_future(failure(opened))
            await asyncio.sleep(0)
            await opened.close()
            text, *told = await call
            assert "this side closed it before it was asked" in text
            assert told == [True, True, False]
            await turns()

    asyncio.run(calls())
    assert requests == []


@pytest.mark.parametrize("is_direct", [True, False])
def test_what_a_server_says_in_odd_bytes_is_text_in_an_error(is_direct: bool) -> None:
    async def serve(reader: StreamReader, writer: StreamWriter, _: int) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /\xff\xc3\xa4\r\nContent-Length: 0\r\n\r\n")

    async def call() -> None:
        async with server(serve) as base_url, transport(base_url, is_direct=is_direct) as opened:
            with pytest.raises(LLMRequestError, match="it redirects to /\ufffd\u00e4, and"):
                await opened.complete(REQUEST)

    asyncio.run(call())


def faulty(random: Random) -> Any:
    """Return a server that answers what it is asked, and whose connections fail in many ways."""

    async def serve(reader: StreamReader, writer: StreamWriter, number: int) -> None:
        while True:
            _, body = await request_of(reader)
            response = answer(json.loads(body)["messages"][0]["content"])
            await asyncio.sleep(random.random() * 0.01)
            match random.randrange(12):
                case 0:
                    return
                case 1:
                    writer.transport.abort()
                    return
                case 2:
                    writer.write(response[: random.randrange(len(response))])
                    return
                case 3:
                    writer.write(response)
                    return
                case 4:
                    writer.write(response + answer("another row's"))
                case 5:
                    writer.write(b"HTTP/1.1 103 Hints\r\n\r\n" + response[:40])
                    await asyncio.sleep(0)
                    writer.write(response[40:])
                case 6:
                    writer.write(b"no HTTP\r\n\r\n")
                case 7:
                    writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + response.partition(b"\r\n\r\n")[2])
                    return
                case _:
                    writer.write(response)
            await writer.drain()

    return serve


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_call_gets_its_own_answer_or_an_error_whatever_fails_around_it(count: int) -> None:
    random = Random(count)
    loop_errors: list[Any] = []

    async def row(opened: HttpTransport, number: int) -> str:
        for turn in range(3):
            call = asyncio.ensure_future(opened.complete(request(f"{number}/{turn}")))
            if random.random() < 0.1:
                asyncio.get_running_loop().call_later(random.random() * 0.02, call.cancel)
            (found,) = await asyncio.gather(call, return_exceptions=True)
            if isinstance(found, ChatAnswer):
                assert found.text == f"{number}/{turn}"
                return "answered"
            if isinstance(found, LLMRequestError):
                assert "the connection failed" in str(found)
                assert found.may_pass
            else:
                assert isinstance(found, asyncio.CancelledError)
        return "failed"

    async def calls() -> Counter[str]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
        async with server(faulty(random)) as base_url, transport(base_url, timeout=60) as opened:
            found = Counter(await asyncio.gather(*(row(opened, number) for number in range(count))))
            connections = post_of(opened)._connections
            assert {each for each in connections._open if each.is_clean} <= set(connections._idle)
        await turns()
        return found

    found = asyncio.run(calls())
    gc.collect()
    assert found.total() == count
    assert found["answered"] > count * 0.8
    assert [each for each in loop_errors if "StreamReaderProtocol" not in str(each)] == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system says how often")
def test_a_connection_on_which_nothing_comes_for_a_minute_gives_a_sign_of_life() -> None:
    async def options() -> list[int]:
        async with server(echo) as base_url, transport(base_url) as opened:
            connections = post_of(opened)._connections
            connection = await connections.take(10)
            sock = connection._transport.get_extra_info("socket")
            found = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
            found += [sock.getsockopt(socket.IPPROTO_TCP, name) for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)]
            connections.give_back(connection)
            return found

    assert asyncio.run(options()) == [1, 60, 60]
