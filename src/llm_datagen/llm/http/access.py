"""How one endpoint is reached: by which proxy and certificates, and with which key."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.network import Proxy, proxy_of, trusted_certificates
from llm_datagen.llm.http.redaction import Redaction
from llm_datagen.llm.secret import Secret

_USER_AGENT = "llm-datagen"


class Access:
    """What every request to an endpoint needs.

    Args:
        address: where calls go.
        api_key: sent as the adapter does it; None sends none.

    Attributes:
        redaction: knows the secrets; once this is open, also that of the proxy.
        proxy: that requests go through; None for none. Known once this is open.
        tls: how certificates are checked, of the endpoint and of the proxy; None where none are. Known like that, too.
    """

    def __init__(self, address: Address, api_key: Secret | None) -> None:
        self.redaction = Redaction(api_key, address.url)
        self.proxy: Proxy | None = None
        self.tls: ssl.SSLContext | None = None
        self._address = address
        self._api_key = api_key

    async def open(self) -> None:
        """Look into the environment.

        Raises:
            ConfigError: when it names a proxy, or certificates, that cannot be used.
        """
        self.proxy = proxy = proxy_of(self._address)
        if proxy is not None:
            self.redaction = Redaction(self._api_key, self._address.url, proxy.password)
        if self._address.url.scheme == "https" or (proxy is not None and proxy.url.scheme == "https"):
            self.tls = await asyncio.to_thread(trusted_certificates)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return headers of a request with those that say who asks, and carry the key."""
        key = self._api_key.get_secret_value() if self._api_key else None
        return {"User-Agent": _USER_AGENT, **headers, **self._address.adapter.headers(key)}
