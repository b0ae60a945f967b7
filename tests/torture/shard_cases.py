"""Random pipelines that are run in shards: lines and graphs, of operators that compute, and that ask an endpoint."""

from __future__ import annotations

import csv
import io
import json
import random
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llm_datagen import Route, UnifiedNode, UnifiedNodePipeline, UnifiedPipeline, WriterConfig
from llm_datagen.llm import LLMOperator
from llm_datagen.llm.grants.service import GrantService
from llm_datagen.llm.limits import shared
from llm_datagen.shards.pipeline import ShardedPipeline
from llm_datagen.streams.storage.compression import compression_of

from .inputs import GROUP_ROWS
from .operators import FATES, PoisonError, bare
from .till import PRICES, stamp

ID = "a"
"""Of all runs."""

CANARY = "sk-shards-77ab01"
"""The key of the endpoint: it may lie in no file."""

WINDOW_SECONDS = 1.0
"""What a minute is for the limits of a case."""

CALL_SECONDS = 2.0
"""The longest that a call may take."""

PROMPT = "ask t {{ k }} {{ v }}"

VARIABLE = "TORTURE_SHARDS"
"""Says to `shard_target` which case it is, as JSON: `seed`, `folder`, `base_url`, `budget`."""

Way = Literal["driver", "command", "tasks", "tasks, then a driver"]
"""Who runs the shards: a driver with worker processes, made here or by the commands; processes of their own, as in an
array, with the rest done by a driver perhaps."""


def shorten_minutes() -> None:
    """Have the limits of this process, and of a service in it, count in windows of a second."""
    vars(shared)["WINDOW_SECONDS"] = WINDOW_SECONDS
    defaults = GrantService.__init__.__kwdefaults__
    assert defaults is not None
    defaults["window"] = WINDOW_SECONDS


def prompt_of(row: dict[str, Any]) -> str:
    """Return what is asked about a row."""
    return f"ask t {row['k']} {row['v']}"


