"""The tools of the tests: what they choose, they choose rightly."""

from __future__ import annotations

import itertools

from .support import pairwise

SETTINGS = [["a", "b", "c"], [True, False], [True, False], [1, 4], [None, {"n": 1}]]


def test_each_pair_of_values_is_in_one_of_few_rows() -> None:
    everything = list(itertools.product(*SETTINGS))
    rows = pairwise(everything)
    assert len(everything) == 48
    assert 6 <= len(rows) <= 8
    for one, other in itertools.combinations(range(len(SETTINGS)), 2):
        assert all(
            any((row[one], row[other]) == pair for row in rows)
            for pair in itertools.product(SETTINGS[one], SETTINGS[other])
        )
    assert rows == pairwise(everything)


def test_what_is_left_out_of_the_combinations_is_in_no_row() -> None:
    rows = pairwise(row for row in itertools.product("ab", "xy", "12") if row[:2] != ("b", "y"))
    assert {row[:2] for row in rows} == {("a", "x"), ("a", "y"), ("b", "x")}
