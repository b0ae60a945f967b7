"""Rows and items: every value comes back from disk as it was given (M14, M15)."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.streams.rows import as_row, item_of

leaves = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
keys = st.sampled_from(["_i", "data", "a", "b"])
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=3))
ids = st.integers(0, 99) | st.sampled_from(["0_1", "3~9_0"])


@settings(max_examples=120, deadline=None)
@given(values, ids)
def test_a_value_comes_back_as_it_was_under_its_id(value: Any, row_id: int | str) -> None:
    """M15: also an object whose only field is `data`, and whatever it was, it is not changed."""
    before = copy.deepcopy(value)
    row = as_row(value, row_id)
    assert value == before
    assert row["_i"] == row_id
    back_id, item = item_of(orjson.loads(orjson.dumps(row)), 1234)
    assert back_id == row_id
    assert item == ({**value, "_i": row_id} if isinstance(value, dict) else value)


def test_a_value_that_is_no_object_is_stored_as_data() -> None:
    """M15: `{"_i": …, "data": value}`, in this order."""
    assert orjson.dumps(as_row([1, 2], "7_0")) == b'{"_i":"7_0","data":[1,2]}'
    assert orjson.dumps(as_row({"data": 1}, 7)) == b'{"data":1,"_i":7}'
    assert orjson.dumps(as_row({"_i": 3, "data": 1}, 7)) == b'{"data":1,"_i":7}'


@pytest.mark.parametrize("value", [5, "x", None, [1], True])
def test_a_bare_value_in_a_file_gets_the_number_of_its_row(value: Any) -> None:
    """M14, M15: files of other programs have no ids."""
    assert item_of(value, 42) == (42, value)


def test_an_object_without_an_id_gets_the_number_of_its_row() -> None:
    """M14: an id that is null is none."""
    assert item_of({"a": 1}, 42) == (42, {"a": 1, "_i": 42})
    assert item_of({"_i": None, "data": 1}, 42) == (42, {"_i": 42, "data": 1})
    assert item_of({"_i": 0, "a": 1}, 42) == (0, {"_i": 0, "a": 1})
