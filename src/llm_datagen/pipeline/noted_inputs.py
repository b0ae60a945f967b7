"""What a run knows of an input, for nodes that read all of it again: its files in their order, or its commit.

So rows keep their ids, stored answers are found, and versions of a run can be compared row by row. What tells of other
inputs whether they were changed is noted anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llm_datagen.streams import Place, Source, StreamFactory
from llm_datagen.streams.inputs.file_set import FileSet
from llm_datagen.streams.inputs.part import PartStream
from llm_datagen.streams.source import noted_parts

NOTED = "input_fingerprint"
"""The key of a node for what is noted of its input; see `Source.fingerprint`."""


def noted_inputs(entries: Iterable[Mapping[str, Any]]) -> dict[Place, Any]:
    """Return what the nodes of a run state know of inputs that are many files, or a part of one."""
    found: dict[Place, Any] = {}
    for entry in entries:
        if NOTED not in entry:
            continue
        for stream, known in noted_parts(StreamFactory.source(entry["input_uri"]), entry[NOTED]):
            if known is not None and isinstance(stream, FileSet | PartStream):
                found.setdefault(stream.place, known)
    return found


def read_again(source: Source, noted: Mapping[Place, Any]) -> Any:
    """Return what a node keeps that reads all of a source again; None when that is nothing."""
    parts = noted_parts(source, None)
    if source is parts[0][0]:
        return noted.get(source.place)
    return {stream.uri: noted[stream.place] for stream, _ in parts if stream.place in noted} or None
