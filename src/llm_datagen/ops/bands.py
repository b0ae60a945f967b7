"""How signatures are cut into bands, and compared."""

from __future__ import annotations

from functools import cache

_STEPS = 100


@cache
def best_bands(threshold: float, permutations: int) -> tuple[int, int]:
    """Return how many bands of how many values find most pairs above a threshold, and few below.

    A pair of similarity s has a band in common with the probability ``1 - (1 - s**rows)**bands``. What is summed is the
    share of missed pairs above the threshold, which weighs four times, and of vain looks below. A look costs little,
    and what it finds is compared by the whole signature.
    """
    best = (float("inf"), 1, permutations)
    for rows in range(1, permutations + 1):
        bands = permutations // rows
        found = [1 - (1 - ((step + 0.5) / _STEPS) ** rows) ** bands for step in range(_STEPS)]
        cut = round(threshold * _STEPS)
        error = 4 * sum(1 - chance for chance in found[cut:]) + sum(found[:cut])
        best = min(best, (error, bands, rows))
    return best[1], best[2]


def similarity_of(one: bytes, other: bytes) -> float:
    """Return the similarity of two texts, about, by their signatures of a byte per permutation.

    Two bytes are equal by chance once in 256.
    """
    equal = sum(map(int.__eq__, one, other)) / len(one)
    return (equal - 1 / 256) / (1 - 1 / 256)
