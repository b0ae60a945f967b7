"""Names of encodings, and which of them can be read record by record."""

from __future__ import annotations

import codecs
from functools import cache
from typing import Any

from llm_datagen.config.checks import check_text
from llm_datagen.errors import ConfigError

_ASCII = bytes(range(128))
_ESCAPING = frozenset(("idna", "punycode", "unicode_escape", "raw_unicode_escape"))


def check_encoding_name(name: str, value: Any) -> str:
    """Return the plain name of an encoding in which newlines, commas, quotes and brackets are the bytes of ASCII.

    Raises:
        ConfigError: when it is another one, saying how to convert a file.
    """
    text = check_text(name, value)
    try:
        plain = codecs.lookup(text).name
    except (LookupError, ValueError):
        raise ConfigError(f"{name}: no encoding is called {value!r}; such as 'utf-8', 'latin-1' or 'cp1252'") from None
    if plain == "utf-8-sig":
        raise ConfigError(f"{name}: a byte order mark needs no other name: 'utf-8' reads a file with and without it")
    if plain.replace("-", "_") in _ESCAPING:
        raise ConfigError(f"{name} cannot be {value!r}, which is no encoding of files; such as 'latin-1' or 'cp1252'")
    if not _is_like_ascii(plain):
        raise ConfigError(
            f"{name} cannot be {value!r}: records are split at bytes, and in this encoding the bytes of newlines, "
            "commas or quotes also mean something else; convert the file, such as with: iconv -f "
            f"{text.upper()} -t UTF-8"
        )
    return plain


def check_text_encoding(name: str, value: Any) -> str:
    """Return the plain name of an encoding in which whole files are written; any but those that escape signs.

    Raises:
        ConfigError: when it is none.
    """
    text = check_text(name, value)
    try:
        found = codecs.lookup(text)
        "".encode(text)  # a LookupError, when it is none of text
    except (LookupError, ValueError):
        found = None
    if found is None or found.name.replace("-", "_") in _ESCAPING:
        raise ConfigError(f"{name}: no encoding of files is called {value!r}; such as 'utf-8', 'utf-8-sig' or 'cp1252'")
    return found.name


@cache
def _is_like_ascii(encoding: str) -> bool:
    """Return whether no byte below 128 ever means anything but the sign that it is in ASCII."""
    if encoding == "utf-8":
        return True  # by its design; asking it takes longer than all other settings together, at every start
    try:
        if _ASCII.decode(encoding) != _ASCII.decode() or _ASCII.decode().encode(encoding) != _ASCII:
            return False
    except (LookupError, ValueError, TypeError):
        return False
    return not any(_is_character(bytes((lead, trail)), encoding) for lead in range(128, 256) for trail in range(128))


def _is_character(pair: bytes, encoding: str) -> bool:
    """Return whether two bytes, of which the second is one of ASCII, are something else than two characters."""
    try:
        return not pair.decode(encoding).endswith(chr(pair[1]))
    except ValueError:
        return False
