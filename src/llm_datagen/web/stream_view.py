"""The streams of a run and how nodes join them, for the page: each stream has a key, which is no path.

The keys are ``in.<number>`` of what no node writes, ``out.<node>``, and ``dead.<node>`` of dead letters.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_datagen.config.addresses import masked
from llm_datagen.errors import DatagenError
from llm_datagen.runs.diagram import stream_key
from llm_datagen.runs.status import SETTLED
from llm_datagen.streams import StreamFactory, inputs_of
from llm_datagen.streams.storage.local import LocalStorage


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStream:
    """A stream of a run.

    Attributes:
        key: its key.
        uri: its URI, as the run state has it.
        kind: "input", "between", "output" or "dead_letters".
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
                key=f"in.{number}",
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
                key=f"out.{node_id}",
                uri=entry["output_uri"],
                kind="between" if reading else "output",
                node_id=node_id,
                rows=entry.get("rows_out", 0),
                is_sealed=is_sealed,
                readers=_ids(reading),
            )
        )
        if entry.get("dead_letters"):
            found.append(
                RunStream(
                    key=f"dead.{node_id}",
                    uri=entry["output_uri"],
                    kind="dead_letters",
                    node_id=node_id,
                    rows=entry["dead_letters"],
                    is_sealed=is_sealed,
                )
            )
    return found


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


def stream_json(stream: RunStream, home: str) -> dict[str, Any]:
    """Return the JSON of a stream.

    Args:
        stream: the stream.
        home: the directory that relative paths are relative to.
    """
    path = _local_path(stream, home)
    size = None
    if path is not None:
        try:
            size = path.stat().st_size
        except OSError:
            path = None
    return {
        "stream": stream.key,
        "name": masked(stream.uri) + (".errors.jsonl" if stream.kind == "dead_letters" else ""),
        "kind": stream.kind,
        "node_id": stream.node_id,
        "rows": stream.rows,
        "sealed": stream.is_sealed,
        "bytes": size,
        "browsable": path is not None,
    }


def _local_path(stream: RunStream, home: str) -> Path | None:
    """Return where a stream lies on this machine; None when it lies elsewhere, or in several files."""
    try:
        found = StreamFactory.create(stream.uri)
    except (DatagenError, ValueError):
        return None
    if not isinstance(found.storage, LocalStorage) or list(found.files_read) != [found.path]:
        return None
    path = found.errors_path if stream.kind == "dead_letters" else found.path
    return Path(os.path.join(home, path))  # noqa: PTH118 - what is absolute stays so
