"""Addresses that hold secrets: refused, because addresses are written into run states, logs and errors."""

from __future__ import annotations

import re

from llm_datagen.errors import ConfigError

_LOCAL = {"file", "jsonl", "csv", "json", "text", "parquet", "arrow", "memory", "merge", "chatml", "hf-folder"}
"""What stands before paths of this machine, in which ``:`` and ``@`` mean nothing."""

_PASSWORD = re.compile(r"([A-Za-z][\w+.-]*):/{1,2}[^/?#@:]*:(?!//).*@", re.DOTALL)
_USER = re.compile(r"(?<=:/)(/?)(?:[^/?#@:]*:(?!//).*|[^/?#@]*)@", re.DOTALL)
_NAME = (
    r"[\w.%-]*(?:token|secret|signature|passw|credential|api[-_]?key|access[-_]?key)[\w.%-]*"
    r"|sig|pwd|auth|googleaccessid"
)
_QUERY = re.compile(rf"(?i)([A-Za-z][\w+.-]*):/.*?[?&](?:{_NAME})=", re.DOTALL)
_VALUE = re.compile(rf"(?i)([?&](?:{_NAME})=)[^&]*")


def masked(uri: str) -> str:
    """Return an address as errors show it: without a user, a password, a token or a signature."""
    return _VALUE.sub(r"\1…", _USER.sub(r"\1…@", uri))


def refuse_secrets(name: str, text: str) -> None:
    """Refuse an address with a password, a token or a signature in it. Paths of this machine may look as they like.

    Raises:
        ConfigError: naming `name`, and the address without what is secret.
    """
    if "@" not in text and "=" not in text:  # there are none: most are plain paths, which are looked at again and again
        return
    for pattern in (_PASSWORD, _QUERY):
        found = next((one for one in pattern.finditer(text) if one[1].lower() not in _LOCAL), None)
        if found is not None:
            raise ConfigError(
                f"{name} is {masked(text)!r}: credentials, tokens and signatures are no part of an address, because "
                "addresses are written into files and logs; leave them out, and give them in the environment"
            )
