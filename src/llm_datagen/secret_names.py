"""Which names are those of secrets: of arguments, attributes, settings and headers.

What has such a name is never written to an image. A name is looked at word by word, however its words are joined:
``apiKey``, ``x-api-key``, ``params.api_key``.
"""

from __future__ import annotations

import re
from itertools import pairwise

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_SECRETS = {
    *("secret", "secrets", "password", "passwords", "passwd", "passwds", "pwd", "passphrase", "passcode", "pin"),
    *("credential", "credentials", "cookie", "cookies", "auth", "authorization", "token", "apikey", "apikeys"),
}
"""Words that are enough by themselves."""

_WHOSE = {
    *("api", "access", "private", "secret", "auth", "client", "signing", "encryption", "master", "account", "service"),
    *("subscription", "license", "ssh", "hmac", "openai", "anthropic", "azure", "aws", "gcp", "google", "gemini"),
    *("mistral", "groq", "cohere", "openrouter", "deepseek", "together", "hf", "huggingface"),
}
"""Words before "key" that make it a secret: others say what a key is of, such as "sort" or "question"."""

_ABOUT = {"env", "file", "path", "name", "column", "field", "limit", "count", "size", "length", "type", "kind"}
"""Last words of a name of something about a secret: "api_key_env" is a variable's name, "token_limit" a number."""


def is_secret_name(name: str) -> bool:
    """Return whether what has this name may be a secret."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or words[-1] in _ABOUT:
        return False
    keys = (before for before, word in pairwise(words) if word in {"key", "keys"})
    return not _SECRETS.isdisjoint(words) or any(before in _WHOSE for before in keys)
