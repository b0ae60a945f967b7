"""Digests of plain data: numbers, texts, times, enums, and containers, dataclasses and pydantic models of them."""

from __future__ import annotations

import dataclasses
from collections import ChainMap, UserDict, UserList, UserString, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from re import Pattern
from string import Template
from types import MappingProxyType, SimpleNamespace
from typing import Any
from uuid import UUID

from llm_datagen.operators.fingerprint.code import digest
from llm_datagen.operators.secret_names import may_be_secret_name

MOST_LEAVES = 100_000
"""Values that are looked at; of a container beyond that, only the size counts."""

MOST_SHOWN = 40
"""Characters of a value that is kept beside its digest, at most."""

CONTAINERS: tuple[type, ...] = (
    list,
    tuple,
    set,
    frozenset,
    deque,
    dict,
    MappingProxyType,
    ChainMap,
    UserDict,
    UserList,
)
_NUMBERS = bool, int, float, complex, Decimal, Fraction
MOST_DEEP = 50
"""Levels that are looked into of data that holds objects."""
_ATOMS: tuple[type, ...] = (*_NUMBERS, str, bytes, bytearray, date, datetime, time, timedelta, timezone, UUID, range)


Look = Callable[[Any], tuple[str, dict[str, Any] | None]]


def data_digest(value: Any, look: Look | None = None) -> str | None:
    """Return a digest of data; None when it cannot be read, or, without `look`, when it is not all plain data.

    Args:
        value: the data; with `look`, any object.
        look: takes what is no plain data; returns a text that stands for it, and attributes that count, if any.
    """
    try:
        return digest(repr(_Plain(look).of(value)).encode(errors="surrogatepass"))
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
    kinds = {bool, int, float, type(None), *([str] if shows_text else [])}
    if plain is None or type(value) not in kinds or may_be_secret_name(name):
        return plain
    text = repr(value)
    return f"{plain} {text}" if len(text) <= MOST_SHOWN else plain


class _NotPlain(Exception):  # noqa: N818 - it is no error
    """Raised on what is no plain data."""


class _Plain:
    """One value, as what is hashed."""

    def __init__(self, look: Look | None = None) -> None:
        self._look = look
        self._left = MOST_LEAVES
        self._within: list[int] = []

    def of(self, value: Any) -> Any:
        """Return a key of the value that is the same in every process."""
        kind = type(value)
        if value is None or kind in _ATOMS:
            return kind.__name__, repr(value)
        if isinstance(value, PurePath):  # where a program lies is no setting
            return kind.__name__, "" if value.is_absolute() else str(value)
        if isinstance(value, Enum):
            return kind.__qualname__, value.name, self.of(value.value)
        if isinstance(value, Template | UserString):
            return kind.__qualname__, value.template if isinstance(value, Template) else value.data
        if isinstance(value, Pattern):
            return "Pattern", value.pattern, value.flags
        if id(value) in self._within:
            return "…"
        if self._look and len(self._within) >= MOST_DEEP:
            return kind.__qualname__
        self._within.append(id(value))
        try:
            return self._container(value, kind)
        finally:
            self._within.pop()

    def _container(self, value: Any, kind: type) -> Any:
        fields: Any = None
        if isinstance(value, MappingProxyType):
            return kind.__name__, self.of(dict(value))
        if isinstance(value, ChainMap | UserDict | UserList):
            return kind.__name__, self.of(value.maps if isinstance(value, ChainMap) else value.data)
        if isinstance(value, dict | list | tuple | set | frozenset | deque):
            self._left -= len(value)
            if self._left < 0:
                return kind.__name__, len(value)
            if isinstance(value, dict):
                return kind.__name__, [(self.of(key), self.of(part)) for key, part in value.items()]
            is_set = isinstance(value, set | frozenset)
            parts = [self.of(part) for part in (sorted(value, key=_type_of) if is_set else value)]
            return kind.__name__, sorted(map(repr, parts)) if is_set else parts
        if isinstance(value, SimpleNamespace) or hasattr(kind, "__attrs_attrs__") or hasattr(kind, "model_fields"):
            fields = vars(value)
        elif dataclasses.is_dataclass(kind):
            fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(kind)}
        elif isinstance(value, str | bytes | int | float) and not isinstance(value, type):
            base = next(one for one in (str, bytes, int, float) if isinstance(value, one))
            return kind.__qualname__, base.__repr__(value)
        if self._look is not None:
            return self._seen(value, fields, self._look)
        if fields is None or isinstance(value, type):
            raise _NotPlain
        return kind.__qualname__, [(name, self.of(part)) for name, part in fields.items()]

    def _seen(self, value: Any, fields: Any, look: Look) -> Any:
        plain = None if fields is None or isinstance(value, type) else data_digest(value)
        if plain is not None:
            return type(value).__qualname__, plain
        name, attributes = look(value)
        if attributes is None:
            return name, None
        self._left -= len(attributes)
        return name, [] if self._left < 0 else [(key, self._attribute(part)) for key, part in attributes.items()]

    def _attribute(self, value: Any) -> Any:
        """Of what an object holds, data counts; another object in it, such as its client, by the type."""
        plain = data_digest(value)
        if plain is not None or self._look is None or holds_data(value):
            return plain or self.of(value)
        return self._look(value)[0]


def holds_data(value: Any) -> bool:
    """Return whether something is a container, or an object that is made of fields."""
    kind = type(value)
    is_model = dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__") or hasattr(kind, "model_fields")
    return is_model or isinstance(value, CONTAINERS)


def _type_of(value: Any) -> str:
    return str(getattr(value, "__qualname__", type(value).__qualname__))
