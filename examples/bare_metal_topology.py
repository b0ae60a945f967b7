"""Reader, node and writer actors, wired by hand under a supervisor of your own: a diamond.

    in.jsonl ─► words ─┬─► short.jsonl ─► shout ──► shouted.jsonl ─┬─► merge ─► out.jsonl
                       └─► long.jsonl ──► measure ► measured.jsonl ┘

The streams keep every promise that they keep in a pipeline, since what makes a row done is on disk, not in an actor.
The first start below is another process, which is killed half-way; the second one goes on where it was.

Run it with ``python bare_metal_topology.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pykka

from llm_datagen import INodeContext, UnifiedNode
from llm_datagen.actors import NodeActor, OpenedNode, ReaderActor, WriterActor
from llm_datagen.messages import Attach, Cancel, Drain, Feed, StageEnded, StageOutcome
from llm_datagen.runs.logs.writer import open_log

ROWS = 200
NO_LOG = open_log(None)


def words(item: dict[str, Any], ctx: INodeContext) -> list[dict[str, Any]]:
    """Make a row of each word, slowly."""
    time.sleep(0.005)
    return [{"word": word} for word in item["text"].split()]


def length(row: dict[str, Any]) -> str:
    """Say where a word goes: this is the rule of the node "words"."""
    return "short" if len(row["word"]) <= 4 else "long"


def shout(item: dict[str, Any], ctx: INodeContext) -> dict[str, Any]:
    """Do one thing with short words."""
    return {"word": item["word"].upper()}


def measure(item: dict[str, Any], ctx: INodeContext) -> dict[str, Any]:
    """Do another one with long words."""
    return {"word": item["word"], "length": len(item["word"])}


def keep(item: dict[str, Any], ctx: INodeContext) -> dict[str, Any]:
    """Do nothing more."""
    return item


class Supervisor(pykka.ThreadingActor):
    """Starts the stages of some nodes, and hears from each, once, how it has ended."""

    def __init__(self, opened: list[OpenedNode], over: threading.Event) -> None:
        super().__init__()
        self.opened = opened
        self.over = over
        self.stages: dict[tuple[str, str], pykka.ActorRef[Any]] = {}
        self.outcomes: dict[tuple[str, str], StageOutcome] = {}

    def on_start(self) -> None:
        running = [node for node in self.opened if node.sink is not None]  # the others have finished before
        for node in running:
            self.start_stages(node)
        for writing, reading in itertools.product(running, running):
            if writing.sink and writing.sink.stream.place in reading.source.places:  # it says how far one may read
                self.stages[writing.node_id, "writer"].tell(Attach(self.stages[reading.node_id, "reader"]))
        for node in running:
            self.stages[node.node_id, "node"].tell(Feed(self.stages[node.node_id, "reader"]))
        self.look_whether_over()

    def start_stages(self, opened: OpenedNode) -> None:
        assert opened.sink is not None
        me = self.actor_ref
        writer = WriterActor.start(opened.node_id, me, opened.sink, opened.writer, seal=True, log=NO_LOG)
        node = NodeActor.start(opened, "by-hand", me, writer, NO_LOG)
        cursor = opened.source.cursor(opened.segments, follow=opened.follow)
        wait = {"retry_interval": opened.writer.retry_interval, "idle_timeout": opened.idle_timeout}
        reader = ReaderActor.start(opened.node_id, me, node, cursor, log=NO_LOG, **wait)
        for role, ref in (("writer", writer), ("node", node), ("reader", reader)):
            self.stages[opened.node_id, role] = ref

    def on_receive(self, message: Any) -> None:
        if isinstance(message, StageEnded):  # others say how far a node has come
            self.outcomes[message.node_id, message.role] = message.outcome
            if message.outcome is StageOutcome.FAILED:
                self.stop_all()
            if message.role == "node" and message.outcome is not StageOutcome.FINISHED:
                self.stages[message.node_id, "writer"].tell(Drain())  # it commits what it has, and does not seal
            self.look_whether_over()

    def stop_all(self) -> None:
        for (_, role), ref in self.stages.items():
            if role != "writer" and ref.is_alive():
                ref.tell(Cancel())

    def look_whether_over(self) -> None:
        if len(self.outcomes) == len(self.stages):
            self.over.set()
            self.stop()


def start_all() -> None:
    """Wire it, run it, and wait until every actor has ended."""
    wires: list[tuple[str, Any, Any, Any, Any]] = [
        ("words", words, "in.jsonl", {"short": "short.jsonl", "long": "long.jsonl"}, length),
        ("shout", shout, "short.jsonl", "shouted.jsonl", None),
        ("measure", measure, "long.jsonl", "measured.jsonl", None),
        ("merge", keep, {"shouted": "shouted.jsonl", "measured": "measured.jsonl"}, "out.jsonl", None),
    ]
    opened = []
    for name, operator, source, output, rule in wires:
        node = UnifiedNode(name, parallel_size=4, follow_input=name != "words", writer_config={"flush_batch_size": 20})
        node.bind_io(source, output, route=rule).set_operator(operator)
        for part in node.parts():  # several outputs are a node each, and so is what merges several inputs
            part.check()
            opened.append(part.plan())
    over = threading.Event()
    Supervisor.start(opened, over)
    over.wait()


def rows_of(name: str) -> list[dict[str, Any]]:
    """Return the rows of a stream."""
    return [json.loads(line) for line in Path(f"{name}.jsonl").read_text().splitlines()]


def start_and_kill() -> None:
    """Start it as another process, and kill that when it has written some rows, with no chance to tidy up."""
    process = subprocess.Popen([sys.executable, Path(__file__).absolute(), "--start"])
    while process.poll() is None and not Path("out.jsonl.done").exists():
        if Path("out.jsonl").exists() and Path("out.jsonl").stat().st_size > 4000:
            process.kill()
        time.sleep(0.01)
    process.wait()


def main() -> None:
    """Run it twice: killed half-way, and to the end."""
    texts = [f"row {n} says hello to everybody" for n in range(ROWS)]
    Path("in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    start_and_kill()
    print("sealed after the first start:", Path("out.jsonl.done").exists())
    start_all()
    found = [row["word"] for row in rows_of("out")]
    wanted = [word.upper() if len(word) <= 4 else word for text in texts for word in text.split()]
    assert sorted(found) == sorted(wanted)  # none is lost, none there twice
    ids = {row["_i"] for row in rows_of("out")}
    assert len(ids) == len(found)
    assert "0_3_measured" in ids  # word 3 of row 0, "hello", went by way of "measure"
    assert all(Path(f"{name}.jsonl.done").exists() for name in ("short", "long", "shouted", "measured", "out"))
    print(len(found), "words, each once")


if __name__ == "__main__":
    if sys.argv[1:] == ["--start"]:
        start_all()
        sys.exit()
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(sys.argv[1] if len(sys.argv) > 1 else temporary)
        main()
        os.chdir("/")
