"""Random graphs of nodes, killed: streams that several nodes read, nodes with several inputs or outputs (M31, S4).

A router decides by chance, each time that it is called: what it said before a kill must hold. Some rows fail until the
operators are mended: they are dead-lettered, and replayed in the end, which is killed, too.
"""

from __future__ import annotations

import json
import random
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from llm_datagen import Route, UnifiedNode, UnifiedNodePipeline, WriterConfig
from llm_datagen.runs import RunFolder
from llm_datagen.runs.trace import trace
from llm_datagen.runs.verify import verify

from ..kit.support import instrument, stored
from .forks import fork
from .operators import FATES, PoisonError, bare
from .tally import Tally

ROWS = 150


@dataclass(frozen=True, slots=True)
class _Vertex:
    """A node: what it does, from which streams, to which streams."""

    name: str
    fate: str
    sources: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def made_of(self, row: dict[str, Any], seed: int) -> list[tuple[Any, dict[str, Any]]]:
        """Return ids and rows that it makes of a row."""
        made = FATES[self.fate](bare(row), seed)
        if isinstance(made, list):
            return [(f"{row['_i']}_{k}", child) for k, child in enumerate(made)]
        return [] if made is None else [(row["_i"], made)]

    def call(self, row: dict[str, Any], *, seed: int, is_mended: bool) -> Any:
        """Be the operator."""
        time.sleep(0.0005)
        if not is_mended and zlib.crc32(f"{self.name} {row['k']} {row['v']}".encode()) % 15 == 0:
            raise PoisonError(self.name)
        made = FATES[self.fate](bare(row), seed)
        if len(self.outputs) == 1 or made is None:
            return made
        choose = random.SystemRandom().choice
        if isinstance(made, list):
            return [Route(choose(self.outputs), child) for child in made]
        return Route(choose(self.outputs), made)


