"""What is told in Python's own way, too: warnings, at the line of the user's program that called the engine."""

from __future__ import annotations

import sys
import warnings

_OURS = (__name__.partition(".")[0], "contextlib")  # the latter stands between two of us, by a decorator


def warn(text: str, category: type[Warning]) -> None:
    """Give a warning at the nearest line that is none of this package. In the caller's thread."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _OURS:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)
