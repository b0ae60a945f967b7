"""What is shared, in numbers: units of a limit or of a budget, and caps on them."""

from __future__ import annotations

from typing import NamedTuple, Self

SLICE_SECONDS = 2.0
"""How long a process may use what it was granted, from the moment it asked."""

MOST = 1 << 62
"""More of anything than there is; what is not limited has so much room."""


class Units(NamedTuple):
    """An amount of what is shared.

    Attributes:
        main: calls of a limit; picodollars of a budget.
        tokens: of prompts and answers together.
    """

    main: int = 0
    tokens: int = 0

    def plus(self, other: Units) -> Units:
        """Return both together."""
        return Units(self.main + other.main, self.tokens + other.tokens)

    def minus(self, other: Units) -> Units:
        """Return what is left of it; below 0 where the other is more."""
        return Units(self.main - other.main, self.tokens - other.tokens)

    def at_least(self, other: Units) -> Units:
        """Return the larger number of each kind."""
        return Units(max(self.main, other.main), max(self.tokens, other.tokens))

    def at_most(self, other: Units) -> Units:
        """Return the smaller number of each kind."""
        return Units(min(self.main, other.main), min(self.tokens, other.tokens))

    def parts(self, count: int) -> Units:
        """Return one of `count` equal parts, rounded down."""
        return Units(self.main // count, self.tokens // count)

    def fits(self, room: Units) -> bool:
        """Return whether there is room for it."""
        return self.main <= room.main and self.tokens <= room.tokens


NOTHING = Units()


class Caps(NamedTuple):
    """The most of each kind; None for any amount."""

    main: int | None = None
    tokens: int | None = None

    def room(self, used: Units) -> Units:
        """Return what is left when so much is used; below 0 when it is too much."""
        return Units(
            MOST if self.main is None else self.main - used.main,
            MOST if self.tokens is None else self.tokens - used.tokens,
        )

    def lowest(self, other: Self) -> Caps:
        """Return the lower one of each kind."""
        return Caps(_lower(self.main, other.main), _lower(self.tokens, other.tokens))


ANY = Caps()


def _lower(one: int | None, other: int | None) -> int | None:
    return min((each for each in (one, other) if each is not None), default=None)
