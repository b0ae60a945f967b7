"""Shards that have ended, made by hand: sealed streams with the coverage that ranges of one input give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_datagen import StreamFactory
from llm_datagen.runs.exports import export_of
from llm_datagen.shards.gathered import Gathered, ShardState
from llm_datagen.streams.coverage import Span
from llm_datagen.streams.formats.base import lines_of

SOURCE = "jsonl://in.jsonl"
WIDTH = 10
"""Bytes of a row of the input that was never there."""


def write_shard(uri: str, rows: Sequence[dict[str, Any]], first: int, last: int, *, pieces: int = 2) -> None:
    """Write a stream as the shard of the source rows `first` to `last` writes it, in a few flushes, and seal it."""
    stream = StreamFactory.create(uri)
    Path(stream.path).parent.mkdir(parents=True, exist_ok=True)
    sink = stream.sink(source=SOURCE)
    kept = [rows[at::pieces] for at in range(pieces)] if rows else []
    for chosen in kept:
        if chosen:
            data = lines_of([sink.encoder.encode(row) for row in chosen])
            sink.append(data, rows=len(chosen), ids=(chosen[0]["_i"], chosen[-1]["_i"]))
    span = Span(first, last, first * WIDTH, last * WIDTH)
    sink.append(b"", rows=0, spans=[span], filtered=last - first - len(rows))
    sink.seal()


def entry(node_id: str, output_uri: str, input_uri: str = SOURCE) -> dict[str, Any]:
    """Return a node of a run state, as far as a gather looks at it."""
    return {"node_id": node_id, "output_uri": output_uri, "input_uri": input_uri, "status": "completed"}


def shards_of(folder: Path, name: str, rows: Sequence[Sequence[dict[str, Any]]], each: int = 10) -> list[ShardState]:
    """Make shards of `each` source rows, each with some rows in its output of a name; return them."""
    states = []
    for number, chosen in enumerate(rows):
        uri = str(folder / f"shards/{number:05}/{name}")
        write_shard(uri, chosen, number * each, (number + 1) * each)
        states.append(shard_state(number, uri))
    return states


def shard_state(number: int, uri: str) -> ShardState:
    """Return a shard that reads a part of the input, and writes one stream."""
    return ShardState(number, f"{number:05}", {"nodes": [entry("node_0", uri, "part://in.jsonl?rows=0-1&at=0-1")]})


def whole(folder: Path, name: str, shards: Sequence[ShardState], merge: Any, **state: Any) -> Gathered:
    """Return what is gathered of shards whose output goes to a name in a folder."""
    run_state = {
        "pipeline_id": "job",
        "status": "completed",
        "config": {},
        "nodes": [entry("node_0", str(folder / name))],
        **state,
    }
    return Gathered(run_state, shards, merge)


def export_to(target: str) -> dict[str, Any]:
    """Return what a run state says of one export."""
    return {"exports": [export_of(target, {})]}
