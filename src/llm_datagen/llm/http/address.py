"""Where calls go: the address of an endpoint, checked, and its key."""

from __future__ import annotations

import functools
from typing import Self

from yarl import URL

from llm_datagen.errors import ConfigError
from llm_datagen.llm.http.adapters import ChatAdapter
from llm_datagen.llm.http.providers.openai import OpenAIAdapter
from llm_datagen.llm.secret import Secret, Wrapped

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
        path: of the calls, behind `base_url`, with a query.
        label: the URL of the calls as errors show it.
        base: the URL that stands before the paths of the API, with the query of `base_url`.

    Raises:
        ConfigError: when `base_url` cannot be used.
    """

    def __init__(self, base_url: str | None, adapter: ChatAdapter | None = None, model: str = "") -> None:
        self.adapter = adapter or OpenAIAdapter()
        url = _checked(base_url or self._default_url())
        self.path = self.adapter.path(model)
        call = self.path.partition("?")[0]
        path = url.raw_path.rstrip("/")
        end = next((end for end in (call, *self.adapter.url_ends) if end and path.endswith(end)), "")
        path = path.removesuffix(end).rstrip("/")
        wrong = next((end for end in _OTHER_APIS if path.endswith(end)), None)
        if wrong is not None and isinstance(self.adapter, OpenAIAdapter):
            raise ConfigError(
                f"base_url ends in {wrong!r}, and calls go to {call!r} behind it: leave {wrong!r} out, "
                f"such as {str(url.origin())!r} and what stands before it"
            )
        self.base = url.with_path(path, encoded=True, keep_query=True)
        self.url = self.url_of(self.path)
        self.host = url.host or ""
        self.label = str(self.url.with_query(None))

    @classmethod
    def of_library(cls, scheme: str, provider: str, model: str, adapter: ChatAdapter) -> Self:
        """Return what stands for a model that a library calls, or runs: ``engine://llama/model.gguf``.

        Args:
            scheme: the first part: what kind of library it is.
            provider: what stands for the provider in reports.
            model: the model's name, or its path, of which the last part is shown.
            adapter: reads its answers.
        """
        address = cls.__new__(cls)
        address.adapter = adapter
        address.path = ""
        address.host = provider.lower()
        address.url = URL.build(scheme=scheme, host=address.host, path=f"/{model.rstrip('/').rpartition('/')[2]}")
        address.base = address.url
        address.label = str(address.url)
        return address

    def url_of(self, path: str) -> URL:
        """Return the URL of another path than that of plain calls, at the same endpoint; it may have a query."""
        call, _, query = path.partition("?")
        base = self.base
        added = {name: value for name, value in URL.build(query_string=query).query.items() if name not in base.query}
        return base.with_path(base.raw_path.rstrip("/") + call, encoded=True, keep_query=True).extend_query(added)

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


@functools.lru_cache(maxsize=256)
def host_of(endpoint: str) -> str | None:
    """Return the host of the URL of calls, which stands for the provider in reports."""
    return URL(endpoint).host


def checked_key(api_key: Wrapped | str | None) -> Secret | None:
    """Return the key, wrapped so that it does not show, or None when it is blank.

    Raises:
        ConfigError: when it is no text, or cannot be sent; the message does not show it.
    """
    key: object = api_key
    if isinstance(api_key, Wrapped) and not isinstance(api_key, type):  # not the class itself
        key = api_key.get_secret_value()
    if key is None:
        return None
    if not isinstance(key, str):
        raise ConfigError(f"api_key must be a text, not a value of type {type(api_key).__name__}")
    key = key.strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigError("api_key holds characters that cannot be sent in an HTTP header")
    return Secret(key) if key else None


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
