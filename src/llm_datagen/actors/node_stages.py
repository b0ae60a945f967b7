"""The three stages of a node, as the supervisor has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import pykka

from llm_datagen.actors.node import NodeActor
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.reader import ReaderActor
from llm_datagen.actors.stage import Recipient, hurry, tell
from llm_datagen.actors.writer import WriterActor
from llm_datagen.messages import Attach, Cancel, LimitLead, StageOutcome, TellLead, TellStarving
from llm_datagen.runs.logs.writer import PlatformLog

LAST_FLUSH_SECONDS = 2.0
"""How long each request of a writer to a store may take when its run is cancelled."""


@dataclass(slots=True, eq=False)
class NodeStages:
    """The stages of a node. Used by the supervisor's thread.

    Attributes:
        opened: the node.
        reader, node, writer: the stages. No row moves before the node is told to `Feed` on the reader.
        ended: how those of them that have ended did, by their roles.
        is_over: whether all have ended, and the supervisor has drawn its conclusions.
    """

    opened: OpenedNode
    reader: pykka.ActorRef[Any]
    node: pykka.ActorRef[Any]
    writer: pykka.ActorRef[Any]
    ended: dict[str, StageOutcome] = field(default_factory=dict)
    is_over: bool = False

    @classmethod
    def start(
        cls,
        opened: OpenedNode,
        pipeline_id: str,
        supervisor: Recipient,
        refs: list[pykka.ActorRef[Any]],
        log: PlatformLog,
    ) -> Self:
        """Start the stages of a node that is not finished; all of them, or none.

        Args:
            opened: the node.
            pipeline_id: the pipeline's id.
            supervisor: the supervisor.
            refs: every stage that is started is added to it.
            log: the platform log.
        """
        assert opened.sink is not None
        started = len(refs)
        try:
            writer = WriterActor.start(
                opened.node_id,
                supervisor,
                opened.sink,
                opened.writer,
                seal=opened.seal,
                log=log,
                source=opened.source,
                target=opened.target,
            )
            refs.append(writer)
            node = NodeActor.start(opened, pipeline_id, supervisor, writer, log)
            refs.append(node)
            reader = ReaderActor.start(
                opened.node_id,
                supervisor,
                node,
                opened.source.cursor(opened.segments, follow=opened.follow),
                retry_interval=opened.writer.retry_interval,
                idle_timeout=opened.idle_timeout,
                log=log,
                inputs=len(opened.source.places),
            )
            refs.append(reader)
        except BaseException:  # such as: no thread can be started
            for ref in refs[started:]:
                ref.stop(block=False)
            raise
        return cls(opened, reader, node, writer)

    def read_from(self, source: NodeStages) -> None:
        """Join it to a node that it reads from: what that writes is told to the reader, and its lead is bounded."""
        tell(source.writer, Attach(self.reader))
        opened = source.opened
        if opened.max_lead is None:
            return
        rows = self.opened.rows_read_of(opened)
        done = rows(self.opened.position.coverage)
        tell(source.node, LimitLead(self.opened.node_id, self.opened.step, done))
        tell(self.writer, TellLead(source.node, self.opened.node_id, rows))
        tell(self.node, TellStarving(source.node, counts=len(self.opened.source.places) == 1))
        tell(source.writer, TellLead(source.node, "", lambda coverage: coverage.rows))

    def draw_from(self, source: NodeStages) -> None:
        """Have the node hear what another one commits, whose rows its operator draws."""
        tell(source.writer, Attach(self.node))

    def cancel(self, *, keep_jobs: bool) -> None:
        """Have it begin nothing new, and end. Its writer is then told to `Drain`.

        Args:
            keep_jobs: whether jobs of its operator that others do go on.
        """
        tell(self.node, Cancel(keep_jobs=keep_jobs))
        tell(self.reader, Cancel())
        hurry(self.reader, 0.0)

    def hurry(self) -> None:
        """Have its writer try no more than once, and not for long, to commit what it has."""
        hurry(self.writer, LAST_FLUSH_SECONDS)
