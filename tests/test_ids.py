"""Ids: unique, independent of everything but the row (M14)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_datagen.config import IdScheme
from llm_datagen.errors import DatagenError, IdError
from llm_datagen.streams.ids import (
    NUMERIC_LIMIT,
    NUMERIC_WIDTH,
    child_maker,
    child_of_end,
    is_of_end,
    numeric_child,
    parse_id,
    path_child,
    span_id,
)

ids = st.integers(0, 10**6) | st.from_regex(r"[0-9]{1,3}(_[0-9]{1,2}){1,3}", fullmatch=True)


def test_ids_of_the_end_of_an_input_are_told_from_others() -> None:
    """They only say which of the rows there it is, and which child of that."""
    ends = {"end_0": "", "end2_17": "", "end_3_1_0": "_1_0", "end_3_left": "_left", "end_0~end_3_1": None}
    assert {row_id: child_of_end(row_id) for row_id in ends if is_of_end(row_id)} == ends
    others: list[int | str] = [0, 7, "7_0", "end", "end0", "r0", "endless_0", "send_0", "0~3_0"]
    assert not any(map(is_of_end, others))


def test_a_child_is_named_after_its_parent() -> None:
    """M14: at any depth."""
    assert path_child(10, 1) == "10_1"
    assert path_child(path_child(10, 1), 0) == "10_1_0"
    assert child_maker("path") is path_child
    assert child_maker("numeric") is numeric_child


@given(st.lists(st.tuples(st.integers(0, 50), st.lists(st.integers(0, 20_000), max_size=4)), min_size=2))
def test_path_ids_of_different_rows_differ(lineages: list[tuple[int, list[int]]]) -> None:
    """M14: any depth, any width, unique."""
    named = {}
    for root, children in lineages:
        row_id: int | str = root
        for k in children:
            row_id = path_child(row_id, k)
        named[root, tuple(children)] = row_id
    assert len(set(named.values())) == len(named)


@given(st.integers(0, NUMERIC_LIMIT // NUMERIC_WIDTH - 1), st.integers(0, NUMERIC_WIDTH - 1))
def test_a_numeric_child_names_its_parent_and_its_number(parent: int, k: int) -> None:
    """M14: `parent * 10000 + k`, so siblings and cousins differ."""
    child = numeric_child(parent, k)
    assert isinstance(child, int)
    assert divmod(child, NUMERIC_WIDTH) == (parent, k)


@pytest.mark.parametrize(
    ("parent", "k", "says"),
    [
        (5, 10_000, "row 5 has more than 10000 children"),
        (NUMERIC_LIMIT // NUMERIC_WIDTH, 9999, "past 64 bits"),
        (NUMERIC_LIMIT, 0, "past 64 bits"),
        ("5_1", 0, "row '5_1' has no numeric id"),
    ],
)
def test_a_numeric_id_that_cannot_be_is_an_error_that_says_to_use_path(parent: int | str, k: int, says: str) -> None:
    """M14: no id wraps around, none is taken twice."""
    with pytest.raises(IdError, match=rf'{says}.*use id_scheme="path"') as caught:
        numeric_child(parent, k)
    assert isinstance(caught.value, DatagenError)


def test_a_numeric_id_may_be_as_large_as_64_bits() -> None:
    """M14: the limit is reached, not approached."""
    parent, k = divmod(NUMERIC_LIMIT, NUMERIC_WIDTH)
    assert numeric_child(parent, k) == NUMERIC_LIMIT
    with pytest.raises(IdError):
        numeric_child(parent, k + 1)


def test_a_row_of_a_whole_batch_is_named_after_its_span() -> None:
    """M12: `first~last_k`; the scheme "numeric" has no such ids."""
    assert span_id(3, 9, 0, "path") == "3~9_0"
    assert span_id("3_1", "4_0", 2, "path") == "3_1~4_0_2"
    scheme: IdScheme = "numeric"
    with pytest.raises(IdError, match=r'rows 3 to 9.*use id_scheme="path"'):
        span_id(3, 9, 0, scheme)


@given(ids)
def test_an_id_written_as_text_comes_back_as_it_was(row_id: int | str) -> None:
    """M19: numbers as numbers, text as text."""
    back = parse_id(str(row_id))
    assert back == row_id or isinstance(row_id, str)
    assert type(back) is type(row_id)


@given(st.text(max_size=25))
def test_no_text_is_changed_by_being_taken_for_a_number(text: str) -> None:
    """M19: whatever becomes a number is written just so, and fits where it goes."""
    value = parse_id(text)
    assert str(value) == text
    assert isinstance(value, str) or -(2**63) <= value < 2**64


@pytest.mark.parametrize(
    "text", ["", "-", "-0", "00", "01", "1 ", " 1", "1_0", "٣", "1\n", "9" * 20, "-" + "9" * 19, "9" * 5000]
)
def test_text_that_is_no_plain_number_stays_text(text: str) -> None:
    """M19: leading zeros and numbers past 64 bits, too."""
    assert parse_id(text) == text
