"""Random graphs with state and loops, killed: what each node has made is what it makes of its input in one go.

The input of a node lies on disk in one order, whatever was killed; a node with state takes one row at a time, in that
order. So its output is known exactly: by the same operator, over those rows, with a state that is a dict.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedNode, UnifiedNodePipeline, WriterConfig, ops
from llm_datagen.runs import RunFolder
from llm_datagen.runs.verify import verify
from llm_datagen.streams.state import store

from ..kit.support import instrument, stored
from ..ops.calls import bare, outcome
from .operators import FATES

STEPS: dict[str, Callable[[], Any]] = {
    "dedupe": lambda: ops.Dedupe("v"),
    "mark": lambda: ops.Dedupe("v", mark="of"),
    "limit": lambda: ops.Limit(90),
    "top": lambda: ops.TopK(40, by="k"),
    "sample": lambda: ops.Sample(n=70, seed=3),
    "shuffle": lambda: ops.Shuffle(seed=5),
    "best": lambda: ops.Best(2, by="k", of="v"),
    "group": lambda: ops.GroupBy("v"),
    "count": lambda: ops.Count("v"),
    "stats": lambda: ops.Stats(exact_distinct=50),
}
"""Operators with state, by name."""

LOOPS: dict[str, Callable[[str], Any]] = {
    "loop": lambda column: ops.Loop(_grow, until="len(v) >= 6", max_rounds=4, unmet="drop", column=column),
    "rounds": lambda column: ops.Loop([_grow], max_rounds=3, keep_rounds=True, column=column),
}
"""Loops, by name; each has a column of its own for the number of the round."""

LAST = {"mark", "group", "count", "stats"}
"""Those whose rows have other columns than what they read: nobody reads them."""


@dataclass(frozen=True, slots=True)
class _Vertex:
    """A node: what it does, from which streams."""

    name: str
    step: str
    sources: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def operator(self, seed: int) -> Any:
        """Return its operator."""
        if self.step in STEPS:
            return STEPS[self.step]()
        if self.step in LOOPS:
            return LOOPS[self.step](f"_round_{self.name}")
        return instrument(partial(_slowly, fate=self.step, seed=seed))


def _grow(row: dict[str, Any]) -> dict[str, Any]:
    time.sleep(0.0001)
    return {**row, "v": str(int(float(row["v"])) * 7 % 1_000_003)}


def _slowly(row: dict[str, Any], *, fate: str, seed: int) -> Any:
    time.sleep(0.0003)
    made = FATES[fate]({name: value for name, value in row.items() if name not in ("_i", "_sources")}, seed)
    for each in made if isinstance(made, list) else [made] if made else []:
        each["v"] = str(int(float(each["v"])) % 97)  # so that there are duplicates
    return made


@dataclass(frozen=True, slots=True)
class StateGraph:
    """A graph of nodes that keep state, loops, and others; some are at most so many rows ahead of their readers."""

    seed: int
    folder: Path
    streaming: bool
    apply_bytes: int
    vertices: list[_Vertex]

    @classmethod
    def of(cls, seed: int, folder: Path) -> StateGraph:
        """Return a random graph: each node reads the input, or a stream that was made before, or two."""
        chance = random.Random(seed)
        streams, vertices = ["in"], []
        streaming = chance.random() < 0.7
        for number in range(chance.randint(3, 6)):
            step = chance.choice([*FATES, *STEPS, *LOOPS]) if number else "map"
            settings = {
                "parallel_size": 1 if step in STEPS else chance.choice([1, 3]),
                "ordered": chance.random() < 0.3,
                "max_lead": chance.choice([None, 1, 5, 50]) if streaming else None,
                "writer_config": WriterConfig(
                    flush_batch_size=chance.choice([1, 7, 1000]), async_mode=chance.random() < 0.7, fsync="never"
                ),
            }
            there = streams[1:] or streams
            sources = chance.sample(there, min(len(there), chance.choice([1, 1, 2])))
            vertices.append(_Vertex(f"n{number}", step, tuple(sources), settings))
            if step not in LAST:
                streams.append(f"n{number}")
        return cls(seed, folder, streaming, chance.choice([200, 4 << 20]), vertices)

    def uri(self, stream: str) -> str:
        """Return where a stream lies."""
        return f"jsonl://{self.folder}/{stream}.jsonl"

    def acts(self) -> list[tuple[Callable[[], None], int, float]]:
        """Return the run."""
        return [(self.run, 6, 0.7)]

    def run(self) -> None:
        """Run it, or go on with it."""
        store.APPLY_BYTES, store.SHORTEN_BYTES = self.apply_bytes, 4 * self.apply_bytes
        nodes = []
        for vertex in self.vertices:
            node = UnifiedNode(vertex.name, follow_input="in" not in vertex.sources, **vertex.settings)
            inputs = [self.uri(source) for source in vertex.sources]
            node.bind_io(inputs if len(inputs) > 1 else inputs[0], self.uri(vertex.name))
            nodes.append(node.set_operator(vertex.operator(self.seed)))
        random.Random(self.seed).shuffle(nodes)  # in any order
        results = self.folder / "results"
        pipeline = UnifiedNodePipeline(nodes, streaming=self.streaming, results_dir=results, log_file=None)
        pipeline.create("a", if_exists="resume").run()

    def dead_letters(self) -> int:
        """Return 0: no row fails."""
        return 0

    def findings(self) -> Iterator[str]:
        """Yield what is wrong with what a run has left: each stream is compared with what it is made from."""
        (self.folder / "in.jsonl.done").touch()
        run_state = RunFolder(self.folder / "results", "a").load()
        inputs = {node["node_id"]: node["input_uri"] for node in run_state["nodes"]}
        for vertex in self.vertices:
            read, made = stored(inputs[vertex.name]), stored(self.uri(vertex.name))
            ids = [row["_i"] for row in made]
            if len(set(ids)) < len(ids):
                yield f"{vertex}: ids that are there twice"
            operator = vertex.operator(self.seed)
            if vertex.step in STEPS:
                wanted, found = bare(outcome(operator, read)), bare(made)
            else:
                each = outcome(operator, read) if vertex.step in LOOPS else _each(operator, read)
                wanted, found = bare(each), bare(made)
                wanted.sort(key=_text)
                found.sort(key=_text)
            if found != wanted:
                yield f"{vertex}: {len(found)} rows for {len(wanted)}; {_difference(found, wanted)}"
        for account in verify(run_state):
            yield from account.findings


def _each(operator: Any, rows: list[Any]) -> Iterator[Any]:
    for row in rows:
        made = operator(row)
        yield from made if isinstance(made, list) else [made] if made is not None else []


def _text(row: Any) -> str:
    return json.dumps(row, sort_keys=True)


def _difference(found: list[Any], wanted: list[Any]) -> str:
    """Return where two lists differ first."""
    at = next((at for at, (one, other) in enumerate(zip(found, wanted, strict=False)) if one != other), len(wanted))
    return f"row {at}: {found[at : at + 1]}, not {wanted[at : at + 1]}"
