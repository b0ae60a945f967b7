"""Which types the values of a run state have. Whoever reads one relies on them, so `state_file.parse` checks them.

A key that is not named here may hold anything; one that is missing was not known to the version that wrote the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, NewType, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from llm_datagen.runs.status import NodeReport, Status
from llm_datagen.streams.formats.json_text import dumps

_Time = NewType("_Time", str)
"""A time in ISO 8601, such as ``2026-11-30T07:33:31.568+00:00``."""

_SHOWN = 60


class _Usage(TypedDict):
    """Who was asked; all else are numbers."""

    provider: str
    model: str


_Reference = TypedDict(
    "_Reference", {"use": str, "args": list[Any], "with": dict[str, Any], "batch": bool, "cannot": str}, total=False
)


class _Writer(TypedDict):
    queue_size: int


class _Export(TypedDict, total=False):
    kind: str
    path: str
    options: dict[str, Any]
    rows: int
    failed: int


class _Node(TypedDict, total=False):
    """What there is of a node besides its `NodeReport`, as far as somebody looks at it who does not run it."""

    operator: str
    operator_ref: _Reference | None
    input_uri: str
    output_uri: str
    usage: list[_Usage]
    parallel_size: int
    batch_size: int
    batch_by: str
    writer_config: _Writer
    data_config: dict[str, Any]
    executor: str
    id_scheme: str
    id_prefix: str
    source_column: str | None
    id_column: str | None
    kept_free: str | None
    is_root: bool
    is_output: bool
    follow_input: bool
    ordered: bool
    keep_rejected: bool
    target: int | dict[str, Any] | None
    rate: float | None
    max_lead: int | None
    fingerprint: dict[str, Any]
    input_fingerprint: Any
    rows_untold: int
    input_bounds: dict[str, dict[str, int | None]]
    changes: list[dict[str, Any]]
    changed_from: dict[str, Any]
    keeps_state: bool
    calls_at_once: int


class _Ended(TypedDict):
    version: int
    at: _Time


class _Run(TypedDict, total=False):
    pipeline_id: str
    status: Status
    reason: str
    paused: bool
    error: str | None
    failed_row: str | None
    usage: list[_Usage]
    cost: float | None
    pid: int | None
    host: str | None
    software: dict[str, str]
    created_at: _Time | None
    started_at: _Time | None
    ended_at: _Time | None
    updated_at: _Time
    config: dict[str, Any]
    nodes: list[_Node]
    files: dict[str, str]
    log_file: str | None
    version: int
    version_of: str
    versions_ended: list[_Ended]
    reset: dict[str, Any]
    exports: list[_Export]
    shards: dict[str, Any]
    ids_checked: dict[str, str]


_WORDS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    NoneType: "null",
    _Time: "a time such as 2026-11-30T07:33:31.568+00:00",
}


def wrong_value(run_state: Any) -> str:
    """Return what is wrong with the first value of a run state that has another type than it must have, and where.

    Empty when all are right: ``nodes[0].rows_in is "many", and must be a whole number``.
    """
    return _wrong(run_state, _Run, "") or ""


def _wrong(value: Any, hint: Any, place: str) -> str | None:
    """Return what is wrong with the first value that is not of a type, at any depth."""
    kind = type(value)
    if kind not in _kinds(hint) or (kind is str and not _is_text(value, hint)):
        shown = dumps(value).decode()
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        return f"{place or 'it'} is {shown}, and must be {_named(hint)}"
    parts: Iterable[tuple[Any, Any, str]] = ()
    if kind is dict:
        fields, other, needed = _fields(hint)
        if missing := sorted(needed - value.keys()):
            return f"{place}.{missing[0]} is missing"
        parts = ((each, fields.get(name, other), f"{place}.{name}" if place else name) for name, each in value.items())
    elif kind is list and (inner := _inner(hint)) is not Any:
        parts = ((each, inner, f"{place}[{number}]") for number, each in enumerate(value))
    wrong = (_wrong(*part) for part in parts if part[1] is not Any)
    return next((found for found in wrong if found is not None), None)


@cache
def _kinds(hint: Any) -> frozenset[type]:
    """Return which types the values of JSON have that are of a type."""
    if hint is Any:
        return frozenset((str, int, float, bool, NoneType, dict, list))
    if get_origin(hint) in {Union, UnionType}:
        return frozenset[type]().union(*map(_kinds, get_args(hint)))
    if hint is float:
        return frozenset((float, int))
    if hint is _Time or _is_choice(hint):
        return frozenset((str,))
    return frozenset((dict if is_typeddict(hint) else get_origin(hint) or hint,))


@cache
def _fields(hint: Any) -> tuple[Mapping[str, Any], Any, frozenset[str]]:
    """Return the types of the values in an object, by their names, that of all others, and which must be there."""
    chosen = _chosen(hint, dict)
    if not is_typeddict(chosen):
        return {}, (get_args(chosen) or (Any,))[-1], frozenset()
    hints = get_type_hints(chosen)
    fields = {**get_type_hints(NodeReport), **hints} if chosen is _Node else hints
    return fields, float if chosen is _Usage else Any, chosen.__required_keys__


@cache
def _inner(hint: Any) -> Any:
    """Return the type of the values in a list."""
    return (get_args(_chosen(hint, list)) or (Any,))[0]


def _chosen(hint: Any, kind: type) -> Any:
    """Return which of the types that a value may have is of a kind."""
    of_union = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
    return next(each for each in of_union if kind in _kinds(each))


def _is_text(value: str, hint: Any) -> bool:
    """Return whether a text is one that a type has."""
    of_union = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
    return any(
        each in {str, Any} or (each is _Time and _is_time(value)) or (_is_choice(each) and value in set(each))
        for each in of_union
    )


def _is_choice(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, StrEnum)


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _named(hint: Any) -> str:
    if get_origin(hint) in {Union, UnionType}:
        return " or ".join(map(_named, get_args(hint)))
    if _is_choice(hint):
        return "one of " + ", ".join(hint)
    return _WORDS.get(hint) or ("a list" if list in _kinds(hint) else "an object")
