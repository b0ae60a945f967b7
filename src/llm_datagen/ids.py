"""Row ids: how `_i` is formed, read and compared (M14).

A root row's id is its number in the input, from 0. A row that stays one row keeps its id. A child of a row that
became several is named after its parent: ``10_0, 10_1`` (scheme "path"), or ``10 * 10000 + k`` ("numeric").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from llm_datagen.config import IdScheme
from llm_datagen.errors import IdError

Id = int | str
"""An id as it stands on disk: a whole number for root rows, text for their descendants (scheme "path")."""

ID_FIELD = "_i"
DATA_FIELD = "data"

NUMERIC_WIDTH = 10_000
"""Children a row may have under the scheme "numeric"."""

NUMERIC_LIMIT = 2**63 - 1
"""The largest id under the scheme "numeric": a signed 64-bit integer."""

# Whole numbers as they are written, of a size that fits in 64 bits: "007" and longer ones are text.
_IS_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}|-[1-9][0-9]{0,17}").fullmatch


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
    return value  # type: ignore[no-any-return]


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
