"""The streams of a run that can be browsed: inputs, what is between nodes, outputs, and what lies beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llm_datagen.errors import StreamError
from llm_datagen.runs.topology import WiredStream, stream_key, wired_streams
from llm_datagen.runs.unsettled import unsettled
from llm_datagen.streams import Stream, StreamFactory, inputs_of
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.ids import RootNames, root_names
from llm_datagen.streams.position import Position
from llm_datagen.streams.recovery import done_of, position_of
from llm_datagen.streams.source import streams_of
from llm_datagen.streams.storage.base import Place

Kind = Literal["input", "between", "output", "dead_letters", "rejected"]


class _Beside(Stream):
    """JSON lines beside a stream, read as a stream of their own."""

    codec = JsonlCodec().unbounded()

    def __init__(self, stream: Stream, path: str) -> None:
        super().__init__(path)
        self.storage = stream.storage

    @property
    def path(self) -> str:
        """Where it lies."""
        return self.uri


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is of a stream now.

    Attributes:
        rows: how many rows; None when nobody has counted them.
        is_sealed: whether it will not grow.
        bytes: how long it is; None when it is not there.
        why_not: why it cannot be browsed, and what to do; "" when it can.
    """

    rows: int | None
    is_sealed: bool
    bytes: int | None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stream, or a file beside one, as it is browsed.

    Attributes:
        stream: what is read.
        owner: the stream beside which it lies; the same stream for rows.
        kind: what it is.
        root: how its rows are named, of a pipeline's input; None when they have ids.
        until: the number of the row behind the last one, of an input without end; None of others.
    """

    stream: Stream
    owner: Stream
    kind: Kind
    root: RootNames | None = None
    until: int | None = None

    @property
    def is_beside(self) -> bool:
        """Whether it is a file beside a stream."""
        return self.stream is not self.owner

    @property
    def key(self) -> tuple[Place, str]:
        """What it is, however it is spelled."""
        return self.owner.place, self.kind if self.is_beside else ""

    def look(self) -> Seen:
        """Return what there is of it now.

        Raises:
            StreamError: when what is beside it cannot be read.
        """
        found = position_of(self.owner)
        is_sealed = self.owner.is_sealed()
        if self.owner.is_in_memory and self.owner.size() is None:
            where = "in the memory of the process of the run"
            return Seen(found[1].rows if found else None, is_sealed, None, f"{self.owner.uri} is {where}; write a file")
        if self.is_beside:
            position = found[1] if found else Position()
            rows, length = (
                (position.rejected, position.rejected_bytes)
                if self.kind == "rejected"
                else (position.dead, position.errors_bytes)
            )
            is_gone = bool(length) and self.stream.size() is None
            return Seen(rows, is_sealed, length, _why_gone(self.stream, self.kind, had_rows=True) if is_gone else "")
        size = self.stream.size()
        why = "" if size is not None else _why_gone(self.stream, self.kind, had_rows=bool(found and found[1].bytes))
        return Seen(found[1].rows if found else None, is_sealed, size, why)


def _why_gone(stream: Stream, kind: Kind, *, had_rows: bool) -> str:
    if kind == "input":
        return f"{stream.shown} is not there: the input was moved or deleted; put it back"
    if had_rows or stream.exists():
        return f"{stream.shown} is gone, though rows of it were committed; restore it"
    return f"{stream.shown} is not there: nothing was written to it yet, or it was deleted"


@dataclass(frozen=True, slots=True)
class RunStream:
    """A stream of a run.

    Attributes:
        key: its name within the run, for programs: ``"input:0"``, ``"node_1"``, ``"node_1:dead_letters"``.
        name: its path or URI, for people.
        kind: what it is.
        node_id: the node that writes it; None of an input.
        pieces: what is read, one after the other: one, or of a run in shards that of each shard.
    """

    key: str
    name: str
    kind: Kind
    node_id: str | None
    pieces: Sequence[Piece] = field(repr=False)

    def look(self) -> Seen:
        """Return what there is of it now, in all shards.

        Raises:
            StreamError: when what is beside it cannot be read.
        """
        seen = [piece.look() for piece in self.pieces]
        if not seen:
            return Seen(0, is_sealed=False, bytes=None, why_not=f"{self.name} is not there: no shard has begun")
        sizes = [each.bytes for each in seen if each.bytes is not None]
        refused = [each.why_not for each in seen if each.why_not]
        return Seen(
            seen[0].rows if len(seen) == 1 else sum(each.rows or 0 for each in seen),
            all(each.is_sealed for each in seen),
            sum(sizes) if sizes else None,
            refused[0] if len(refused) == len(seen) else "",
        )


def streams_of_run(run_state: Mapping[str, Any], shards: Sequence[Mapping[str, Any]] | None = None) -> list[RunStream]:
    """Return the streams of a run, in the order in which rows go through them; what lies beside one follows it.

    Args:
        run_state: its run state; of a run in shards, that of the whole.
        shards: the run states of its shards that have begun, in the order of the input; None of a run without.
    """
    left_out = unsettled({**run_state})
    found: list[RunStream] = []
    for wired in wired_streams(run_state["nodes"]):
        if wired.writer is None:
            readers = [entry for entry in wired.readers if entry["node_id"] not in left_out]
            found += [_input(wired, readers)] if readers else []
            continue
        entry, node_id = wired.writer, wired.key
        if node_id in left_out:
            continue
        stream = StreamFactory.output_of(entry)
        of_node = [StreamFactory.output_of(each) for each in _entries(entry, shards)]
        if shards is not None and wired.kind == "output" and stream.is_sealed():
            of_node = [stream]  # what a gather has made of those of the shards
        found.append(_run_stream(node_id, stream.shown, wired.kind, node_id, of_node))
        dead = f"{node_id}:dead_letters"
        found.append(_run_stream(dead, stream.errors_path, "dead_letters", node_id, of_node))
        if entry.get("keep_rejected"):
            beside = f"{node_id}:rejected"
            found.append(_run_stream(beside, stream.rejected_path, "rejected", node_id, of_node))
    return found


def find_stream(streams: Sequence[RunStream], key: str) -> RunStream:
    """Return the stream of a key.

    Raises:
        StreamError: when there is none.
    """
    for stream in streams:
        if stream.key == key:
            return stream
    raise StreamError(f"the run has no stream {key!r}; it has {', '.join(stream.key for stream in streams)}")


def _entries(entry: Mapping[str, Any], shards: Sequence[Mapping[str, Any]] | None) -> list[Mapping[str, Any]]:
    """Return a node, or the node of that id in each shard."""
    if shards is None:
        return [entry]
    return [each for shard in shards for each in shard["nodes"] if each["node_id"] == entry["node_id"]]


def _input(wired: WiredStream, readers: Sequence[Mapping[str, Any]]) -> RunStream:
    """Return an input, as the first of the nodes that read it does; of one without end, as far as any has read it."""
    mine = [
        (entry, stream)
        for entry in readers
        for place, stream in zip(
            map(stream_key, inputs_of(entry["input_uri"]).values()),
            streams_of(StreamFactory.input_of(entry)),
            strict=True,
        )
        if place == wired.place
    ]
    first, stream = mine[0][0], mine[0][1].with_source(None)
    is_endless = mine[0][1].is_there() and mine[0][1].is_endless
    until = max(done_of(StreamFactory.output_of(entry)) for entry, _ in mine) if is_endless else None
    return RunStream(
        wired.key, stream.shown, "input", None, (Piece(stream, stream, "input", root_names(first), until),)
    )


def _run_stream(key: str, name: str, kind: Kind, node_id: str, streams: Sequence[Stream]) -> RunStream:
    if kind == "rejected":
        pieces = [Piece(_Beside(stream, stream.rejected_path), stream, kind) for stream in streams]
    elif kind == "dead_letters":
        pieces = [Piece(_Beside(stream, stream.errors_path), stream, kind) for stream in streams]
    else:
        pieces = [Piece(stream, stream, kind) for stream in streams]
    return RunStream(key, name, kind, node_id, pieces)
