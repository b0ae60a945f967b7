"""The way to an endpoint, as the environment says: its proxy, and the certificates that are trusted.

A ``.netrc`` is never read: it would send the password of another service along, or get in the way of the key.
"""

from __future__ import annotations

import base64
import errno
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from yarl import URL

from llm_datagen.errors import ConfigError
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.network_errors import ConnectError

CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Environment variables that name a file of trusted certificates; the first that is set counts."""
_LOCAL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL}
"""What a connection fails of on this side: no file, buffer or port is free."""


class Proxy(NamedTuple):
    """A proxy that calls go through.

    Attributes:
        url: without user and password.
        headers: what it wants to be told: user and password; empty when there are none.
        password: what must not be shown.
    """

    url: URL
    headers: Mapping[str, str]
    password: str = ""


def proxy_of(address: Address) -> Proxy | None:
    """Return the proxy that the environment names for an endpoint; None for none, and for one on this machine.

    ``http_proxy``, ``https_proxy`` and ``all_proxy`` in small or capital letters; ``no_proxy`` names the hosts without.

    Raises:
        ConfigError: when it is none that can be used; no password is shown.
    """
    if address.is_loopback:
        return None
    import urllib.request

    if urllib.request.proxy_bypass(f"{address.host}:{address.url.port}"):
        return None
    known = urllib.request.getproxies()
    name = address.url.scheme if address.url.scheme in known else "all"
    given = known.get(name, "").strip()
    if not given:
        return None
    try:
        url = URL(given if "://" in given else f"http://{given}")
        is_usable = url.scheme in ("http", "https") and bool(url.host)
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigError(
            f"the proxy of the environment variable {name}_proxy cannot be used: it must be http://host:port; change "
            f"it, or name {address.host} in no_proxy"
        )
    if url.user is None and url.password is None:
        return Proxy(url, {})
    told = base64.b64encode(f"{url.user or ''}:{url.password or ''}".encode()).decode()
    return Proxy(url.with_user(None), {"Proxy-Authorization": f"Basic {told}"}, url.password or "")


def trusted_certificates() -> ssl.SSLContext:
    """Return how the certificates of endpoints are checked. Reads files.

    Raises:
        ConfigError: when the file that the environment names cannot be used.
    """
    name = next((name for name in CA_VARIABLES if os.environ.get(name)), None)
    if name is None:
        return ssl.create_default_context()
    path = Path(os.environ[name])
    try:
        if path.is_dir():
            return ssl.create_default_context(capath=str(path))
        return ssl.create_default_context(cafile=str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}, the certificates that the environment variable {name} names, cannot be used: {error} "
            "(correct the variable, or unset it)"
        ) from error


def is_local_shortage(error: BaseException) -> bool:
    """Return whether a connection failed because this machine has no file, buffer or port left."""
    seen: BaseException | None = error
    if isinstance(error, ConnectError) and error.is_lookup and _has_no_file():
        return True  # looking up a name takes files, and does not say what it failed of
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _LOCAL:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _has_no_file() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in _LOCAL
    return False
