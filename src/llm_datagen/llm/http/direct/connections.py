"""The connections to one endpoint: made when there is none, kept for the next call, and closed at the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections import deque
from collections.abc import Sequence
from weakref import WeakSet

from aiohappyeyeballs import AddrInfoType, start_connection
from yarl import URL

from llm_datagen.llm.http.direct.connection import Connection
from llm_datagen.llm.http.network_errors import ConnectError

CONNECTS_WITHIN = 10.0
"""Seconds that a connection may take to be made."""
_KEPT_SECONDS = 15.0
"""How long a connection is kept that nobody uses."""
_LOOKED_UP_SECONDS = 10.0
"""How long the addresses of a host are believed."""
_OTHER_FAMILY_AFTER = 0.25
"""Seconds after which the next address of a host is tried beside the one before (RFC 8305)."""

_SILENT_SECONDS = 60
"""After which the system sends a sign of life: a device between forgets a connection that is silent for minutes, which
it is while a model thinks."""


class Connections:
    """Makes connections to an endpoint, and keeps them. Used on one event loop.

    How many calls are open at once is the node's affair.

    Args:
        url: of the endpoint.
        tls: how its certificate is checked; None: for http.
    """

    def __init__(self, url: URL, tls: ssl.SSLContext | None) -> None:
        self._host = (url.raw_host or "").rstrip(".")
        self._where = f"{url.host_subcomponent}:{url.port}"
        self._port = url.port or 0
        self._tls = tls
        self._idle: deque[Connection] = deque()  # the one that was used last is the last one
        self._open: WeakSet[Connection] = WeakSet()
        self._lookup: asyncio.Future[Sequence[AddrInfoType]] | None = None
        self._looked_up = 0.0
        self._turn = 0  # how many connections were begun; whose address is the first, see `_in_turn`
        self._is_closed = False

    async def take(self, seconds: float) -> Connection:
        """Return a connection on which nobody waits for a response.

        Args:
            seconds: that a new one may take to be made; more than `CONNECTS_WITHIN` are not waited for.

        Raises:
            ConnectError: when none can be made, or not in time.
        """
        self._close_old()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_clean and connection.is_idle():
                return connection
            connection.abort()
        connection = await self._connect(min(seconds, CONNECTS_WITHIN))
        self._open.add(connection)
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next call, if it is of use."""
        self._close_old()
        if connection.is_clean:
            self._idle.append(connection)

    async def close(self) -> None:
        """Close every connection, also those that are in use, or are being made."""
        self._is_closed = True
        for connection in list(self._open):
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # in which the event loop closes their sockets

    def _close_old(self) -> None:
        until = asyncio.get_running_loop().time() - _KEPT_SECONDS
        while self._idle and self._idle[0].last_used < until:
            self._idle.popleft().abort()

    async def _connect(self, seconds: float) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                addresses = await self._addresses()
                sock = await start_connection(addresses, happy_eyeballs_delay=_OTHER_FAMILY_AFTER)
                _keep_alive(sock)
                host = None if self._tls is None else self._host
                _, connection = await loop.create_connection(Connection, sock=sock, ssl=self._tls, server_hostname=host)
        except TimeoutError as error:
            raise ConnectError(f"no connection to {self._where} within {seconds:g} s") from error
        except ConnectError:
            raise
        except (OSError, UnicodeError) as error:
            raise self._connect_error(error) from error
        if self._is_closed or not connection.is_clean or (self._tls is None and not connection.is_idle()):
            connection.abort()
            who = "this side closed it" if self._is_closed else f"{self._where} closed the connection, or answered,"
            raise ConnectError(f"{who} before it was asked")
        return connection

    def _connect_error(self, error: Exception, *, is_lookup: bool = False) -> ConnectError:
        return ConnectError(
            f"cannot connect to {self._where}: {str(error) or type(error).__name__}",
            may_pass=not isinstance(error, ssl.SSLError | UnicodeError),
            is_lookup=is_lookup,
            is_untrusted=isinstance(error, ssl.SSLCertVerificationError),
        )

    async def _addresses(self) -> Sequence[AddrInfoType]:
        """Return the addresses of the host. Calls that begin together look them up once."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(socket.gaierror):  # raised when it is a name
            return socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            )
        if self._lookup is None or loop.time() - self._looked_up > _LOOKED_UP_SECONDS:
            self._looked_up = loop.time()
            self._lookup = asyncio.ensure_future(self._look_up())
            self._lookup.add_done_callback(self._forget_failed)
        try:
            addresses = await asyncio.shield(self._lookup)
        except OSError as error:  # which one it is, the system does not always say
            raise self._connect_error(error, is_lookup=True) from error
        self._turn += 1
        return _in_turn(addresses, self._turn)

    async def _look_up(self) -> Sequence[AddrInfoType]:
        return await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)

    def _forget_failed(self, lookup: asyncio.Future[Sequence[AddrInfoType]]) -> None:
        """Have the next call look up again; also when nobody waits any more for one that failed."""
        if (lookup.cancelled() or lookup.exception() is not None) and self._lookup is lookup:
            self._lookup = None


def _in_turn(addresses: Sequence[AddrInfoType], turn: int) -> Sequence[AddrInfoType]:
    """Return the addresses, those of each family by turns first: the servers behind a name share the calls."""
    families: dict[int, list[AddrInfoType]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return [each for own in families.values() for each in own[turn % len(own) :] + own[: turn % len(own)]]


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":  # elsewhere it is as the system has it
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENT_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _SILENT_SECONDS)
