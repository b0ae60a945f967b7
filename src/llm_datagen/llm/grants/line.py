"""Who waits for units, in order."""

from __future__ import annotations

from llm_datagen.llm.grants.units import NOTHING, Units

_GRACE_SECONDS = 2.0


class Line:
    """Those who wait: what is given to one of them leaves enough for all before it.

    So a large call is not overtaken by small ones for ever. Whoever does not ask again in time has left. Not
    thread-safe.
    """

    def __init__(self) -> None:
        self._places: dict[str, tuple[Units, float]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def ahead(self, who: str, now: float) -> Units:
        """Return what those need who are before `who`: all, if it does not wait yet."""
        for each in [each for each, (_, until) in self._places.items() if until < now]:
            del self._places[each]
        total = NOTHING
        for each, (least, _) in self._places.items():
            if each == who:
                break
            total = total.plus(least)
        return total

    def wait(self, who: str, least: Units, again_at: float) -> None:
        """Have `who` wait, at its place, or else at the end.

        Args:
            who: stands for the one that waits.
            least: what it needs.
            again_at: when it is to ask again.
        """
        self._places[who] = least, again_at + _GRACE_SECONDS

    def leave(self, who: str) -> None:
        """`who` does not wait, or not any more."""
        self._places.pop(who, None)
