"""Which streams the nodes of a run read and write, by its run state alone: no stream is opened, and no store is asked.

Whoever shows the streams of a run starts here, so that all give them the same keys, kinds and order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llm_datagen.errors import ConfigError
from llm_datagen.runs.node_kinds import MARK, Entry
from llm_datagen.streams import StreamFactory, inputs_of


@dataclass(frozen=True, slots=True, kw_only=True)
class WiredStream:
    """A stream of a run.

    Attributes:
        key: ``"input:0"`` and so on; of what a node writes, the id of the node.
        place: its identity, however its URI is spelled.
        uri: its URI, as the run state has it.
        kind: what it is; an output is what no node reads, and what a pipeline file calls the output.
        writer: the node that writes it; None of an input.
        readers: the nodes that read it.
    """

    key: str
    place: Any
    uri: str
    kind: Literal["input", "between", "output"]
    writer: Entry | None
    readers: tuple[Entry, ...]


def written_outputs(run_state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes that write what no node of the run reads, and what a pipeline file calls the output."""
    written = {stream.key for stream in wired_streams(run_state["nodes"]) if stream.kind == "output"}
    return [entry for entry in run_state["nodes"] if entry["node_id"] in written]


def wired_streams(entries: Sequence[Entry]) -> list[WiredStream]:
    """Return the streams of some nodes: the inputs, then what each node writes, in the order of the nodes."""
    readers: dict[Any, list[Entry]] = {}
    uris: dict[Any, str] = {}
    for entry in entries:
        for place, uri in inputs_by_place(entry).items():
            readers.setdefault(place, []).append(entry)
            uris.setdefault(place, uri)
    outputs = [(stream_key(entry["output_uri"]), entry) for entry in entries]
    written = {place for place, _ in outputs}
    inputs = [place for place in uris if place not in written]
    found = [
        WiredStream(
            key=f"input:{number}",
            place=place,
            uri=uris[place],
            kind="input",
            writer=None,
            readers=tuple(readers[place]),
        )
        for number, place in enumerate(inputs)
    ]
    for place, entry in outputs:
        reading = tuple(readers.get(place, ()))
        kind: Literal["between", "output"] = "between" if reading and not entry.get(MARK) else "output"
        node_id, uri = entry["node_id"], entry["output_uri"]
        found.append(WiredStream(key=node_id, place=place, uri=uri, kind=kind, writer=entry, readers=reading))
    return found


def stream_key(uri: str) -> Any:
    """Return the identity of the stream of a URI, however it is spelled; the protocol may be unknown here."""
    try:
        return StreamFactory.create(uri).place
    except ConfigError:
        return uri


def inputs_by_place(entry: Entry) -> dict[Any, str]:
    """Return the URIs of the streams that a node reads, by their identities."""
    return {stream_key(uri): uri for uri in inputs_of(entry["input_uri"]).values()}
