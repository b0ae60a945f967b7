"""A run state with absolute paths: relative ones count from the directory in which the run was started.

Who looks at several runs at once cannot be in all their directories.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_datagen.streams import MergedStream, StreamFactory
from llm_datagen.streams.file_streams import FileStream
from llm_datagen.streams.inputs.computed import INPUT_BOUNDS
from llm_datagen.streams.merged import PROTOCOL as MERGE
from llm_datagen.streams.storage.local import LOCAL_STORAGE

_NESTED = ("cycle", "part", "generate")


def with_absolute_paths(run_state: Mapping[str, Any], directory: str | Path) -> dict[str, Any]:
    """Return a run state whose streams are named by absolute paths.

    Args:
        run_state: the run state.
        directory: the directory that its relative paths count from.
    """
    return {**run_state, "nodes": [_with_absolute_paths(entry, directory) for entry in run_state["nodes"]]}


def _with_absolute_paths(entry: Mapping[str, Any], directory: str | Path) -> dict[str, Any]:
    changed = {key: absolute_uri(entry[key], directory) for key in ("input_uri", "output_uri") if key in entry}
    by_uri = [INPUT_BOUNDS, *(["input_fingerprint"] if entry["input_uri"].startswith(MERGE) else [])]
    noted = {
        key: {absolute_uri(uri, directory): value for uri, value in entry[key].items()}
        for key in by_uri
        if entry.get(key)
    }
    return {**entry, **changed, **noted}


def absolute_uri(uri: str, directory: str | Path) -> str:
    """Return a stream's URI with an absolute path, if it is a file's of this machine; else as it is."""
    if uri.startswith(MERGE):
        merged = MergedStream(uri, StreamFactory.create)
        named = {each.name: absolute_uri(each.stream.uri, directory) for each in merged.inputs}
        return MergedStream.uri_of(merged.naming, named, [each.name for each in merged.inputs if each.is_static])
    protocol, separator, rest = uri.partition("://")
    if separator and protocol in _NESTED:
        return f"{protocol}://{absolute_uri(rest, directory)}"
    if not _is_local(uri):
        return uri
    return f"{protocol}://{Path(directory, rest)}" if separator else str(Path(directory, uri))


def _is_local(uri: str) -> bool:
    kind = StreamFactory.stream_class(uri)
    return issubclass(kind, FileStream) and kind.storage is LOCAL_STORAGE and kind.path is FileStream.path
