"""What the system knows of a connection, and the event loop does not yet, or does not tell.

A loop with hundreds of calls takes tenths of a second until it reads what came; and how much of a request is not sent
yet, a connection by TLS does not tell.
"""

from __future__ import annotations

import select
from asyncio import BaseTransport


class SocketWatch:
    """Looks at the socket of a connection.

    Args:
        transport: of the connection, which is open.
    """

    def __init__(self, transport: BaseTransport) -> None:
        self._socket = transport.get_extra_info("socket")
        self._events = select.poll()
        self._events.register(self._socket, select.POLLIN | select.POLLOUT)
        self._of_idle = [(self._socket.fileno(), select.POLLOUT)]

    def is_idle(self) -> bool:
        """Return whether it is open, nothing came that is not read yet, nor its end, and nothing is to be sent.

        A connection that was just made by TLS is not idle: the server sends the tickets of its session.
        """
        # Of one that is closed, the number may be another one's.
        return self._socket.fileno() != -1 and self._events.poll(0) == self._of_idle
