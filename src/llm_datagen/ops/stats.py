"""A profile of the columns."""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Iterator, Sequence
from typing import Any

from llm_datagen.operators import INodeContext, IState
from llm_datagen.ops.base import BOOKKEEPING, StateOperator, as_columns, row_of, whole_number
from llm_datagen.ops.distinct import distinct_values, note_value
from llm_datagen.ops.keys import digest_of

_SHOWN_CHARS = 100
_KINDS: dict[type, str] = {
    str: "text",
    bool: "boolean",
    int: "number",
    float: "number",
    list: "list",
    dict: "object",
    type(None): "null",
}


class Stats(StateOperator):
    """Gives, at the end of the input, a row per column with what is in it: a profile. The rows themselves are filtered.

    A row of it has ``column``, ``rows``, ``missing``, ``kinds`` (such as ``{"text": 9, "null": 1}``), ``distinct`` and
    ``distinct_is_exact``; of numbers ``min``, ``max``, ``mean`` (null when no float can hold the sum); of texts and
    lists ``length_min``, ``length_max``, ``length_mean`` (characters, elements); and ``most_frequent``: values with
    their counts.

    State: a summary per column, and up to `exact_distinct` values of each with their counts, on disk. Beyond so many,
    `distinct` is an estimate with a standard error of 1.6 % (one in twenty is more than 3.3 % off), never less than
    what was counted nor more than can be; and `most_frequent` is of the values that came first.

    Args:
        columns: which; None for all, without those that only say where a row comes from.
        most_frequent: how many values are shown, at most.
        exact_distinct: how many different values per column are counted exactly.
    """

    def __init__(
        self, columns: str | Sequence[str] | None = None, *, most_frequent: int = 10, exact_distinct: int = 10_000
    ) -> None:
        self.columns = None if columns is None else as_columns("columns", columns)
        self.most_frequent = whole_number("most_frequent", most_frequent, 0)
        self.exact_distinct = whole_number("exact_distinct", exact_distinct)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Take the row into the profile.

        Raises:
            RowDataError: when it is a bare value.
        """
        row, state = row_of(item), ctx.state
        state["rows"] = state.get("rows", 0) + 1
        names = [name for name in row if name not in BOOKKEEPING] if self.columns is None else self.columns
        for name in names:
            if name in row:
                self._note(state, name, row[name])

    def _note(self, state: IState, name: str, value: Any) -> None:
        known = state.get(("column", name)) or {"kinds": {}, "distinct": 0}
        kind = _KINDS[type(value)]
        known["kinds"][kind] = known["kinds"].get(kind, 0) + 1
        if kind == "number":
            _measure(known, "number", value)
        elif kind in ("text", "list"):
            _measure(known, "length", len(value))
        if value is not None:
            self._count(state, name, value, known)
        state["column", name] = known

    def _count(self, state: IState, name: str, value: Any, known: dict[str, Any]) -> None:
        digest = digest_of(value)
        found = state.get(("value", name, digest))
        if found is not None:
            state["value", name, digest] = [found[0] + 1, found[1]]
            return
        if known["distinct"] < self.exact_distinct:
            known["distinct"] += 1
            state["value", name, digest] = [1, _shown(value)]
            return
        if not known.get("estimated"):
            known["estimated"] = True
            for key, _ in state.items("value", name):
                assert isinstance(key, tuple)
                note_value(state, name, _number(str(key[2])))
        note_value(state, name, _number(digest))

    def finish(self, ctx: INodeContext) -> Iterator[dict[str, Any]]:
        """Yield the profile, in the order of the names of the columns; of columns that were named, in theirs."""
        state = ctx.state
        rows = state.get("rows", 0)
        names = self.columns
        if names is None:
            names = [str(key[1]) for key, _ in state.items("column") if isinstance(key, tuple)]
        for name in names:
            known = state.get(("column", name)) or {"kinds": {}, "distinct": 0}
            is_exact = not known.get("estimated")
            profile = {
                "column": name,
                "rows": rows,
                "missing": rows - sum(known["kinds"].values()),
                "kinds": known["kinds"],
                "distinct": known["distinct"] if is_exact else _estimate(state, name, known),
                "distinct_is_exact": is_exact,
            }
            for what, prefix in (("number", ""), ("length", "length_")):
                if what in known:
                    least, most, total, count = known[what]
                    profile |= {f"{prefix}min": least, f"{prefix}max": most, f"{prefix}mean": _mean(total, count)}
            yield {**profile, "most_frequent": self._most_frequent(state, name)}

    def _most_frequent(self, state: IState, name: str) -> list[dict[str, Any]]:
        counts = sorted((found for _, found in state.items("value", name)), key=lambda found: -found[0])
        return [{"value": value, "count": count} for count, value in counts[: self.most_frequent]]


def _estimate(state: IState, name: str, known: dict[str, Any]) -> int:
    """Return how many different values there are, about: more than were counted, no more than all others add."""
    counted: int = known["distinct"]
    values = sum(known["kinds"].values()) - known["kinds"].get("null", 0)
    others: int = values - sum(count for _, (count, _) in state.items("value", name))
    return min(max(distinct_values(state, name), counted + 1), counted + others)


def _measure(known: dict[str, Any], what: str, number: float) -> None:
    least, most, total, count = known.get(what) or (number, number, 0, 0)
    known[what] = [min(least, number), max(most, number), _sum(total, number), count + 1]


def _sum(total: float | None, number: float) -> float | None:
    """Return a sum; None when a float cannot hold it."""
    if total is None:
        return None
    try:
        found = total + number
    except OverflowError:
        return None
    return None if isinstance(found, float) and math.isinf(found) else found


def _mean(total: float | None, count: int) -> float | None:
    try:
        return None if total is None else total / count
    except OverflowError:
        return None


def _number(digest: str) -> int:
    return int.from_bytes(b64decode(digest)[:8], "big")


def _shown(value: Any) -> Any:
    """Return a value as it is shown: what is long, shortened."""
    if isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else repr(value)
    return value if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
