"""The tools of the tests: what they choose, they choose rightly."""

from __future__ import annotations

import itertools
from typing import Any

from .kit.support import pairwise

CHOICES: list[list[Any]] = [["a", "b", "c"], [True, False], [True, False], [1, 4], [None, {"n": 1}]]


def test_each_pair_of_values_is_in_one_of_few_cases() -> None:
    cases = pairwise(*CHOICES)
    assert 6 <= len(cases) <= 8
    for one, other in itertools.combinations(range(len(CHOICES)), 2):
        for pair in itertools.product(CHOICES[one], CHOICES[other]):
            assert any((case[one], case[other]) == pair for case in cases)
    assert cases == pairwise(*CHOICES)
