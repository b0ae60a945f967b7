"""Row ids: how `_i` is formed, read and compared (M14).

A root row's id is its number in the input, from 0; under the scheme "text", behind a prefix: ``r0``. A row that stays
one row keeps its id. A child of a row that became several is named after its parent: ``10_0, 10_1`` ("path", "text"),
or ``10 * 10000 + k`` ("numeric").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llm_datagen.config import IdScheme, InputIds
from llm_datagen.errors import ConfigError, IdError

Id = int | str
"""An id as it stands on disk: a whole number for root rows, text for their descendants (scheme "path")."""

ID_FIELD = "_i"
DATA_FIELD = "data"

KEPT_FIELD = "_i_in"
"""The column that takes an `_i` which a row of the pipeline's input has already."""

TEXT_PREFIX = "r"
"""What ids of root rows begin with under the scheme "text"."""

END_NAME = "end"
"""What stands for the parent in the ids of rows that an operator gives at the end of its source: ``end_0`` …"""

_IS_OF_END = re.compile(rf"{END_NAME}[0-9]*_[0-9]+([_~].*)?").fullmatch
"""Ids of rows at the end of a source, and of all that is made of them: ``end_0``, of a second node ``end2_0``."""

SOURCES_FIELD = "_sources"
"""The column with the ids of the rows that a row stands for, where its operator says so; see `Derived`."""

NUMERIC_WIDTH = 10_000
"""Children a row may have under the scheme "numeric"."""

NUMERIC_LIMIT = 2**63 - 1
"""The largest id under the scheme "numeric": a signed 64-bit integer."""

# Whole numbers as they are written, of a size that fits in 64 bits: "007" and longer ones are text.
_IS_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}|-[1-9][0-9]{0,17}").fullmatch


# A letter first, so that no reader takes the id for a number or a date; no digit last, so that the ids of two shards
# differ ("s1" + "10", "s11" + "0"); neither "_" nor "~", which ids of children and of batches are read by.
_IS_PREFIX = re.compile(r"[A-Za-z](?:[A-Za-z0-9.-]{0,62}[A-Za-z.-])?").fullmatch


def check_id_prefix(prefix: Any) -> str:
    """Return `prefix` if ids of root rows can begin with it.

    Raises:
        ConfigError: when they cannot.
    """
    if not isinstance(prefix, str) or not _IS_PREFIX(prefix):
        raise ConfigError(
            f"id_prefix must begin with a letter, go on with letters, digits, dots and dashes, and not end in a digit "
            f"(such as 'shard3-'; 64 characters at most), not {prefix!r}"
        )
    return prefix


@dataclass(frozen=True, slots=True)
class RootNames:
    """How the rows of a pipeline's input are named: by their number, whatever they carry.

    Attributes:
        prefix: what an id begins with; "" for ids that are numbers.
        input_ids: what becomes of an `_i` that a row has already; see `InputIds`.
        has_values: whether ``{"_i": …, "data": …}`` is a value that is no object, in the form that the engine writes;
            else it is a row of the user's, with two columns.
    """

    prefix: str = ""
    input_ids: InputIds = "keep"
    has_values: bool = True

    def name(self, number: int) -> Id:
        """Return the id of the row with this number."""
        return f"{self.prefix}{number}" if self.prefix else number

    def number(self, row_id: Id) -> int | None:
        """Return the number of the row with this id; None when no row can have it."""
        if not self.prefix:
            return row_id if isinstance(row_id, int) else None
        found = parse_id(row_id.removeprefix(self.prefix)) if isinstance(row_id, str) else None
        return found if isinstance(found, int) and found >= 0 and self.name(found) == row_id else None

    def put(self, row: dict[str, Any], number: int) -> None:
        """Name a row, in place. What it has as its `_i` goes to the first of `_i_in`, `_i_in_2`, … that is free.

        Raises:
            ValueError: when it has one, and that is refused.
        """
        if ID_FIELD in row:
            if self.input_ids == "refuse":
                raise ValueError(
                    f"it has an {ID_FIELD} of its own, {row[ID_FIELD]!r:.100}, which the engine needs for its ids; "
                    f'rename the column, or use input_ids="keep", which keeps it as {KEPT_FIELD}'
                )
            looks_like_value = len(row) == 2 and DATA_FIELD in row and next(iter(row)) == ID_FIELD
            if looks_like_value and self.has_values:
                pass  # nothing but the value is the user's
            elif self.input_ids == "keep":
                row[_free_field(row)] = row[ID_FIELD]
            elif looks_like_value:
                del row[ID_FIELD]  # behind its data, it is not taken for a value
        row[ID_FIELD] = self.name(number)


def _free_field(row: dict[str, Any]) -> str:
    name, count = KEPT_FIELD, 1
    while name in row:
        count += 1
        name = f"{KEPT_FIELD}_{count}"
    return name


