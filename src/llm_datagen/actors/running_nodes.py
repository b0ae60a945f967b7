"""The nodes of a run as the supervisor has them: which have begun, which wait for their turn, and how all are ended."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

import pykka

from llm_datagen.actors.node_stages import NodeStages
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.stage import Recipient, tell
from llm_datagen.messages import Drain
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.streams.inputs.part import PartStream
from llm_datagen.streams.source import streams_of


class RunningNodes:
    """Starts the stages of nodes, and ends them. Used by the supervisor's thread.

    Args:
        opened_nodes: the nodes, in an order in which each comes after the one that it reads from.
        pipeline_id: the pipeline's id.
        streaming: whether all nodes run at once, or one after the other.
        supervisor: what the stages tell of themselves.
        refs: every stage that is started is added to it.
        log: the platform log.
    """

    def __init__(
        self,
        opened_nodes: list[OpenedNode],
        *,
        pipeline_id: str,
        streaming: bool,
        supervisor: Recipient,
        refs: list[pykka.ActorRef[Any]],
        log: PlatformLog,
    ) -> None:
        self._pipeline_id = pipeline_id
        self._streaming = streaming
        self._supervisor = supervisor
        self._refs = refs
        self._log = log
        self._order = [opened.node_id for opened in opened_nodes]
        self._waiting = [opened for opened in opened_nodes if opened.sink is not None]
        self._begun: dict[str, NodeStages] = {}
        self._of_part = [
            opened
            for opened in opened_nodes
            if any(isinstance(stream, PartStream) for stream in streams_of(opened.source))
        ]

    def __iter__(self) -> Iterator[NodeStages]:
        """Yield those that have begun."""
        return iter(self._begun.values())

    def get(self, node_id: str) -> NodeStages | None:
        """Return the stages of a node; None when it has not begun."""
        return self._begun.get(node_id)

    def reader_of_part(self) -> Recipient | None:
        """Return the reader of the one node that reads a part of an input; None when several do, or none has begun."""
        if len(self._of_part) != 1 or not isinstance(self._of_part[0].source, PartStream):
            return None
        stages = self.get(self._of_part[0].node_id)
        return None if stages is None else stages.reader

    @property
    def is_idle(self) -> bool:
        """Whether none of those that have begun runs."""
        return all(stages.is_over for stages in self)

    @property
    def is_any_due(self) -> bool:
        """Whether a node that waits is to begin now."""
        return bool(self._waiting) and (self._streaming or self.is_idle)

    def start_due(self) -> Iterator[NodeStages]:
        """Start the nodes that are to begin now; no row of one moves before it is told to `Feed`."""
        # The last first: a writer must know who reads from it.
        for opened in reversed(self._waiting if self._streaming else self._waiting[:1]):
            yield self._start(opened)
            self._waiting.remove(opened)

    def _start(self, opened: OpenedNode) -> NodeStages:
        stages = NodeStages.start(opened, self._pipeline_id, self._supervisor, self._refs, self._log)
        self._begun[opened.node_id] = stages
        for other in self:
            if other.opened.reads(opened):
                other.read_from(stages)
            if other.opened.draws_from(opened):
                other.draw_from(stages)
            elif opened.draws_from(other.opened):
                stages.draw_from(other)
        return stages

    def leave_out(self, unneeded: Container[str]) -> list[OpenedNode]:
        """Never start those of some nodes that wait; return them."""
        left_out = [opened for opened in self._waiting if opened.node_id in unneeded]
        self._waiting = [opened for opened in self._waiting if opened.node_id not in unneeded]
        return left_out

    def cancel(self, some: Container[str] | None = None, *, keep_jobs: bool) -> None:
        """Have nodes begin nothing new, and end, the last first: all, or some of them.

        Args:
            some: which; None: all.
            keep_jobs: whether jobs of their operators that others do go on.
        """
        for node_id in reversed(self._order):
            if node_id in self._begun and (some is None or node_id in some):
                self._begun[node_id].cancel(keep_jobs=keep_jobs)

    def hurry(self) -> None:
        """Have all writers try no more than once, and not for long, to commit what they have."""
        for stages in self:
            stages.hurry()

    def end(self) -> None:
        """End all stages, whatever they are at."""
        for stages in self:
            stages.cancel(keep_jobs=True)
            tell(stages.writer, Drain())
