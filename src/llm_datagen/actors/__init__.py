"""The actors of the engine, for those who control it or wire their own topology.

From the bottom: `mailbox` (two lanes, a bound, timers) · `stage` (one life, one report) · `reader`, `node`, `writer`
(the data path) · `supervisor`, `pipeline` (the control path). `llm_datagen.messages` is what they say to one another.
"""

from llm_datagen.actors.mailbox import Mailbox
from llm_datagen.actors.node import NodeActor
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.pipeline import PipelineActor
from llm_datagen.actors.reader import ReaderActor
from llm_datagen.actors.stage import Stage
from llm_datagen.actors.supervisor import SupervisorActor
from llm_datagen.actors.writer import WriterActor

__all__ = [
    "Mailbox",
    "NodeActor",
    "OpenedNode",
    "PipelineActor",
    "ReaderActor",
    "Stage",
    "SupervisorActor",
    "WriterActor",
]
