"""What can go wrong with a connection, in words of this package: two libraries make connections here."""

from __future__ import annotations


class NetworkError(OSError):
    """The root of the errors of connections. Their texts say why."""


class ConnectError(NetworkError):
    """Raised when a connection cannot be made, so that no request was sent.

    Args:
        text: why.
        may_pass: whether the same call may succeed later.
        is_lookup: whether the host was not found by its name.
        is_untrusted: whether the certificate of the host, or of the proxy, is not trusted.
        proxy_status: the HTTP status by which a proxy refused the tunnel; None when none did.
    """

    def __init__(
        self,
        text: str,
        *,
        may_pass: bool = True,
        is_lookup: bool = False,
        is_untrusted: bool = False,
        proxy_status: int | None = None,
    ) -> None:
        super().__init__(text)
        self.may_pass = may_pass
        self.is_lookup = is_lookup
        self.is_untrusted = is_untrusted
        self.proxy_status = proxy_status


class DisconnectError(NetworkError):
    """Raised when a connection ends before the response on it is complete."""


class NoHttpError(NetworkError):
    """Raised when what comes is no HTTP."""
