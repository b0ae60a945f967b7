"""What the writer of a node tells of how far it is, to nodes whose lead is bounded (`max_lead`)."""

from __future__ import annotations

import sys
from typing import Any

from llm_datagen.actors.stage import tell
from llm_datagen.messages.lead import LeadMoved, TellLead
from llm_datagen.streams import Sink


class LeadReports:
    """Tells nodes how far a stream is written. Used by the writer's thread.

    Args:
        sink: the stream.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._wanted: dict[tuple[Any, str], TellLead] = {}

    def add(self, message: TellLead) -> None:
        """Tell another node, now and from now on."""
        self._wanted[message.to, message.reader] = message
        self.tell()

    def tell(self, *, has_ended: bool = False) -> None:
        """Tell it: after each commit, and when the writer has ended: nobody is ahead of a reader that reads no more."""
        position = self._sink.position
        for each in self._wanted.values():
            done = sys.maxsize if has_ended and each.reader else each.rows(position.coverage)
            tell(each.to, LeadMoved(each.reader, done, position.rows))
