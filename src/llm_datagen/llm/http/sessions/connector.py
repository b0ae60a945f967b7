"""The connections of a session. One on which an endpoint spoke unasked is not used again."""

from __future__ import annotations

from ssl import SSLContext
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from llm_datagen.llm.http.socket_watch import SocketWatch


class SpokeUnaskedError(aiohttp.ServerConnectionError):
    """Raised when an endpoint spoke on a new connection before it was asked, so that no request was sent."""


class Connector(aiohttp.TCPConnector):
    """Connections that are kept for the next request, unless something came on them since the last one.

    It would be read as the response to that request: the answer of a row would be another one's.

    Args:
        ssl: as aiohttp has it.
    """

    def __init__(self, *, ssl: bool | SSLContext) -> None:
        super().__init__(limit=0, ssl=ssl)  # how many calls are open at once is the node's affair
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        """Return a connection for a request.

        Raises:
            SpokeUnaskedError: when the endpoint speaks on a new one before it is asked.
            aiohttp.ClientError, OSError, TimeoutError: when there is none.
        """
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None:  # it has just been lost; whoever writes to it is told
                return connection
            was_used = protocol in self._used
            if not protocol.should_close and (not was_used or SocketWatch(transport).is_idle()):
                self._used.add(protocol)
                return connection
            connection.close()
            if not was_used:  # the next one would be the same
                raise SpokeUnaskedError("the server answered before it was asked")
