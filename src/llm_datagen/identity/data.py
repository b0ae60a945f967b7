"""Digests of plain data: numbers, texts, times, enums, and containers, dataclasses and pydantic models of them."""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from re import Pattern
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from llm_datagen.identity.code import digest

MOST_LEAVES = 100_000
"""Values that are looked at; of a container beyond that, only the size counts."""

MOST_SHOWN = 40
"""Characters of a value that is kept beside its digest, at most."""

_SECRET = re.compile(r"(?i)pass(word|wd|phrase|code)|secret|credential|auth|private|\bpin\b|cookie|(key|token)(?!s)")
_NUMBERS = bool, int, float, complex, Decimal
_ATOMS: tuple[type, ...] = (*_NUMBERS, str, bytes, bytearray, date, datetime, time, timedelta, UUID, range)


def data_digest(value: Any) -> str | None:
    """Return a digest of plain data; None when it is none."""
    try:
        return digest(repr(_Plain().of(value)).encode(errors="surrogatepass"))
    except Exception:  # noqa: BLE001 - a value of foreign code may do anything when it is looked at
        return None


def data_part(name: str, value: Any, *, shows_text: bool = False) -> str | None:
    """Return the digest of plain data, and behind it the value, if it is short, for a message of what changed.

    Only what cannot be a secret is kept so: numbers, truth values and None, under a name that is not a secret's.

    Args:
        name: of the part.
        value: the data.
        shows_text: whether texts are kept, too.
    """
    plain = data_digest(value)
    kinds = (bool, int, float, type(None), str) if shows_text else (bool, int, float, type(None))
    if plain is None or type(value) not in kinds or is_secret_name(name):
        return plain
    text = repr(value)
    return f"{plain} {text}" if len(text) <= MOST_SHOWN else plain


def is_secret_name(name: str) -> bool:
    """Return whether what has this name may be a secret."""
    return _SECRET.search(name) is not None


class _NotPlain(Exception):  # noqa: N818 - it is no error
    """Raised on what is no plain data."""


class _Plain:
    """One value, as what is hashed."""

    def __init__(self) -> None:
        self._left = MOST_LEAVES
        self._within: list[int] = []

    def of(self, value: Any) -> Any:
        """Return what tells the value from others, the same in every process."""
        kind = type(value)
        if value is None or kind in _ATOMS or isinstance(value, PurePath):
            return kind.__name__, str(value) if isinstance(value, PurePath) else repr(value)
        if isinstance(value, Enum):
            return kind.__qualname__, value.name
        if isinstance(value, Pattern):
            return "Pattern", value.pattern, value.flags
        if id(value) in self._within:
            return "…"
        self._within.append(id(value))
        try:
            return self._container(value, kind)
        finally:
            self._within.pop()

    def _container(self, value: Any, kind: type) -> Any:
        fields: Any = None
        if isinstance(value, dict | list | tuple | set | frozenset | deque):
            self._left -= len(value)
            if self._left < 0:
                return kind.__name__, len(value)
            if isinstance(value, dict):
                return kind.__name__, [(self.of(key), self.of(part)) for key, part in value.items()]
            parts = [self.of(part) for part in value]
            return kind.__name__, sorted(map(repr, parts)) if isinstance(value, set | frozenset) else parts
        if isinstance(value, SimpleNamespace) or hasattr(kind, "__attrs_attrs__") or hasattr(kind, "model_fields"):
            fields = vars(value)
        elif dataclasses.is_dataclass(kind):
            fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(kind)}
        if fields is None or isinstance(value, type):
            raise _NotPlain
        return kind.__qualname__, [(name, self.of(part)) for name, part in fields.items()]
