"""Fingerprints of operators, and what differs between two of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Number
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.operators.fingerprint.code import digest, is_code_part, is_same_code
from llm_datagen.operators.fingerprint.data import MOST_SHOWN
from llm_datagen.operators.fingerprint.kinds import SHORT
from llm_datagen.operators.fingerprint.own import note_own_state, subject_of, without_own_state
from llm_datagen.operators.fingerprint.walk import SOME_UNREAD, UNREAD, Parts, parts_of
from llm_datagen.operators.secret_names import may_be_secret_name

_DATA = re.compile("([0-9a-f]{16})(?: (.*))?", re.DOTALL)
_HASH = re.compile("[0-9a-f]{16,}")

_OBJECT = re.compile(r"((?:\w+: )?[^\s:]+|\w+ of \d+) ([0-9a-f]{16})")
FILE = "image file "
"""What a part is called by, before the path, that is what a file holds; it is compared where both have it."""
_MODULE_VALUE = re.compile("global __\\w+__")


def fingerprint_of(operator: Any) -> Parts:
    """Return the fingerprint of an operator. Runs no code of the user's, but a method `fingerprint`.

    An attribute `version` alone is all of it.

    Raises:
        ConfigError: when `version` cannot be read, or is neither a text nor a number.
    """
    kind = type(operator).__qualname__
    try:
        version, own = getattr(operator, "version", None), getattr(operator, "fingerprint", None)
    except Exception as error:
        raise ConfigError(f"operator {kind}: its `version` cannot be read: {type(error).__name__}: {error}") from error
    if version is not None and not callable(version) and not isinstance(version, str | Number):
        raise ConfigError(f"operator {kind}: `version` must be a text or a number, not {type(version).__qualname__}")
    if version is not None and not callable(version):
        return {"version": _short(version)}
    try:
        parts = own() if callable(own) else parts_of(operator)
        parts = {str(name): None if value is None else _kept(str(name), value) for name, value in parts.items()}
    except Exception:  # noqa: BLE001 - a method of the user's
        parts = {"fingerprint": None}
    return without_own_state(operator, parts)


def changed_parts(known: Mapping[str, str | None], now: Mapping[str, str | None]) -> list[str]:
    """Return the names of the parts in which two fingerprints differ, and which are new or gone."""
    if ("version" in known) != ("version" in now):
        return ["version (new)" if "version" in now else "version (gone)"]
    changes = []
    for name in dict.fromkeys([*known, *now]):
        if _MODULE_VALUE.fullmatch(name):  # such as __name__, which a script and an import of it have differently
            continue
        if name.startswith(FILE) and not (name in known and name in now):  # the argument that names it is a part, too
            continue
        if name.endswith(UNREAD):  # it is reported separately; earlier versions did not record it
            continue
        if name not in now or name not in known:
            changes.append(f"{name} ({'new' if name in now else 'gone'})")
        elif not _is_same(name, known[name], now[name]):
            changes.append(name)
    return changes


def unread_parts(now: Mapping[str, str | None]) -> list[str]:
    """Return the parts of an operator that raise when they are read, so that an edit of them is not seen."""
    return [
        name.removesuffix(UNREAD)
        for name, value in now.items()
        if value is None and (name.endswith(UNREAD) or name in (SOME_UNREAD, "fingerprint"))
    ]


def shown_change(name: str, known: Mapping[str, str | None], now: Mapping[str, str | None]) -> str:
    """Return the name of a part that changed, and both its values where they are known: "limit 3 → 4"."""
    values = [_text_of(name, parts.get(name)) for parts in (known, now)]
    return name if None in values else f"{name} {values[0]} → {values[1]}"


def _text_of(name: str, value: str | None) -> str | None:
    data = _DATA.fullmatch(value or "")
    if data:
        return data[2]
    if _OBJECT.fullmatch(value or ""):
        return None
    if value is None or is_code_part(name) or _HASH.fullmatch(value) or len(value) > MOST_SHOWN:
        return None
    return repr(value)


def data_of(operator: Any) -> Parts:
    """Return digests of the plain data that an operator, which has no `version` here, is made of: no code."""
    parts = parts_of(subject_of(operator))
    kinds = ("attribute ", "closure variable ", "default of ", "global ", "argument ")
    return {name: value for name, value in parts.items() if name.startswith(kinds)}


def changed_data(before: Parts, now: Parts) -> list[str]:
    """Return the names of the data that changed; an object that came or went, such as a client, is none."""
    names = dict.fromkeys([*before, *now])
    return [name for name in names if before.get(name) != now.get(name) and _is_data(before.get(name), now.get(name))]


def _is_data(before: str | None, now: str | None) -> bool:
    return all(value is None or _DATA.fullmatch(value) is not None or " of " in value for value in (before, now))


def note_changes(operator: Any, before: Parts) -> None:
    """Record that a run has changed parts of its operator; `before` has their values before the run."""
    now = fingerprint_of(operator)
    names = [name for name in dict.fromkeys([*before, *now]) if before.get(name, "") != now.get(name, "")]
    known = [name for name in names if before.get(name, "") is not None and now.get(name, "") is not None]
    note_own_state(operator, {name: (before[name],) if name in before else () for name in known})


def _is_same(name: str, known: str | None, now: str | None) -> bool:
    if known == now or known is None or now is None:
        return True
    one, other = _DATA.fullmatch(known), _DATA.fullmatch(now)
    if one and other:
        return one[1] == other[1]
    if is_code_part(name):
        return is_same_code(known, now)
    return not one and not other and _is_same_object(known, now)


def _is_same_object(known: str, now: str) -> bool:
    """Compare "Client", "package: Client" and "Client 0123456789abcdef" by what both have."""
    one, other = _OBJECT.fullmatch(known), _OBJECT.fullmatch(now)
    if one and other and one[2] != other[2]:
        return False
    kinds = [found[1] if found else text for found, text in ((one, known), (other, now))]
    if sum(": " in kind for kind in kinds) == 1 and (one or other):
        kinds = [kind.rpartition(": ")[2] for kind in kinds]
    return kinds[0] == kinds[1]


def _kept(name: str, value: Any) -> str:
    is_secret = may_be_secret_name(name) and not _DATA.fullmatch(str(value)) and not is_code_part(name)
    return digest(str(value).encode(errors="surrogatepass")) if is_secret else _short(value)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHORT else digest(text.encode(errors="surrogatepass"))
