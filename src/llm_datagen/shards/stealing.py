"""Work stealing: which range of a plan is split when workers have nothing left to do. Pure functions; no clock."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llm_datagen.shards.plan import Cut


@dataclass(frozen=True, slots=True)
class RangeProgress:
    """How far a range is.

    Attributes:
        number: the number of the range in the plan.
        begun: the first row that it has not begun, as a number of the whole input; what lies before it stays with it.
        last: the row behind its last one.
        rows_per_second: its speed. None: it has not begun, or nobody has measured it.
    """

    number: int
    begun: int
    last: int
    rows_per_second: float | None = None


def which_to_split(
    ranges: Iterable[RangeProgress], cuts: Sequence[Cut], idle_workers: int, least_seconds: float
) -> tuple[int, Cut] | None:
    """Return the range that would end last, and the cut nearest to the middle of what it has not begun.

    A range of which nobody knows the speed is taken to have the mean speed of the others.

    Args:
        ranges: the ranges that are not done.
        cuts: the cuts of the plan, by their rows.
        idle_workers: workers for which no range waits that has not begun.
        least_seconds: a range that ends within this time is left alone: to begin another one takes time, too.

    Returns:
        The number of the range, and the first row of the new one; None when no worker is idle, or no range that takes
        long enough has a cut in what it has not begun.
    """
    if idle_workers < 1:
        return None
    found = list(ranges)
    speeds = [each.rows_per_second for each in found if each.rows_per_second is not None]
    mean = sum(speeds) / len(speeds) if speeds else 0.0
    by_end = sorted(((_seconds_left(each, mean), each) for each in found), key=lambda pair: (-pair[0], pair[1].number))
    for seconds, each in by_end:
        if seconds < least_seconds:
            return None
        cut = _middle(each, cuts)
        if cut is not None:
            return each.number, cut
    return None


def _seconds_left(progress: RangeProgress, mean: float) -> float:
    """How long what a range has not begun will take; for ever, when it does not move."""
    speed = mean if progress.rows_per_second is None else progress.rows_per_second
    return (progress.last - progress.begun) / speed if speed > 0 else float("inf")


def _middle(progress: RangeProgress, cuts: Sequence[Cut]) -> Cut | None:
    """Return the cut nearest to the middle of what a range has not begun; of two, the earlier one."""
    first = bisect_right(cuts, progress.begun, key=_row)
    end = bisect_left(cuts, progress.last, key=_row)
    if first >= end:
        return None
    middle = (progress.begun + progress.last) / 2
    at = bisect_left(cuts, middle, first, end, key=_row)
    return min(cuts[max(first, at - 1) : min(end, at + 1)], key=lambda cut: abs(cut.row - middle))


def _row(cut: Cut) -> int:
    return cut.row
