# ruff: noqa: PLW0108 - pyarrow is not there yet when the table of types is made
"""Dictionaries and runs, whatever they hold, as their values one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llm_datagen.streams.inputs.arrow_plain import plain

from ..kit.lazy import pa

LONG = "text that is long enough not to lie within a view"

HELD: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "text": (lambda: pa.string(), ["a", None, LONG]),
    "text views": (lambda: pa.string_view(), ["a", None, LONG]),
    "bytes views": (lambda: pa.binary_view(), [b"a", None, LONG.encode()]),
    "lists of views": (lambda: pa.list_(pa.string_view()), [["a", None], None, [LONG]]),
    "long lists of views": (lambda: pa.large_list(pa.binary_view()), [[b"a", None], None, []]),
    "fixed lists of views": (lambda: pa.list_(pa.string_view(), 2), [["a", None], ["b", "c"], [LONG, ""]]),
    "objects of views": (lambda: pa.struct([("v", pa.string_view())]), [{"v": LONG}, {"v": None}, {"v": ""}]),
    "maps of views": (lambda: pa.map_(pa.string(), pa.string_view()), [[("k", LONG)], [], [("k", None)]]),
}
NUMBERS = [2, 0, 0, 1, 2, 2]


@pytest.mark.parametrize("held", HELD)
def test_a_dictionary_is_what_it_holds(held: str) -> None:
    make, values = HELD[held]
    column = pa.DictionaryArray.from_arrays(pa.array([*NUMBERS, None], pa.uint32()), pa.array(values, make()))

    assert plain(column).to_pylist() == [*(values[number] for number in NUMBERS), None]
    assert plain(column.slice(1, 3)).to_pylist() == [values[number] for number in NUMBERS[1:4]]


@pytest.mark.parametrize("held", HELD)
def test_runs_are_what_they_hold(held: str) -> None:
    make, values = HELD[held]
    column = pa.RunEndEncodedArray.from_arrays(pa.array([1, 4, 6], pa.int32()), pa.array(values, make()))
    told = [values[0], *[values[1]] * 3, *[values[2]] * 2]

    assert plain(column).to_pylist() == told
    assert plain(column.slice(2, 3)).to_pylist() == told[2:5]


def test_runs_of_dictionaries_are_what_these_hold() -> None:
    values = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), pa.array(["a", LONG], pa.string_view()))
    column = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3, 4], pa.int32()), values)

    assert plain(column).to_pylist() == [LONG, LONG, None, "a"]