@dataclass(frozen=True, slots=True)
class FailingGraph:
    """A graph some of whose rows fail."""

    seed: int
    folder: Path
    streaming: bool
    vertices: list[_Vertex]

    @classmethod
    def of(cls, seed: int, folder: Path) -> FailingGraph:
        """Return a random graph: each node reads the input, or any streams that were made before, or several."""
        chance = random.Random(seed)
        streams, vertices = ["in"], []
        for number in range(chance.randint(2, 6)):
            outputs = tuple(f"s{number}{dead_letter}" for dead_letter in "abc"[: chance.choice([1, 1, 2, 3])])
            settings = {
                "parallel_size": chance.choice([1, 3]),
                "ordered": chance.random() < 0.2,
                "on_error": "dead_letter",
                "writer_config": WriterConfig(
                    flush_batch_size=chance.choice([1, 7, 1000]), async_mode=chance.random() < 0.7, fsync="never"
                ),
            }
            fate = chance.choice(["map", "map", "filter", "fan"])
            sources = chance.sample(streams, min(len(streams), chance.choice([1, 1, 2, 2, 3])))
            vertices.append(_Vertex(f"n{number}", fate, tuple(sources), outputs, settings))
            streams += outputs
        return cls(seed, folder, chance.random() < 0.7, vertices)

    def uri(self, stream: str) -> str:
        """Return where a stream lies."""
        return f"jsonl://{self.folder}/{stream}.jsonl"

    def acts(self) -> list[tuple[Callable[[], None], int, float]]:
        """Return the run, and the replay of what has failed."""
        return [(self.run, 5, 0.25), (self.replay, 2, 0.25)]

    def run(self) -> None:
        """Run it, or go on with it; some rows fail."""
        self._pipeline(is_mended=False).create("a", if_exists="resume").run()

    def replay(self) -> None:
        """Do the rows again that have failed; now none does."""
        self._pipeline(is_mended=True).replay("a", on_change="accept").run()

    def _pipeline(self, *, is_mended: bool) -> UnifiedNodePipeline:
        nodes = []
        for vertex in self.vertices:
            node = UnifiedNode(vertex.name, follow_input="in" not in vertex.sources, **vertex.settings)
            outputs = {name: self.uri(name) for name in vertex.outputs}
            inputs = [self.uri(source) for source in vertex.sources]
            node.bind_io(
                inputs if len(inputs) > 1 else inputs[0], outputs if len(outputs) > 1 else self.uri(vertex.outputs[0])
            )
            operator = instrument(partial(vertex.call, seed=self.seed, is_mended=is_mended))
            nodes.append(node.set_operator(operator))
        random.Random(self.seed).shuffle(nodes)  # in any order
        results = self.folder / "results"
        return UnifiedNodePipeline(nodes, streaming=self.streaming, results_dir=results, log_file=None)

    def rows_of(self, vertex: _Vertex, *, is_named: bool) -> Iterator[dict[str, Any]]:
        """Yield the rows that a node has read; `is_named` says whether their ids tell where they come from."""
        for at, source in enumerate(vertex.sources):
            for number, row in enumerate(stored(self.uri(source))):
                row_id = row.get("_i", number)
                yield {**row, "_i": f"{row_id}_in{at}" if is_named else row_id}

    def strangers(self, run_state: dict[str, Any]) -> Iterator[str]:
        """Yield what is wrong with the kin of some rows: all of them have to do with the same row of the input."""
        chance = random.Random(self.seed)
        for name in self.vertices[-1].outputs:
            rows = stored(self.uri(name))
            for row in chance.sample(rows, min(2, len(rows))):
                kin = [found for found in trace(run_state, row["_i"]) if found.state == "row"]
                keys = {found.item.get("row", found.item)["k"] for found in kin}
                places = {found.uri for found in kin}
                if keys != {row["k"]} or not {self.uri("in"), self.uri(name)} <= places:
                    yield f"{name}: the kin of {row} are in {places}, and of {keys}"

    def dead_letters(self) -> int:
        """Return how many rows have failed."""
        return sum(account.dead for account in verify(RunFolder(self.folder / "results", "a").load()))

    def findings(self) -> Iterator[str]:
        """Yield what is wrong with what a run has left: each stream is compared with those that it is made from."""
        (self.folder / "in.jsonl.done").touch()
        run_state = RunFolder(self.folder / "results", "a").load()
        named = {
            node["node_id"].removesuffix(".merge") for node in run_state["nodes"] if "://named?" in node["input_uri"]
        }
        for vertex in self.vertices:
            wanted = Counter(
                f"{row_id} {json.dumps(made, sort_keys=True)}"
                for row in self.rows_of(vertex, is_named=vertex.name in named)
                for row_id, made in vertex.made_of(row, self.seed)
            )
            found = Counter(
                f"{row['_i']} {json.dumps(bare(row), sort_keys=True)}"
                for name in vertex.outputs
                for row in stored(self.uri(name))
            )
            if found != wanted:
                lost, more = wanted - found, found - wanted
                yield f"{vertex}: lost {lost.total()}, {list(lost)[:3]}; too many {more.total()}: {list(more)[:3]}"
        yield from self.strangers(run_state)
        for account in verify(run_state):
            yield from account.findings
            if account.dead:
                yield f"{account.node_id}: {account.dead} dead letters are left"


class Graph(Protocol):
    """A graph that can be killed."""

    def acts(self) -> list[tuple[Callable[[], None], int, float]]:
        """Return what is done in processes of its own, how often each is killed at most, and after how long at most.

        The first is the run, others are replays. Times are in seconds.
        """

    def findings(self) -> Iterator[str]:
        """Yield what is wrong with what it has left."""

    def dead_letters(self) -> int:
        """Return how many rows have failed."""


def graphs(
    folder: Path, *, seed: int, kills: int, make: Callable[[int, Path], Graph] = FailingGraph.of, rows: int = ROWS
) -> Tally:
    """Run random graphs, each killed about five times, until so many kills are done; compare all of their streams."""
    tally = Tally()
    while tally.kills < kills:
        work = folder / f"graph-{seed}"
        work.mkdir()
        given = [{"k": n, "v": str(n), "pad": "x" * (n % 40)} for n in range(rows)]
        (work / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
        graph = make(seed, work)
        chance = random.Random(seed)
        for number, (act, times, seconds) in enumerate(graph.acts()):
            for _ in range(times):
                death = fork(act, work / "said", kill_after=chance.uniform(0.01, seconds))
                tally.kills += death.how == "killed"
                if death.how != "killed":
                    break
            death = fork(act, work / "said")
            if death.how != "done":
                break
            tally.dead_letters += graph.dead_letters() if number == 0 else 0
            tally.replays += number > 0
        wrong = list(graph.findings()) if death.how == "done" else [f"{death.how}: {death.text}"]
        tally.runs += 1
        tally.findings += [f"graph, seed {seed}, {work}: {what}" for what in wrong]
        if not wrong:
            shutil.rmtree(work)
        seed += 1
    return tally
