"""Numbers and times as people write them, and as much of a text as there is room for."""

from __future__ import annotations


def number(value: float) -> str:
    """Return a number as people write it: ``1,234``, ``0.25``."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"


def rows_in_words(count: int) -> str:
    """Return a number of rows: ``1 row``, ``2 rows``."""
    return "1 row" if count == 1 else f"{number(count)} rows"


def jobs_in_words(count: int, rows: int | None = None) -> str:
    """Return a number of jobs, perhaps with how many rows they have: ``1 job``, ``2 jobs with 3 rows``."""
    jobs = "1 job" if count == 1 else f"{number(count)} jobs"
    return jobs if rows is None else f"{jobs} with {rows_in_words(rows)}"


def calls_in_words(count: int) -> str:
    """Return how many calls wait: ``1 call waits``, ``2 calls wait``."""
    return "1 call waits" if count == 1 else f"{number(count)} calls wait"


def time_in_words(text: str | None) -> str:
    """Return a moment of a run state, to the second."""
    return text[:19].replace("T", " ") + " UTC" if text else "never"


def rate(value: float) -> str:
    """Return a rate, rounded to meaningful digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 or value == 0 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Return a time such as ``0:07``, ``12:30``, ``3:00:01``, ``2d 03:00:00``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02}:{minute:02}:{second:02}"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def cut(text: str, chars: int) -> str:
    """Return text of at most about so many characters, which says how many are left out."""
    return text if len(text) <= chars else f"{text[:chars]}… ({len(text) - chars:,} more characters)"
