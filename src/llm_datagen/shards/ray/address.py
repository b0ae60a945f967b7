"""Addresses of a cluster: whether somebody listens there, and how this machine is reached from it."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from llm_datagen.errors import RunError

_ANSWER_SECONDS = 5.0
_CLIENT_PORT = 10001
_ANY_HOST = "192.0.2.1"
"""Stands for any other host; nobody has this address (RFC 5737)."""


def address_towards(address: str) -> str | None:
    """Return the address by which this machine reaches a cluster; None when that is on this machine, or unknown."""
    split = urlsplit(address if "://" in address else f"//{address}")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:  # no packet is sent
            route.connect((split.hostname if split.port else _ANY_HOST, split.port or _CLIENT_PORT))
            own = str(route.getsockname()[0])
    except (OSError, ValueError):  # of a port that is none, the connection tells
        return None
    return None if own.startswith("127.") else own


def check_that_somebody_listens(address: str) -> None:
    """Check that a port is open: Ray itself looks for minutes.

    Raises:
        RunError: when it is not.
    """
    if address in {"auto", "local"}:
        return
    split = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = split.hostname, split.port or (_CLIENT_PORT if split.scheme else None)
    except ValueError:  # the port is no number
        host = port = None
    if host is None or port is None:
        raise RunError(f"{address!r} is no address of a Ray cluster: ray://host:10001 or host:6379 is")
    try:
        socket.create_connection((host, port), _ANSWER_SECONDS).close()
    except OSError as error:
        hint = "" if split.scheme else "; from a machine that is no node of it, the address is ray://host:10001"
        raise RunError(f"no Ray cluster answers at {address}: {error}{hint}") from None
