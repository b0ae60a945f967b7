"""A computed input (`Generate`, `Cycle`) that the code gives with other bounds than a run has: rows were added to it.

Row k follows from k, so those that are done stay what they are. The new bounds are noted in the run state, beside the
URI of the input, which the streams made of it know it by. Any other edit of what rows are generated from is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llm_datagen.errors import StreamMissingError
from llm_datagen.pipeline.binding import Binding
from llm_datagen.pipeline.made_inputs import no_end
from llm_datagen.pipeline.run import StartNotice
from llm_datagen.pipeline.stream_reset import Entry
from llm_datagen.streams import Generate, MergedStream, Source, StreamFactory
from llm_datagen.streams.coverage import Coverage
from llm_datagen.streams.inputs.computed import INPUT_BOUNDS, ComputedStream
from llm_datagen.streams.inputs.generated import GeneratedStream, refuse_edited
from llm_datagen.streams.source import streams_of

Given = Source | Generate


def take_bounds(given: Mapping[str, Given], run_state: Entry) -> list[StartNotice]:
    """Write into a run state how many rows the code says that its computed inputs have.

    Args:
        given: what the nodes read as the code has it, by their ids; of nodes that the code does not say it of, nothing.
        run_state: the run state.

    Returns:
        What is to be told of it.

    Raises:
        StreamChangedError: when the rows would be others.
        StreamMissingError: when there are to be more or fewer rows of a file that is not there.
        ConfigError: when an input has no end any more, and nodes wait for it.
    """
    notes = []
    for entry in run_state["nodes"]:
        source = StreamFactory.input_of(entry)
        for stream, bounds in _bounds_of(given.get(entry["node_id"]), source):
            before = stream.bounds
            if bounds == before:
                continue
            stream.take_bounds(bounds)
            if stream.is_endless and not run_state["config"]["streaming"] and _has_readers(entry, run_state):
                raise no_end()
            entry[INPUT_BOUNDS] = {**entry.get(INPUT_BOUNDS, {}), stream.uri: bounds}
            changed = [f"{name} {_shown(before[name])} → {_shown(bounds[name])}" for name in bounds]
            told = ", ".join(text for name, text in zip(bounds, changed, strict=True) if before[name] != bounds[name])
            notes.append(StartNotice(entry["node_id"], f"its input has other bounds: {told}"))
    return notes


def check_specs(node: Binding, known: Any) -> None:
    """Check that the computed inputs of a node which has ended say which rows there are, as they did.

    Args:
        node: the node.
        known: the fingerprint of what it reads in the run state.

    Raises:
        StreamChangedError: when they do not.
    """
    source = node.input
    if not any(isinstance(stream, ComputedStream) for stream in streams_of(source)):
        return
    for stream, rows in source.parts(Coverage(node.read_before())):
        if isinstance(stream, ComputedStream) and stream.is_there():
            noted = (known or {}).get(stream.uri) if isinstance(source, MergedStream) else known
            stream.check_spec(noted, rows)


def _bounds_of(given: Given | None, source: Source) -> Iterator[tuple[ComputedStream, dict[str, int | None]]]:
    """Yield the computed inputs of a run which the code gives, too, with the bounds that it gives."""
    streams = streams_of(source)
    if isinstance(given, Generate):
        if len(streams) == 1 and isinstance(stream := streams[0], GeneratedStream) and stream.is_there():
            refuse_edited("input", stream.spec().parts(), given.parts())
            yield stream, {"n": given.n}
        return
    for stream, other in zip(streams, [] if given is None else streams_of(given), strict=False):
        is_same = type(stream) is type(other) and stream.place == other.place
        if is_same and isinstance(stream, ComputedStream) and isinstance(other, ComputedStream):
            if isinstance(stream, GeneratedStream):
                continue  # the file itself says it
            if other.bounds != stream.bounds and not stream.is_there():
                raise StreamMissingError(f"{stream.shown} does not exist, and other rows of it are wanted; restore it")
            yield stream, other.bounds


def _has_readers(entry: Entry, run_state: Entry) -> bool:
    place = StreamFactory.create(entry["output_uri"]).place
    return any(place in StreamFactory.source(other["input_uri"]).places for other in run_state["nodes"])


def _shown(value: int | None) -> str:
    return "no end" if value is None else f"{value:,}"
