"""One connection of our own: what a call on it comes to when several things happen at once."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from llm_datagen.llm.http.direct.connection import Connection
from llm_datagen.llm.http.network_errors import DisconnectError, NoHttpError
from llm_datagen.llm.http.response import Response

from .raw_server import answer, turns


@asynccontextmanager
async def exchange() -> AsyncIterator[tuple[Connection, asyncio.Future[Response]]]:
    """Yield a connection on which a call has just been sent, and the call."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, sock=ours)
    call = asyncio.ensure_future(connection.exchange(b"", 1000, lambda _: None, loop.time() + 10))
    await asyncio.sleep(0)
    with theirs:
        yield connection, call


def test_a_call_that_is_cancelled_when_its_response_has_just_come_closes_its_connection() -> None:
    """Nobody gives it back."""

    async def cancel() -> None:
        async with exchange() as (connection, call):
            connection.data_received(answer("a"))
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert not connection.is_clean
            assert connection._transport.is_closing()

    asyncio.run(cancel())


def test_of_several_failures_of_a_connection_the_first_is_told() -> None:
    async def fail() -> None:
        async with exchange() as (connection, call):
            connection.data_received(b"no HTTP\r\n")
            connection.data_received(b"no HTTP\r\n")
            connection.connection_lost(None)
            await call

    with pytest.raises(NoHttpError, match="what came is no HTTP"):
        asyncio.run(fail())


def test_a_timeout_of_the_network_is_a_failure_of_the_connection() -> None:
    async def fail() -> None:
        async with exchange() as (connection, call):
            connection.connection_lost(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
            await call

    with pytest.raises(DisconnectError, match="Connection timed out"):
        asyncio.run(fail())


def test_a_connection_that_the_server_closes_is_not_used_again_while_the_loop_does_not_yet_call_it_lost() -> None:
    """What is written in that time is not sent."""
    was_clean: list[bool] = []

    class Watched(Connection):
        def connection_lost(self, exc: Exception | None) -> None:
            was_clean.append(self.is_clean)
            super().connection_lost(exc)

    async def close() -> None:
        ours, theirs = socket.socketpair()
        _, connection = await asyncio.get_running_loop().create_connection(Watched, sock=ours)
        assert connection.is_clean
        theirs.close()
        await turns()

    asyncio.run(close())
    assert was_clean == [False]
