"""Which range is split when workers are idle."""

from __future__ import annotations

from llm_datagen.shards.plan import Cut
from llm_datagen.shards.stealing import RangeProgress, which_to_split

CUTS = [Cut(row, row * 10) for row in range(0, 1000, 10)]


def split(*ranges: RangeProgress, idle: int = 1, least: float = 1.0, cuts: list[Cut] = CUTS) -> tuple[int, int] | None:
    """Return the range that is split, and the row at which it is."""
    found = which_to_split(ranges, cuts, idle, least)
    return None if found is None else (found[0], found[1].row)


def test_the_range_that_would_end_last_is_split_in_the_middle_of_what_it_has_not_begun() -> None:
    slow = RangeProgress(3, begun=120, last=200, rows_per_second=1.0)  # 80 s
    long = RangeProgress(1, begun=400, last=700, rows_per_second=10.0)  # 30 s
    assert split(long, slow) == (3, 160)
    assert split(long) == (1, 550)


def test_the_cut_is_one_of_the_plan_and_what_is_behind_it_has_its_address() -> None:
    found = which_to_split([RangeProgress(0, 0, 100, 1.0)], [Cut(30, 999), Cut(80, 2999)], 1, 1.0)
    assert found == (0, Cut(30, 999))


def test_of_two_cuts_at_equal_distance_the_earlier_one_is_taken() -> None:
    assert split(RangeProgress(0, 0, 30, 1.0)) == (0, 10)


def test_neither_what_has_begun_nor_the_end_of_a_range_is_a_place_to_split_it() -> None:
    assert split(RangeProgress(0, begun=10, last=20, rows_per_second=0.1)) is None
    assert split(RangeProgress(0, begun=10, last=30, rows_per_second=0.1)) == (0, 20)
    assert split(RangeProgress(0, begun=11, last=20, rows_per_second=0.1)) is None


def test_a_range_without_a_cut_leaves_the_next_one_to_be_split() -> None:
    stuck = RangeProgress(0, begun=1, last=10, rows_per_second=0.01)
    assert split(stuck, RangeProgress(1, 100, 200, 1.0)) == (1, 150)


def test_nothing_is_split_when_nobody_is_idle_or_all_end_soon() -> None:
    near = RangeProgress(0, begun=0, last=100, rows_per_second=10.0)  # 10 s
    assert split(near, idle=0) is None
    assert split(near, least=10.1) is None
    assert split(near, least=10.0) == (0, 50)
    assert split() is None


def test_a_range_of_unknown_speed_has_the_mean_speed_of_the_others() -> None:
    known = RangeProgress(0, begun=0, last=100, rows_per_second=2.0)  # 50 s
    assert split(known, RangeProgress(1, 200, 290)) == (0, 50)  # 45 s
    assert split(known, RangeProgress(1, 200, 310)) == (1, 250)  # 55 s
    assert split(RangeProgress(1, 200, 310), least=1e9) == (1, 250)  # of none, nobody knows


def test_a_range_that_does_not_move_is_split_first() -> None:
    assert split(RangeProgress(0, 0, 900, 1.0), RangeProgress(1, 900, 960, 0.0)) == (1, 930)
