"""Messages that bound how far a node is ahead of those that read from it (`max_lead`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_datagen.streams import Coverage


@dataclass(frozen=True, slots=True)
class LimitLead:
    """Supervisor to node: this one reads what you write; do not get too far ahead of it."""

    reader: str
    """The id of the node that reads."""
    step: int
    """Rows that it needs for a call."""
    done: int
    """Rows of your output that it is done with."""


@dataclass(frozen=True, slots=True)
class TellLead:
    """Supervisor to writer: after each commit, tell a node how far you are."""

    to: Any
    """The ref of the node whose lead is bounded."""
    reader: str
    """Your node's id, if it reads what that node writes; an empty string if you are that node's own writer."""
    rows: Callable[[Coverage], int] = field(repr=False)
    """Given what your stream covers of its source, returns how many rows of that node's output that is."""


@dataclass(frozen=True, slots=True)
class LeadMoved:
    """Writer to node: what is committed now."""

    reader: str
    """As in `TellLead`."""
    done: int
    """Rows of the source that are done; as good as all when the node reads no more."""
    rows_out: int
    """Rows that were written."""


@dataclass(frozen=True, slots=True)
class TellStarving:
    """Supervisor to node: when you have nothing to do, tell a node that you read from; else it may wait for you."""

    to: Any
    """The ref of that node."""
    counts: bool
    """Whether you read its output alone, so that its rows are counted as yours are."""


@dataclass(frozen=True, slots=True)
class Starving:
    """Node to the node that it reads from: it has nothing in flight, and needs more rows to go on."""

    reader: str
    """Its id."""
    rows: int | None
    """The rows that it was given, over all runs; None when they are those of several nodes."""
