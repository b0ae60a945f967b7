"""What the workloads do with rows: the same functions for the plain loop, the engine, and others.

Nothing of the engine is imported here, so that it is not part of what the loop costs.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

BEGUN: list[float] = []
"""When the calls of sleeping operators began, and..."""

ENDED: list[float] = []
"""...when they ended, in seconds of `time.perf_counter`."""

_NOISE = re.compile(r"[^\w\s.,'-]+")
_SPACES = re.compile(r"\s\s+")


def identity(row: Any) -> Any:
    """Return the row."""
    return row


def identity2(row: Any) -> Any:
    """Return the row."""
    return row


def identity3(row: Any) -> Any:
    """Return the row."""
    return row


def clean(row: Any) -> Any:
    """Strip, lower, take out what does not belong there, count words: some 10 µs."""
    text = _SPACES.sub(" ", _NOISE.sub("", row["text"].strip().lower()))
    return {"id": row["id"], "n": row["n"], "text": text, "words": text.count(" ") + 1}


def five(row: Any) -> Any:
    """Make five rows of one."""
    return [{"n": row["n"], "k": k, "text": row["text"]} for k in range(5)]


def million(row: Any) -> Iterator[Any]:
    """Make as many rows of one as it says."""
    text = row["text"]
    for k in range(row["children"]):
        yield {"k": k, "text": text}


def nap(row: Any) -> Any:
    """Sleep as long as the row says, as one who waits for a model does."""
    BEGUN.append(time.perf_counter())
    time.sleep(row["seconds"])
    ENDED.append(time.perf_counter())
    return row


async def nap_async(row: Any) -> Any:
    """Sleep as long as the row says, on an event loop."""
    BEGUN.append(time.perf_counter())
    await asyncio.sleep(row["seconds"])
    ENDED.append(time.perf_counter())
    return row


_SEEN: set[str] = set()


def first(row: Any) -> Any:
    """Return the row, if it is the first one with its text."""
    if not row["_i"]:
        _SEEN.clear()
    if row["text"] in _SEEN:
        return None
    _SEEN.add(row["text"])
    return row


class IdentityBatch:
    """Returns batches as they are."""

    name = "identity_batch"

    def process_batch(self, items: Sequence[Any], ctx: Any) -> Any:
        """Return the rows."""
        return items


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator.

    Attributes:
        function: of one row, for the plain loop.
        engine: for the engine.
        is_wide: whether it makes several rows of one.
        is_filter: whether it drops rows.
    """

    function: Callable[[Any], Any]
    engine: Any
    is_wide: bool = False
    is_filter: bool = False


OPERATORS = {
    "identity": Operator(identity, identity),
    "identity2": Operator(identity2, identity2),
    "identity3": Operator(identity3, identity3),
    "identity_batch": Operator(identity, IdentityBatch()),
    "clean": Operator(clean, clean),
    "five": Operator(five, five, is_wide=True),
    "million": Operator(million, million, is_wide=True),
    "dedupe": Operator(first, None, is_filter=True),
    "nap": Operator(nap, nap),
    "nap_async": Operator(nap, nap_async),
}
