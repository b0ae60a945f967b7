"""Reader, node and writer actors, wired by hand under a supervisor of one's own: one stream, read by two nodes.

    in.jsonl ─► words ─► words.jsonl ─┬─► short ─► short.jsonl
                                      └─► long ──► long.jsonl

The streams keep every promise that they keep in a pipeline, since what makes a row done is on disk, not in an actor.
The first start below is stopped half-way, and the second one goes on where it was.

Run it with ``python bare_metal_topology.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import itertools
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pykka

from llm_datagen import INodeContext, UnifiedNode
from llm_datagen.actors import NodeActor, NodePlan, ReaderActor, WriterActor
from llm_datagen.log import open_log
from llm_datagen.messages import Attach, Cancel, Drain, Feed, Outcome, StageEnded

ROWS = 400
NO_LOG = open_log(None)


def words(item: dict[str, Any], ctx: INodeContext) -> list[dict[str, Any]]:
    """Make a row of each word, slowly."""
    time.sleep(0.005)
    return [{"word": word} for word in item["text"].split()]


def short(item: dict[str, Any], ctx: INodeContext) -> dict[str, Any] | None:
    """Keep short words."""
    return item if len(item["word"]) <= 4 else None


def long(item: dict[str, Any], ctx: INodeContext) -> dict[str, Any] | None:
    """Keep long words."""
    return item if len(item["word"]) > 4 else None


class Supervisor(pykka.ThreadingActor):
    """Starts the stages of some nodes, and hears from each, once, how it has ended."""

    def __init__(self, plans: list[NodePlan], stop_after: int, over: threading.Event) -> None:
        super().__init__()
        self.plans = plans
        self.stop_after = stop_after
        self.over = over
        self.stages: dict[tuple[str, str], pykka.ActorRef[Any]] = {}
        self.outcomes: dict[tuple[str, str], Outcome] = {}

    def on_start(self) -> None:
        running = [plan for plan in self.plans if plan.sink is not None]  # the others have finished before
        for plan in running:
            self.start_stages(plan)
        for writing, reading in itertools.product(running, running):
            if writing.sink and writing.sink.stream.place == reading.source.place:  # it says how far one may read
                self.stages[writing.node_id, "writer"].tell(Attach(self.stages[reading.node_id, "reader"]))
        for plan in running:
            self.stages[plan.node_id, "node"].tell(Feed(self.stages[plan.node_id, "reader"]))
        self.look_whether_over()

    def start_stages(self, plan: NodePlan) -> None:
        assert plan.sink is not None
        me = self.actor_ref
        writer = WriterActor.start(plan.node_id, me, plan.sink, plan.writer, seal=True, log=NO_LOG)
        node = NodeActor.start(plan, "by-hand", me, writer, NO_LOG)
        cursor = plan.source.cursor(plan.segments, follow=plan.follow)
        wait = {"retry_interval": plan.writer.retry_interval, "idle_timeout": plan.idle_timeout}
        reader = ReaderActor.start(plan.node_id, me, node, cursor, log=NO_LOG, **wait)
        for role, ref in (("writer", writer), ("node", node), ("reader", reader)):
            self.stages[plan.node_id, role] = ref

    def on_receive(self, message: Any) -> None:
        match message:
            case StageEnded(node_id=node_id, role=role, outcome=outcome):
                self.outcomes[node_id, role] = outcome
                if outcome is Outcome.FAILED:
                    self.stop_all()
                if role == "node" and outcome is not Outcome.FINISHED:
                    self.stages[node_id, "writer"].tell(Drain())  # it commits what it has, and does not seal
                self.look_whether_over()
            case _ if getattr(message, "rows_out", 0) > self.stop_after:  # RowsCommitted
                self.stop_all()

    def stop_all(self) -> None:
        for (_, role), ref in self.stages.items():
            if role != "writer" and ref.is_alive():
                ref.tell(Cancel())

    def look_whether_over(self) -> None:
        if len(self.outcomes) == len(self.stages):
            self.over.set()
            self.stop()


def start_all(stop_after: int) -> None:
    """Wire it, run it, and wait until every actor has ended."""
    wires = [
        ("words", words, "in.jsonl", "words.jsonl"),
        ("short", short, "words.jsonl", "short.jsonl"),
        ("long", long, "words.jsonl", "long.jsonl"),
    ]
    plans = []
    for name, operator, source, output in wires:
        node = UnifiedNode(name, parallel_size=4, follow_input=name != "words", writer_config={"flush_batch_size": 20})
        node.bind_io(source, output).set_operator(operator).check()
        plans.append(node.plan())
    over = threading.Event()
    Supervisor.start(plans, stop_after, over)
    over.wait()


def lines(name: str) -> list[str]:
    """Return the lines of an output."""
    return Path(f"{name}.jsonl").read_text().splitlines()


def main() -> None:
    """Run it twice: stopped half-way, and to the end."""
    texts = [f"row {n} says hello to everybody" for n in range(ROWS)]
    Path("in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    start_all(stop_after=300)
    print("words sealed after the first start:", Path("words.jsonl.done").exists())
    start_all(stop_after=10**9)
    found = [json.loads(line)["word"] for name in ("short", "long") for line in lines(name)]
    assert sorted(found) == sorted(word for text in texts for word in text.split())  # none is lost, none there twice
    assert all(Path(f"{name}.jsonl.done").exists() for name in ("words", "short", "long"))
    print(len(found), "words, each once")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(sys.argv[1] if len(sys.argv) > 1 else temporary)
        main()
        os.chdir("/")
