"""The streams of a run and how nodes join them, for the page: each stream has a key, which is no path.

The keys are those of `runs.topology`; what a node writes has `ROWS` behind its id, as edges name nodes and
streams. This is looked at twice a second, so no stream is opened, and nothing is asked of a store: the counts are
those of the run state.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_datagen.config.addresses import masked
from llm_datagen.errors import DatagenError
from llm_datagen.runs.node_kinds import MARK
from llm_datagen.runs.status import SETTLED
from llm_datagen.runs.topology import inputs_by_place, wired_streams
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.location import ERRORS_ENDING, REJECTED_ENDING
from llm_datagen.streams.storage.local import LocalStorage

ROWS = ":rows"
DEAD_LETTERS = ":dead_letters"
REJECTED = ":rejected"

_ENDINGS = {"dead_letters": ERRORS_ENDING, "rejected": REJECTED_ENDING}
"""How the names of files beside a stream end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStream:
    """A stream of a run.

    Attributes:
        key: its key.
        uri: its URI, as the run state has it.
        kind: "input", "between", "output", "dead_letters" or "rejected".
        node_id: the node that writes it; None of an input.
        rows: how many rows it has; None when not known.
        is_sealed: whether no more come.
        readers: the ids of the nodes that read it.
        is_marked: whether a pipeline file calls it the output.
    """

    key: str
    uri: str
    kind: str
    node_id: str | None = None
    rows: int | None = None
    is_sealed: bool = False
    readers: tuple[str, ...] = ()
    is_marked: bool = False


def streams_of(entries: Sequence[Mapping[str, Any]]) -> list[RunStream]:
    """Return the streams of the nodes of a run state: inputs first, then of each node what it writes."""
    found = []
    for stream in wired_streams(entries):
        readers = tuple(entry["node_id"] for entry in stream.readers)
        if stream.writer is None:
            first = stream.readers[0]
            is_counted = bool(first.get("total_is_exact"))
            is_whole = len(inputs_by_place(first)) == 1  # of several, nobody has counted each
            rows = first.get("total") if is_whole and is_counted else None
            found.append(
                RunStream(
                    key=stream.key, uri=stream.uri, kind="input", rows=rows, is_sealed=is_counted, readers=readers
                )
            )
            continue
        node_id, is_sealed = stream.key, stream.writer["status"] in SETTLED
        of_node = [(f"{node_id}{ROWS}", str(stream.kind), stream.writer.get("rows_out", 0), readers)]
        of_node += [(f"{node_id}:{kind}", kind, count, ()) for kind, count in _beside(stream.writer)]
        found += [
            RunStream(
                key=key,
                uri=stream.uri,
                kind=kind,
                node_id=node_id,
                rows=count,
                is_sealed=is_sealed,
                readers=reading,
                is_marked=kind == "output" and bool(stream.writer.get(MARK)),
            )
            for key, kind, count, reading in of_node
        ]
    return found


def _beside(entry: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the kinds of what lies beside the stream of a node, each with how many rows it has."""
    if entry.get("dead_letters"):
        yield "dead_letters", entry["dead_letters"]
    if entry.get("keep_rejected") and entry.get("rejected"):
        yield "rejected", entry["rejected"]


def edges_of(streams: Sequence[RunStream]) -> list[dict[str, str]]:
    """Return what joins streams and nodes: an edge from each writer to its stream, and from each to its readers."""
    edges = []
    for stream in streams:
        if stream.node_id is not None:
            edges.append({"from": stream.node_id, "to": stream.key, "stream": stream.key})
        edges += [{"from": stream.key, "to": reader, "stream": stream.key} for reader in stream.readers]
    return edges


def stream_json(stream: RunStream, home: str, *, is_sharded: bool) -> dict[str, Any]:
    """Return the JSON of a stream.

    Args:
        stream: the stream.
        home: the directory that relative paths are relative to.
        is_sharded: whether it is of a run in shards, which lies in several places.
    """
    size, is_browsable = (None, True) if is_sharded else _look(stream, home)
    return {
        "stream": stream.key,
        "name": masked(stream.uri) + _ENDINGS.get(stream.kind, ""),
        "kind": stream.kind,
        "node_id": stream.node_id,
        "rows": stream.rows,
        "sealed": stream.is_sealed,
        "marked": stream.is_marked,
        "bytes": size,
        "browsable": is_browsable,
    }


def _look(stream: RunStream, home: str) -> tuple[int | None, bool]:
    """Return how long a stream is, if it is a file of this machine, and whether its rows can be read, most likely."""
    try:
        found = StreamFactory.create(stream.uri)
    except (DatagenError, ValueError):  # such as a protocol of the user's own
        return None, False
    if found.is_in_memory:
        return None, False
    if not isinstance(found.storage, LocalStorage):
        return None, True
    path = f"{found.path}{_ENDINGS.get(stream.kind, '')}"
    try:
        return os.stat(os.path.join(home, path)).st_size, True  # noqa: PTH116, PTH118 - what is absolute stays so
    except OSError:
        return None, stream.kind == "input"  # it may be several files