def is_of_end(row_id: Id) -> bool:
    """Return whether a row was given at the end of a source, or made of one that was.

    Such an id only says which of these rows it is, by its place: another run may give other rows there.
    """
    return isinstance(row_id, str) and _IS_OF_END(row_id) is not None


def child_of_end(row_id: Id) -> str | None:
    """Return what an id has behind that of a row of an end: ``_1`` of ``end_0_1``, nothing of ``end_0``.

    None when it says more of places: that of a row of a whole batch.
    """
    found = _IS_OF_END(row_id) if isinstance(row_id, str) else None
    child = (found[1] or "") if found else None
    return None if child is None or "~" in child else child


def root_names(entry: Mapping[str, Any]) -> RootNames | None:
    """Return how the run state of a node says that its source's rows are named; None when they have their ids already.

    A run of an older version dropped an `_i` of the input, and took what looked like a value for one; it goes on so.
    """
    if not entry["is_root"]:
        return None
    return RootNames(entry.get("id_prefix", ""), entry.get("input_ids", "drop"), entry.get("input_values", True))


def path_child(parent: Id, k: int) -> Id:
    """Return the id of child `k` of `parent`: ``<parent>_<k>``."""
    return f"{parent}_{k}"


def numeric_child(parent: Id, k: int) -> Id:
    """Return the id of child `k` of `parent`: ``parent * 10000 + k``.

    Raises:
        IdError: when it does not fit, or `parent` is not a number.
    """
    if not isinstance(parent, int):
        raise IdError(f'row {parent!r} has no numeric id; use id_scheme="path"')
    if k >= NUMERIC_WIDTH:
        raise IdError(
            f'row {parent} has more than {NUMERIC_WIDTH} children, which id_scheme="numeric" cannot tell apart; '
            'use id_scheme="path"'
        )
    child = parent * NUMERIC_WIDTH + k
    if child > NUMERIC_LIMIT:
        raise IdError(
            f'child {k} of row {parent} would need an id past 64 bits under id_scheme="numeric"; use id_scheme="path"'
        )
    return child


def child_maker(scheme: IdScheme) -> Callable[[Id, int], Id]:
    """Return the function that names children under `scheme`."""
    return path_child if scheme == "path" else numeric_child


def span_id(first: Id, last: Id, k: int, scheme: IdScheme) -> Id:
    """Return the id of row `k` that a batch made out of itself as a whole: ``first~last_k``.

    Raises:
        IdError: under the scheme "numeric", which has no such ids.
    """
    if scheme == "numeric":
        raise IdError(
            f"a batch (rows {first} to {last}) returned rows that belong to no single item, which "
            'id_scheme="numeric" cannot name; let them carry their item\'s _i, or use id_scheme="path"'
        )
    return f"{first}~{last}_{k}"


def parse_id(text: str) -> Id:
    """Return an id that was written as text (in CSV) as the id it was."""
    return int(text) if _IS_NUMBER(text) else text


def check_id(value: Any) -> Id:
    """Return `value` if it can be an id.

    Raises:
        ValueError: when it is neither a whole number nor text.
    """
    if value.__class__ is not str and value.__class__ is not int:
        raise ValueError(f"{ID_FIELD} must be a whole number or text, not {value!r}")
    return value


def id_text(row_id: Any) -> str:
    """Return an id as the text (in CSV) that `parse_id` reads back as the same id.

    Raises:
        ValueError: when it is no id, or text that would be read as another one.
    """
    text = str(check_id(row_id))
    if not text or parse_id(text) != row_id:
        what = f"text, and would be read back as {'no id' if not text else 'a number'}"
        if isinstance(row_id, int):
            what = "over 64 bits, and would be read back as text"
        raise ValueError(f"the id {row_id!r} is {what} from CSV: write to jsonl://, or give the rows other ids")
    return text


def parent_of(row_id: Id) -> Id | None:
    """Return the id of the row that `row_id` is a child of, if it is one, by its form (scheme "path"); see `ids`.

    Of a row that was made of a whole batch, that is the batch: ``first~last``.
    """
    if not isinstance(row_id, str) or "_" not in row_id:
        return None
    return _id_of(row_id.rpartition("_")[0])


def batch_ends(name: Id | None) -> list[tuple[Id, Id]]:
    """Return the first and the last row that a batch of this name may have; the rows may be of batches themselves."""
    if not isinstance(name, str) or "~" not in name:
        return []
    parts = name.split("~")
    return [(_id_of("~".join(parts[:at])), _id_of("~".join(parts[at:]))) for at in range(1, len(parts))]


def _id_of(text: str) -> Id:
    return int(text) if text.isdigit() else text


def numeric_source(row_id: int, made: list[int] | None) -> int:
    """Return the source row of a row under the scheme "numeric", given the range of ids that its node has made."""
    return row_id // NUMERIC_WIDTH if made is not None and made[0] <= row_id <= made[1] else row_id