class Step:
    """An operator: its fate, and its output of several, depend on the row alone; a row in `poison` fails.

    Args:
        name: of its node.
        fate: one of `FATES`, or ``answer``: what an endpoint would say.
        outputs: their names.
        poison: of how many rows one fails; 0: none.
        nap: seconds of a call at most; of the first rows of the input, eight times as long.
        seed: of its fate.
    """

    version = "1"

    def __init__(self, name: str, fate: str, outputs: Sequence[str], poison: int, nap: float, seed: int) -> None:
        self.name, self.fate, self.outputs, self.poison, self.nap, self.seed = name, fate, outputs, poison, nap, seed

    def __repr__(self) -> str:
        return f"{self.name}: {self.fate}, {self.outputs}, poison {self.poison}, nap {self.nap}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Be there in a worker process, whose limits count in windows of a second, too."""
        shorten_minutes()
        vars(self).update(state)

    def process_item(self, item: Any, ctx: Any) -> Any:
        """Return what becomes of a row."""
        row = bare(item)
        time.sleep(random.random() * self.nap * (8 if int(row["k"]) < 20 else 1))
        draw = zlib.crc32(f"{self.name} {row['k']} {row['v']}".encode())
        if self.poison and draw % self.poison == 0:
            raise PoisonError(self.name)
        made = {**row, "answer": stamp(prompt_of(row))} if self.fate == "answer" else FATES[self.fate](row, self.seed)
        if len(self.outputs) == 1 or made is None:
            return made
        if isinstance(made, list):
            return [Route(self.outputs[(draw + at) % len(self.outputs)], child) for at, child in enumerate(made)]
        return Route(self.outputs[draw % len(self.outputs)], made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """An operator that asks an endpoint.

    Attributes:
        budget: the first cap; None for none.
        requests: a minute; None for no limit.
        has_cache: whether answers are kept.
    """

    budget: dict[str, float] | None
    requests: int | None
    has_cache: bool

    def operator(self, folder: Path, base_url: str, budget: dict[str, float] | None) -> LLMOperator:
        """Return it, with the budget of the moment."""
        return LLMOperator(
            PROMPT,
            output="answer",
            model="m0",
            base_url=base_url,
            api_key=CANARY,
            prices=PRICES,
            params={"max_tokens": 40},
            cache=str(folder / "answers.sqlite") if self.has_cache else None,
            budget=budget,
            requests_per_minute=self.requests,
            timeout=CALL_SECONDS,
            max_retries=8,
            retry_wait=0.01,
            name="ask",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Vertex:
    """A node.

    Attributes:
        step: what it does.
        sources: the streams that it reads; ``in`` is the input.
        settings: of its node.
    """

    step: Step
    sources: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCase:
    """What a seed stands for.

    Attributes:
        seed: the seed.
        rows: of the input.
        source: jsonl, csv or parquet.
        compression: of the input: its ending.
        files: of the input.
        shards: how many.
        workers: how many run at once.
        merge: of the outputs.
        way: who runs the shards.
        has_grants: whether tasks share a budget and a limit by a service; else by fixed parts.
        streaming: whether all nodes run at once.
        is_graph: whether its nodes are wired by hand; else they are a line.
        vertices: its nodes.
        ask: what asks, in place of the node that answers; None: nothing does.
        ending: of the outputs.
        export: what is made besides the output of a line; empty: nothing.
    """

    seed: int
    rows: int
    source: str
    compression: str
    files: int
    shards: int
    workers: int
    merge: Literal["shards", "concat"]
    way: Way
    has_grants: bool
    streaming: bool
    is_graph: bool
    vertices: tuple[Vertex, ...]
    ask: Ask | None
    ending: str
    export: str

    @classmethod
    def of(cls, seed: int) -> ShardCase:
        """Return the case of a seed."""
        chance = random.Random(f"shards {seed}")
        rows = chance.choice([0, 5, 60, 150, 150, 300])
        has_ask = chance.random() < 0.4
        is_graph = not has_ask and chance.random() < 0.4
        source = chance.choice(["jsonl", "jsonl", "csv", "parquet"])
        ask = _ask(chance, rows) if has_ask else None
        return cls(
            seed=seed,
            rows=rows,
            source=source,
            compression=chance.choice(["", "", ".gz", ".zst"]) if source == "jsonl" else "",
            files=1 if is_graph else chance.choice([1, 1, 3]),  # a node with several inputs knows no patterns
            shards=chance.randint(2, 8),
            workers=chance.randint(1, 4),
            merge=chance.choice(["shards", "concat"]),
            way=chance.choice(["driver", "command", "tasks", "tasks", "tasks, then a driver"]),
            has_grants=chance.random() < 0.7,
            streaming=chance.random() < 0.7,
            is_graph=is_graph,
            vertices=tuple(_graph(chance, seed) if is_graph else _line(chance, seed, has_ask=has_ask)),
            ask=ask,
            ending=chance.choice(["jsonl", "jsonl", "jsonl.gz", "csv"]),
            export="" if is_graph else chance.choice(["", "", "parquet", "jsonl"]),
        )

    def given(self) -> list[dict[str, str]]:
        """Return the rows of the input."""
        return [{"k": str(n), "v": str(n), "pad": "x" * (n % 40)} for n in range(self.rows)]

    def input_uri(self, folder: Path) -> str:
        """Return where the input lies."""
        name = "in" if self.files == 1 else "in/*"
        return f"{self.source}://{folder}/{name}.{self.source}{self.compression}"

    def write(self, folder: Path) -> None:
        """Write the input."""
        rows = self.given()
        for number in range(self.files):
            name = "in" if self.files == 1 else f"in/{number:04}"
            path = folder / f"{name}.{self.source}{self.compression}"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write_file(path, rows[number * len(rows) // self.files : (number + 1) * len(rows) // self.files])

    def _write_file(self, path: Path, rows: Sequence[dict[str, str]]) -> None:
        if self.source == "parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            schema = pa.schema([(name, pa.string()) for name in ("k", "v", "pad")])
            pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, row_group_size=GROUP_ROWS)
            return
        if self.source == "csv":
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, ["k", "v", "pad"])
            writer.writeheader()
            writer.writerows(rows)
            path.write_text(text.getvalue(), newline="")
            return
        pack = compression_of(self.compression).compress if self.compression else bytes
        lines = [json.dumps(row).encode() + b"\n" for row in rows]
        members = [b"".join(lines[at : at + 25]) for at in range(0, max(1, len(lines)), 25)]
        path.write_bytes(b"".join(map(pack, members)))

    def pipeline(
        self, folder: Path, to: Path, base_url: str = "", budget: dict[str, float] | None = None
    ) -> UnifiedPipeline | UnifiedNodePipeline:
        """Return the pipeline.

        Args:
            folder: where the input lies.
            to: where everything else does.
            base_url: of the endpoint; empty: nothing asks, and the node that would knows the answer.
            budget: of the moment.
        """
        settings: dict[str, Any] = {
            "streaming": self.streaming,
            "results_dir": to / "results",
            "log_file": to / "platform.log",
        }
        if not self.is_graph:
            operators: list[Any] = [vertex.step for vertex in self.vertices]
            if self.ask is not None and base_url:
                at = next(at for at, step in enumerate(operators) if step.fate == "answer")
                operators[at] = self.ask.operator(to, base_url, budget)
            also = {"also": [f"{self.export}:{to}/more.{self.export}"]} if self.export else {}
            line = {**self.vertices[0].settings, "base_path": to / "between", **also, **settings}
            return UnifiedPipeline(operators, self.input_uri(folder), self.uri(to, "out"), **line)
        nodes = []
        for vertex in self.vertices:
            uris = [self.input_uri(folder) if source == "in" else self.uri(to, source) for source in vertex.sources]
            outputs = {name: self.uri(to, name) for name in vertex.step.outputs}
            node = UnifiedNode(vertex.step.name, follow_input="in" not in vertex.sources, **vertex.settings)
            node.bind_io(
                uris if len(uris) > 1 else uris[0], outputs if len(outputs) > 1 else next(iter(outputs.values()))
            )
            nodes.append(node.set_operator(vertex.step))
        return UnifiedNodePipeline(nodes, **settings)

    def uri(self, to: Path, name: str) -> str:
        """Return where a stream is written."""
        return f"{self.ending.partition('.')[0]}://{to}/{name}.{self.ending}"

    def outputs(self) -> list[str]:
        """Return the names of the streams that nothing reads."""
        if not self.is_graph:
            return ["out"]
        read = {source for vertex in self.vertices for source in vertex.sources}
        return [name for vertex in self.vertices for name in vertex.step.outputs if name not in read]

    def sharded(self, folder: Path, base_url: str, budget: dict[str, float] | None) -> ShardedPipeline:
        """Return the pipeline in shards."""
        pipeline = self.pipeline(folder, folder, base_url, budget)
        return ShardedPipeline(pipeline, shards=self.shards, workers=self.workers, merge=self.merge)


def _ask(chance: random.Random, rows: int) -> Ask:
    tokens = 500 + round(rows * 18 * chance.uniform(0.2, 1.5))
    caps: list[dict[str, float] | None] = [None, {"usd": tokens * 1.3e-6}, {"tokens": tokens}]
    return Ask(
        budget=chance.choice(caps),
        requests=chance.choice([None, max(20, rows // 4)]),
        has_cache=chance.random() < 0.5,
    )


def _settings(chance: random.Random, nap: float) -> dict[str, Any]:
    return {
        "parallel_size": chance.choice([1, 3, 8]),
        "ordered": chance.random() < 0.4,
        "on_error": chance.choice(["skip", "dead_letter", "dead_letter"]),
        "writer_config": WriterConfig(
            flush_batch_size=chance.choice([1, 7, 1000]),
            flush_interval=chance.choice([0.01, 0.2]),
            async_mode=chance.random() < 0.7,
            fsync="never",
        ),
    }


def _line(chance: random.Random, seed: int, *, has_ask: bool) -> list[Vertex]:
    nap = chance.choice([0.0, 0.003, 0.01])
    fates = [chance.choice(["map", "filter", "fan"]) for _ in range(chance.randint(1, 3))]
    if has_ask:
        fates.insert(chance.randint(0, 1), "answer")
        fates = fates[:3]
    settings = _settings(chance, nap)
    return [
        Vertex(
            step=Step(f"node_{at}", fate, ("out",), 0 if fate == "answer" else chance.choice([0, 13]), nap, seed),
            sources=(),
            settings=settings,
        )
        for at, fate in enumerate(fates)
    ]


def _graph(chance: random.Random, seed: int) -> list[Vertex]:
    """Return nodes each of which reads the input, or a stream that was made before, or two."""
    nap = chance.choice([0.0, 0.003, 0.01])
    streams, vertices = ["in"], []
    for number in range(chance.randint(2, 5)):
        outputs = tuple(f"s{number}{name}" for name in "abc"[: chance.choice([1, 1, 2, 3])])
        fate = chance.choice(["map", "map", "filter", "fan"])
        step = Step(f"n{number}", fate, outputs, chance.choice([0, 13]), nap, seed)
        sources = tuple(chance.sample(streams, min(len(streams), chance.choice([1, 1, 2]))))
        vertices.append(Vertex(step=step, sources=sources, settings=_settings(chance, nap)))
        streams += outputs
    return vertices
