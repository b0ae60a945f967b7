"""What several answers used together, shared out to each."""

from __future__ import annotations

from collections.abc import Sequence


def shared_out(count: int, sizes: Sequence[int]) -> list[int]:
    """Return whole numbers whose sum is `count`, in proportion to `sizes`."""
    whole = sum(sizes) or 1
    shares, given, seen = [], 0, 0
    for size in sizes:
        seen += size
        shares.append(count * seen // whole - given)
        given += shares[-1]
    return shares
