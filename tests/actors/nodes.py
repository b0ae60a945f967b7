"""A node between desks, for tests; and an operator whose calls wait until they are let through."""

from __future__ import annotations

import threading
from typing import Any

import pykka

from llm_datagen import BaseOperator, WriterConfig
from llm_datagen.actors.node import NodeActor
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.stage import join
from llm_datagen.messages import Batch, Demand, Feed, StageEnded
from llm_datagen.operators import Call, FunctionOperator
from llm_datagen.streams.coverage import START
from llm_datagen.streams.ids import RootNames
from llm_datagen.streams.storage.memory import MemoryStorage

from ..kit.actors import Desk, FakeWriter, Log, block_of, stream_on
from ..kit.support import PATIENCE_SECONDS


class Gates:
    """An operator whose calls wait until they are let through, one by one."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self._open: dict[int, threading.Event] = {}
        self._lock = threading.Lock()

    def gate(self, number: int) -> threading.Event:
        """Return the gate of a row."""
        with self._lock:
            return self._open.setdefault(number, threading.Event())

    def __call__(self, item: Any) -> Any:
        self.begun.append(item["n"])
        assert self.gate(item["n"]).wait(PATIENCE_SECONDS)
        return item

    def let_through(self, *numbers: int) -> None:
        """Open gates."""
        for number in numbers:
            self.gate(number).set()


class Bench:
    """A node between desks.

    Args:
        capacity: rows that the writer has room for.
    """

    def __init__(self, capacity: int = 1_000_000) -> None:
        self.supervisor, self.reader, self.log = Desk(), Desk(), Log()
        self.writer = FakeWriter(capacity)
        self.sink = stream_on(MemoryStorage()).sink()
        self.ref: pykka.ActorRef[NodeActor]

    def opened(self, operator: Any, **settings: Any) -> OpenedNode:
        """Return the node before it is started."""
        operator = operator if isinstance(operator, BaseOperator) else FunctionOperator(operator)
        return OpenedNode(
            node_id="n",
            operator=operator,
            call=Call(operator),
            source=stream_on(MemoryStorage(), "in.jsonl"),
            sink=self.sink,
            position=self.sink.position,
            segments=[START],
            writer=WriterConfig(),
            root=RootNames(),
            **settings,
        )

    def start(self, operator: Any, **settings: Any) -> None:
        """Start the node."""
        opened = self.opened(operator, **settings)
        self.ref = NodeActor.start(opened, "p", self.supervisor, self.writer, self.log)

    def feed(self) -> Demand:
        """Give the node its reader; return what it demands."""
        self.ref.tell(Feed(self.reader))
        return self.reader.wait_for(Demand)[-1]

    def send(self, start: int, end: int) -> None:
        """Answer a demand."""
        block = block_of([{"n": n} for n in range(start, end)], start, 100 * start)
        self.ref.tell(Batch(end - start, block))

    def ended(self) -> StageEnded:
        """Wait for the end."""
        (ended,) = self.supervisor.wait_for(StageEnded)
        assert join(self.ref, PATIENCE_SECONDS)
        return ended

    def written(self) -> list[int]:
        """Return the source rows that were delivered, in that order; nothing else may have been sent."""
        return [row for write in self.writer.writes() for row in range(write.result.span.start, write.result.span.end)]
