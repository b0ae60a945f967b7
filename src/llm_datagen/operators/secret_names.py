"""Which names are those of secrets: of arguments, attributes, settings and headers.

A value with the name of a secret is never written to a run state. An argument is refused; a part of a fingerprint is
stored as a digest. A digest costs little, so a name that only may be a secret's, such as "sort_key", gets one, too.
"""

from __future__ import annotations

import re
from itertools import pairwise

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_SECRETS = {
    *("secret", "secrets", "password", "passwords", "passwd", "passwds", "pwd", "passphrase", "passcode", "pin"),
    *("credential", "credentials", "cookie", "cookies", "auth", "authorization", "token", "apikey", "apikeys"),
    *("authtoken", "accesstoken", "accesskey", "secretkey", "privatekey", "clientsecret"),
}
"""Words that are enough by themselves, however they are joined with others: ``authToken``, ``x-auth-token``."""

_WHOSE = {
    *("api", "access", "private", "secret", "auth", "client", "signing", "encryption", "master", "account", "service"),
    *("subscription", "license", "ssh", "hmac", "openai", "anthropic", "azure", "aws", "gcp", "google", "gemini"),
    *("mistral", "groq", "cohere", "openrouter", "deepseek", "together", "hf", "huggingface"),
}
"""Words before "key" that make it a secret: others say what a key is of, such as "sort" or "question"."""

_ABOUT = {"env", "file", "path", "name", "column", "field", "limit", "count", "size", "length", "type", "kind"}
"""Last words of a name of something about a secret: "api_key_env" is a variable's name, "token_limit" a number."""


_MAY_BE = re.compile("(?i)pass(word|wd|phrase|code)|secret|credential|auth|private|cookie|(key|token)(?!s)")


def may_be_secret_name(name: str) -> bool:
    """Return whether what has this name is a secret, or might be one, for all that the name says."""
    return is_secret_name(name) or _MAY_BE.search(name) is not None


def is_secret_name(name: str) -> bool:
    """Return whether what has this name is a secret, as far as a name can tell."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or words[-1] in _ABOUT:
        return False
    keys = (before for before, word in pairwise(words) if word in {"key", "keys"})
    return not _SECRETS.isdisjoint(words) or any(before in _WHOSE for before in keys)
