"""Numbers and times as people write them."""

from __future__ import annotations


def number(value: float) -> str:
    """Return a number as people write it: ``1,234``, ``0.25``."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"


def rows_in_words(count: int) -> str:
    """Return a number of rows: ``1 row``, ``2 rows``."""
    return "1 row" if count == 1 else f"{number(count)} rows"


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
