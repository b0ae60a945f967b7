"""The streams of a run and how nodes join them, for the page: each stream has a key, which is no path.

The keys are those of `runs.browse.run_streams`; what a node writes has `ROWS` behind its id, as edges name nodes and
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
from llm_datagen.runs.diagram import stream_key
from llm_datagen.runs.status import SETTLED
from llm_datagen.streams import StreamFactory, inputs_of
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
    """

    key: str
    uri: str
    kind: str
    node_id: str | None = None
    rows: int | None = None
    is_sealed: bool = False
    readers: tuple[str, ...] = ()


def streams_of(entries: Sequence[Mapping[str, Any]]) -> list[RunStream]:
    """Return the streams of the nodes of a run state: inputs first, then of each node what it writes."""
    readers: dict[Any, list[Mapping[str, Any]]] = {}
    uris: dict[Any, str] = {}
    for entry in entries:
        for uri in inputs_of(entry["input_uri"]).values():
            readers.setdefault(stream_key(uri), []).append(entry)
            uris.setdefault(stream_key(uri), uri)
    written = {stream_key(entry["output_uri"]) for entry in entries}
    found = []
    for number, place in enumerate(place for place in uris if place not in written):
        first = readers[place][0]
        is_whole = inputs_of(first["input_uri"]).keys() == {""}  # of several, nobody has counted each
        found.append(
            RunStream(
                key=f"input:{number}",
                uri=uris[place],
                kind="input",
                rows=first.get("total") if is_whole and first.get("total_is_exact") else None,
                is_sealed=bool(first.get("total_is_exact")),
                readers=_ids(readers[place]),
            )
        )
    for entry in entries:
        node_id, reading = entry["node_id"], readers.get(stream_key(entry["output_uri"]), [])
        is_sealed = entry["status"] in SETTLED
        found.append(
            RunStream(
                key=f"{node_id}{ROWS}",
                uri=entry["output_uri"],
                kind="between" if reading else "output",
                node_id=node_id,
                rows=entry.get("rows_out", 0),
                is_sealed=is_sealed,
                readers=_ids(reading),
            )
        )
        for kind, rows in _beside(entry):
            found.append(
                RunStream(
                    key=f"{node_id}:{kind}",
                    uri=entry["output_uri"],
                    kind=kind,
                    node_id=node_id,
                    rows=rows,
                    is_sealed=is_sealed,
                )
            )
    return found


def _beside(entry: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the kinds of what lies beside the stream of a node, each with how many rows it has."""
    if entry.get("dead_letters"):
        yield "dead_letters", entry["dead_letters"]
    if entry.get("keep_rejected") and entry.get("rejected"):
        yield "rejected", entry["rejected"]


def _ids(entries: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(entry["node_id"] for entry in entries)


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
