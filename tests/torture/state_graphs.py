"""Random graphs of operators that keep state, killed: what each has made is what it makes of its input in one go.

The input of a node lies on disk in one order, whatever was killed; a node with state takes one row at a time, in that
order. So its output is known exactly: by the same operator, over those rows, with a state that is a dict. A node with a
target has exactly so many of those rows, or all when there are fewer; nodes that nobody needs any more may have a part.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llm_datagen import StreamFactory, UnifiedNode, UnifiedNodePipeline, WriterConfig, ops
from llm_datagen.runs import RunFolder
from llm_datagen.runs.verify import verify
from llm_datagen.streams.scan import rows_of
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

PLAIN = (*FATES, "loop")
"""Operators without: what they make of a row."""

LAST = {"loop", "mark", "group", "count", "stats"}
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
        call = instrument(partial(_slowly, fate="map" if self.step == "loop" else self.step, seed=seed))
        return ops.Loop(call, until=_is_good, max_rounds=3) if self.step == "loop" else call

    def made_of(self, row: dict[str, Any], seed: int) -> list[Any]:
        """Return what it makes of a row, if it keeps no state."""
        if self.step != "loop":
            made = _slowly(row, fate=self.step, seed=seed)
            return made if isinstance(made, list) else [] if made is None else [made]
        for number in range(1, 4):
            row = {**_slowly(row, fate="map", seed=seed), "_round": number}
            if _is_good(row):
                break
        return [row]


def _slowly(row: dict[str, Any], *, fate: str, seed: int) -> Any:
    time.sleep(0.0003)
    made = FATES[fate]({name: value for name, value in row.items() if name not in ("_i", "_sources", "_round")}, seed)
    for each in made if isinstance(made, list) else [made] if made else []:
        each["v"] = str(int(float(each["v"])) % 97)  # so that there are duplicates
    return made


def _is_good(row: dict[str, Any]) -> bool:
    return int(row["v"]) % 3 == 0


@dataclass(frozen=True, slots=True)
class StateGraph:
    """A graph half of whose nodes keep state; some have a target, or a bounded lead."""

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
            step = chance.choice([*PLAIN, *STEPS]) if number else "map"
            settings = {
                "parallel_size": 1 if step in STEPS else chance.choice([1, 3]),
                "ordered": chance.random() < 0.3,
                "writer_config": WriterConfig(
                    flush_batch_size=chance.choice([1, 7, 1000]), async_mode=chance.random() < 0.7, fsync="never"
                ),
                "max_lead": chance.choice([None, 1, 5, 50]) if streaming else None,
                "target": chance.choice([1, 20, 80, 400]) if number and chance.random() < 0.25 else None,
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
        nodes = {node["node_id"]: node for node in run_state["nodes"]}
        for vertex in self.vertices:
            node, target = nodes[vertex.name], vertex.settings["target"]
            status = node["status"]
            if status not in ("completed", "unneeded"):
                yield f"{vertex}: {status}"
            read = _rows(node["input_uri"])
            made = stored(self.uri(vertex.name)) if status == "completed" else _rows(self.uri(vertex.name))
            ids = [row["_i"] for row in made]
            if len(set(ids)) < len(ids):
                yield f"{vertex}: ids that are there twice"
            found = bare(made)
            if vertex.step in STEPS:
                wanted = bare(outcome(vertex.operator(self.seed), read))
                is_right = found == wanted[: len(found)]
            else:
                wanted = bare(each for row in read for each in vertex.made_of(row, self.seed))
                is_right = Counter(map(_text, found)) <= Counter(map(_text, wanted))
            is_whole = status == "unneeded" or len(found) == min(len(wanted), target or len(wanted))
            if not is_right or not is_whole:
                yield f"{vertex}, {status}: {len(found)} rows for {len(wanted)}; {_difference(found, wanted)}"
        for account in verify(run_state):
            yield from account.findings


def _rows(uri: str) -> list[dict[str, Any]]:
    """Return the rows of a stream with their ids, sealed or not."""
    return [{**row, "_i": row_id} for row_id, row, _ in rows_of(StreamFactory.create(uri))]


def _text(row: Any) -> str:
    return json.dumps(row, sort_keys=True)


def _difference(found: list[Any], wanted: list[Any]) -> str:
    """Return where two lists differ first."""
    at = next((at for at, (one, other) in enumerate(zip(found, wanted, strict=False)) if one != other), len(wanted))
    return f"row {at}: {found[at : at + 1]}, not {wanted[at : at + 1]}"
