"""The three stages of a node, as the supervisor has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import pykka

from llm_datagen.actors.node import NodeActor
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.reader import ReaderActor
from llm_datagen.actors.stage import Recipient, tell
from llm_datagen.actors.writer import WriterActor
from llm_datagen.messages import Cancel, StageOutcome
from llm_datagen.runs.logs.writer import PlatformLog


@dataclass(slots=True, eq=False)
class NodeStages:
    """The stages of a node. Used by the supervisor's thread.

    Attributes:
        plan: the node.
        reader, node, writer: the stages. No row moves before the node is told to `Feed` on the reader.
        ended: how those of them that have ended did, by their roles.
        is_over: whether all have ended, and the supervisor has drawn its conclusions.
    """

    plan: OpenedNode
    reader: pykka.ActorRef[Any]
    node: pykka.ActorRef[Any]
    writer: pykka.ActorRef[Any]
    ended: dict[str, StageOutcome] = field(default_factory=dict)
    is_over: bool = False

    @classmethod
    def start(
        cls, plan: OpenedNode, pipeline_id: str, boss: Recipient, crew: list[pykka.ActorRef[Any]], log: PlatformLog
    ) -> Self:
        """Start the stages of a node that is not finished; all of them, or none.

        Args:
            plan: the node.
            pipeline_id: the pipeline's id.
            boss: the supervisor.
            crew: every stage that is started is added to it.
            log: the platform log.
        """
        assert plan.sink is not None
        started = len(crew)
        try:
            writer = WriterActor.start(plan.node_id, boss, plan.sink, plan.writer, seal=plan.seal, log=log)
            crew.append(writer)
            node = NodeActor.start(plan, pipeline_id, boss, writer, log)
            crew.append(node)
            reader = ReaderActor.start(
                plan.node_id,
                boss,
                node,
                plan.source.cursor(plan.segments, follow=plan.follow),
                retry_interval=plan.writer.retry_interval,
                idle_timeout=plan.idle_timeout,
                log=log,
            )
            crew.append(reader)
        except BaseException:  # such as: no thread can be started
            for ref in crew[started:]:
                ref.stop(block=False)
            raise
        return cls(plan, reader, node, writer)

    def cancel(self) -> None:
        """Have it begin nothing new, and end. Its writer is then told to `Drain`."""
        tell(self.node, Cancel())
        tell(self.reader, Cancel())
