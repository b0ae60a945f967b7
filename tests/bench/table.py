"""What is printed, and what is written as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .compare import OLD, Result

_WIDTHS = (24, 14, 9, 20, 11, 8, 9)
_HEADER = ("workload", "side", "work s", "(from - to)", "process s", "cpu s", "peak MB")


def header() -> str:
    """Return the first line of the table."""
    return _line(_HEADER)


def lines(result: Result) -> str:
    """Return the lines of a workload: one a side, and one with the figures."""
    rows = []
    name = result.workload.name
    for side, median in result.medians.items():
        works = [each["work"] for each in result.samples[side]]
        rows.append(
            _line(
                (
                    name,
                    side,
                    _number(median["work"]),
                    f"({_number(min(works))} - {_number(max(works))})",
                    _number(median["process"]),
                    _number(median["cpu"]),
                    f"{median['peak']:.0f}" if "peak" in median else "",
                )
            )
        )
        name = ""
    figures = "  ".join(f"{key} {_number(value)}" for key, value in result.figures.items())
    goal = f"    goal: {result.workload.goal}" if result.workload.goal and OLD not in "".join(result.samples) else ""
    if figures:
        rows.append(f"    {figures}{goal}")
    return "\n".join(rows)


def as_json(result: Result) -> dict[str, Any]:
    """Return everything about a workload as plain data."""
    return {
        "about": result.workload.about,
        "goal": result.workload.goal,
        "rows": result.workload.rows,
        "figures": result.figures,
        "medians": result.medians,
        "samples": result.samples,
        "skipped": result.skipped,
    }


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _line(cells: Sequence[str]) -> str:
    left = "".join(cell.ljust(width) for cell, width in zip(cells[:2], _WIDTHS[:2], strict=True))
    return left + "".join(cell.rjust(width) for cell, width in zip(cells[2:], _WIDTHS[2:], strict=True))
