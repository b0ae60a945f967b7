"""What most votes say, and how many of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any


def majority(votes: Sequence[Any]) -> tuple[Any, float]:
    """Return the value with the most votes, and the share of all votes that the most have.

    When two values have the most, none of them has won: the value is None. Without any vote, the share is 0.

    Args:
        votes: texts, numbers, true or false; true is another value than 1.
    """
    count = Counter((isinstance(value, bool), value) for value in votes)
    most = max(count.values(), default=0)
    winners = [value for (_, value), times in count.items() if times == most]
    return winners[0] if len(winners) == 1 else None, round(most / len(votes), 4) if votes else 0.0
