"""Secrets are taken out of what an endpoint or a library says, before it becomes part of an error."""

from __future__ import annotations

import traceback

from pydantic import SecretStr
from yarl import URL

_SHORTEST = 8
"""Characters of a value in a URL's query that may be a key; shorter ones are versions and switches."""


class Mask:
    """Knows the secrets of an endpoint: its key, and what is in the query of its URL.

    Args:
        api_key: the key; None when there is none.
        url: where calls go.
    """

    def __init__(self, api_key: SecretStr | None, url: URL) -> None:
        values = [value for value in url.query.values() if len(value) >= _SHORTEST]
        raw = [part.partition("=")[2] for part in url.raw_query_string.split("&")]
        values += [value for value in raw if len(value) >= _SHORTEST]
        if api_key is not None:
            values.append(api_key.get_secret_value())
        # The longest first: a secret may be a part of another.
        self._secrets = [SecretStr(value) for value in sorted(set(values), key=len, reverse=True)]

    def hidden(self, text: str) -> str:
        """Return `text` with ``***`` in place of every secret."""
        for secret in self._secrets:
            text = text.replace(secret.get_secret_value(), "***")
        return text

    def cause(self, error: BaseException) -> BaseException | None:
        """Return `error`, to raise another from; None when its traceback would show a secret."""
        shown = "".join(traceback.format_exception(error))
        return error if self.hidden(shown) == shown else None
