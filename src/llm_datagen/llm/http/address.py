"""Where calls go: the address of an endpoint, checked, and its key."""

from __future__ import annotations

from pydantic import SecretStr
from yarl import URL

from llm_datagen.errors import ConfigError
from llm_datagen.llm.http.adapters import ChatAdapter, OpenAIAdapter

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
"""Hosts that are this machine."""
_OTHER_APIS = ("/completions", "/responses", "/embeddings", "/models", "/messages")
"""Ends of URLs of other APIs than chat completions, behind which there are none."""


class Address:
    """Where calls go, checked: an http(s) URL without credentials.

    Args:
        base_url: such as ``https://api.openai.com/v1``; None: what the environment or the adapter says. Blanks around
            it, and the path of the calls at its end, are left out.
        adapter: speaks the API of the provider.
        model: the model that is called.

    Attributes:
        adapter: the same.
        host: the host's name, which stands for the provider in reports.
        label: the URL of the calls as errors show it.

    Raises:
        ConfigError: when `base_url` cannot be used.
    """

    def __init__(self, base_url: str | None, adapter: ChatAdapter | None = None, model: str = "") -> None:
        self.adapter = adapter or OpenAIAdapter()
        url = _checked(base_url or self._default_url())
        call, _, query = self.adapter.path(model).partition("?")
        path = url.raw_path.rstrip("/")
        end = next((end for end in (call, *self.adapter.url_ends) if end and path.endswith(end)), "")
        path = path.removesuffix(end).rstrip("/")
        wrong = next((end for end in _OTHER_APIS if path.endswith(end)), None)
        if wrong is not None and isinstance(self.adapter, OpenAIAdapter):
            raise ConfigError(
                f"base_url ends in {wrong!r}, and calls go to {call!r} behind it: leave {wrong!r} out, "
                f"such as {str(url.origin())!r} and what stands before it"
            )
        self.url = url.with_path(path + call, encoded=True, keep_query=True)
        added = {name: value for name, value in URL.build(query_string=query).query.items() if name not in url.query}
        self.url = self.url.extend_query(added)
        self.host = url.host or ""
        self.label = str(self.url.with_query(None))

    def _default_url(self) -> str:
        found = self.adapter.default_url()
        if not found and self.adapter.base_url_env:
            raise ConfigError(
                f"nobody says where the endpoint is: give base_url, or set the environment variable "
                f"{self.adapter.base_url_env}"
            )
        return found

    @property
    def is_loopback(self) -> bool:
        """Whether the calls stay on this machine."""
        return self.host in LOOPBACK


def checked_key(api_key: str | None) -> SecretStr | None:
    """Return the key, wrapped so that it does not show, or None when it is blank.

    Raises:
        ConfigError: when it cannot be sent; the message does not show it.
    """
    key = (api_key or "").strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigError("api_key holds characters that cannot be sent in an HTTP header")
    return SecretStr(key) if key else None


def _checked(base_url: str) -> URL:
    if not isinstance(base_url, str):
        raise ConfigError(f"base_url must be a text, not {base_url!r}")
    base_url = base_url.strip()
    try:
        url = URL(base_url)
        has_user = url.user is not None or url.password is not None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"base_url is not a URL: {error}") from error
    if has_user:
        raise ConfigError("base_url holds a user or password: give the key as api_key instead")
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"base_url must start with http:// or https:// and a host, not {base_url!r}")
    if any(char.isspace() or not char.isprintable() for char in base_url):
        raise ConfigError(f"base_url holds blanks or characters that do not show: {base_url!a}: leave them out")
    if url.raw_fragment:
        raise ConfigError(f"base_url holds a '#', and what follows it would not be sent: leave it out of {base_url!r}")
    return url
