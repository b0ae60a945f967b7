"""Paths with fields in them, such as ``{language}-{year}/{shard}.parquet``: each part of an export has one of its own.

Rows that are parted never lie in one file, whatever their values are. So between two fields in one name stands a sign,
which is escaped in the values before it, where values stand behind it, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from llm_datagen.errors import ConfigError

SHARD = "shard"
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""The partition of rows that have no value in its column: what other programs call it, too."""

FIELD = re.compile(r"\{([^{}:]*)(?::(0?\d+)d?)?\}")

_PLAIN = " !#$&'()+,;@[]^`~"
_MAY_BE_IN_VALUES = frozenset(f"{_PLAIN}-_.")
_MOST_TEXT = 200
_MOST_NAME_BYTES = 255
_MOST_KEY_BYTES = 1024
_MOST_PATH_BYTES = 4095


@dataclass(frozen=True, slots=True)
class Field:
    """What stands for a value in a path.

    Attributes:
        name: the column, or `SHARD`.
        digits: how many digits a number has; empty: as many as it takes.
        sign: what is escaped in its values; empty: nothing more than in any path.
        is_first: whether a name begins with it.
    """

    name: str
    digits: str
    sign: str
    is_first: bool

    def text(self, number: int, values: Mapping[str, Any]) -> str:
        """Return what stands in the path of a part: of its number, and of the values of its rows.

        Raises:
            ValueError: when the value cannot be in a path.
        """
        if self.name == SHARD:
            return f"{number:{self.digits}}"
        name = partition_name(values.get(self.name), is_first=self.is_first)
        return name.replace(self.sign, f"%{ord(self.sign):02X}") if self.sign and name != NO_VALUE else name


@dataclass(frozen=True, slots=True)
class Template:
    """A path with fields in it.

    Attributes:
        path: the path.
        texts: what stands before the fields, and behind the last one.
        fields: the fields.
    """

    path: str
    texts: tuple[str, ...]
    fields: tuple[Field, ...]

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, path: str) -> Template:
        """Return the template that a path is."""
        found = list(FIELD.finditer(path))
        begins, ends = [each.start() for each in found], [each.end() for each in found]
        texts = tuple(path[end:begin] for end, begin in zip([0, *ends], [*begins, len(path)], strict=True))
        fields = tuple(
            Field(each[1], each[2] or "", _sign(texts, found, at), not texts[at] or texts[at].endswith("/"))
            for at, each in enumerate(found)
        )
        return cls(path, texts, fields)

    def filled(self, number: int, values: Mapping[str, Any]) -> str:
        """Return the path of a part.

        Raises:
            ValueError: when a value cannot be in a path.
        """
        filled = [field.text(number, values) + text for field, text in zip(self.fields, self.texts[1:], strict=True)]
        return self.texts[0] + "".join(filled)

    def glob(self) -> str:
        """Return a glob that all of its paths match."""
        return re.sub(r"\*+", "*", "*".join(self.texts))

    def check_apart(self) -> None:
        """Check that paths tell values apart. Runs that an older version has made may have others.

        Raises:
            ConfigError: when between two fields of a name nothing stands, or only what values may hold.
        """
        for one, text, other in zip(self.fields, self.texts[1:], self.fields[1:], strict=False):
            if "/" not in text and not _signs_in(text):
                what = f"only {text!r}, which values may hold, too," if text else "nothing"
                raise ConfigError(
                    f"{self.path}: {what} stands between {{{one.name}}} and {{{other.name}}}, so different values "
                    "could make one file; put a sign there that is no letter and no digit, such as "
                    f"{{{one.name}}}-{{{other.name}}}"
                )


def partition_name(value: Any, *, is_first: bool = True) -> str:
    """Return the text in a path for the value of a column.

    Args:
        value: the value.
        is_first: whether a name begins with it, which must not be a hidden one.

    Raises:
        ValueError: when it is an object or a list, or too long.
    """
    if value is None or value == "":
        return NO_VALUE
    if isinstance(value, dict | list | float):
        raise ValueError(  # noqa: TRY004 - a row's fault
            f"rows are not parted by {'a list' if isinstance(value, list) else type(value).__name__}"
        )
    text = str(value).lower() if isinstance(value, bool) else str(value)
    name = quote(text, safe=_PLAIN)
    if name.startswith("."):
        name = name.replace(".", "%2E")
    elif name.startswith("_") and (is_first or name == NO_VALUE):
        name = f"%5F{name[1:]}"
    if len(name) > _MOST_TEXT:
        raise ValueError(f"its value is too long for a name of a file: {text[:40]!r}…")
    return name


def check_length(place: str, path: str) -> None:
    """Check that a file may have a path.

    Args:
        place: the bucket; empty on this machine.
        path: the path, or the key in the bucket.

    Raises:
        ValueError: when it, or a name in it, is too long.
    """
    most = _MOST_KEY_BYTES if place else _MOST_PATH_BYTES
    longest = max(path.split("/"), key=len)
    if len(os.fsencode(longest)) > _MOST_NAME_BYTES or len(os.fsencode(path)) > most:
        raise ValueError(f"its values are too long for a name of a file: {longest[:40]!r}…")


def _sign(texts: tuple[str, ...], found: list[re.Match[str]], at: int) -> str:
    """Return what is escaped in values of a field: a sign behind it, where values of another column follow."""
    if found[at][1] == SHARD or at + 1 == len(found) or "/" in texts[at + 1]:
        return ""
    signs = _signs_in(texts[at + 1])
    if not signs or not _MAY_BE_IN_VALUES.issuperset(signs):
        return ""
    for later in range(at + 1, len(found)):
        if "/" in texts[later]:
            break
        if found[later][1] != SHARD:
            return signs[0]
    return ""


def _signs_in(text: str) -> str:
    """Return the signs that values can do without: no letters and digits, of which escapes are made."""
    return "".join(sign for sign in text if not (sign.isascii() and (sign.isalnum() or sign == "%")))
