"""What is odd about the inputs of a run, as far as their first rows show it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llm_datagen.config import set_data_config
from llm_datagen.errors import DatagenError
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.preview import external_inputs, first_rows
from llm_datagen.pipeline.stream_checks import where_paths_begin
from llm_datagen.streams import Stream
from llm_datagen.streams.formats.csv import CsvCodec


def clash_of_ids(run_state: Mapping[str, Any]) -> str | None:
    """Return what is wrong when the first row of the input has the column that is to take the ids; else None."""
    column = run_state["nodes"][-1].get("id_column")
    if column is None:
        return None
    try:
        ((stream, root),) = external_inputs({"nodes": run_state["nodes"][:1]})
        stream.check_source()
        rows = first_rows(stream, 1, root=root).rows
    except DatagenError:  # whoever reads it tells that
        return None
    if not rows or not isinstance(rows[0][1], Mapping) or column not in rows[0][1]:
        return None
    return (
        f"{stream.path} has a column {column!r} already, where id_column={column!r} is to put the ids of rows: rows "
        "that still have it at the end fail; let an operator take it out, or choose another id_column"
    )


def missing_inputs(nodes: Sequence[UnifiedNode]) -> Iterator[str]:
    """Yield what to do about inputs that are not there, and that the run would not wait for."""
    written = {node.output.place for node in nodes}
    for node in nodes:
        for stream in node.input.read_as_is(follow=node.follow_input):
            if stream.place not in written and _is_missing(stream):
                yield (
                    f"{stream.path} does not exist, and the run fails if it does not when it begins; check the path"
                    f"{where_paths_begin(stream)}, or say follow_input=True to wait for it"
                )


def _is_missing(stream: Stream) -> bool:
    try:
        return not stream.is_there()
    except DatagenError:  # whoever reads it tells that
        return False


def replaced_inputs(old: Mapping[str, Any], run_state: Mapping[str, Any]) -> str | None:
    """Return what to say when a run that has not begun is replaced by one that reads other inputs; else None."""
    try:
        was, now = ([stream.shown for stream, _ in external_inputs(state)] for state in (old, run_state))
    except DatagenError:  # of the old one, such as a protocol that nobody knows any more
        return None
    if sorted(was) == sorted(now):
        return None
    return (
        f"run {run_state['pipeline_id']!r} was created before, and had not begun: it is replaced, and now reads "
        f"{', '.join(now)}, not {', '.join(was)}; give each run an id of its own to keep both"
    )


_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_HEAD_BYTES = 1 << 16


def other_separators(run_state: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is odd about inputs in CSV whose only column seems to be several columns."""
    for stream, _ in external_inputs(run_state):
        columns, codec = _columns_of(stream), stream.codec
        for sign, word in _SEPARATORS.items():
            if len(columns) == 1 and sign in columns[0] and isinstance(codec, CsvCodec):
                yield (
                    f"{stream.path} has one column, {columns[0]!r}: it seems to be separated by {word}, and CSV is "
                    f"read with {codec.separator!r}; {set_data_config(f'separator={sign!r}')}"
                )


def _columns_of(stream: Stream) -> Sequence[str]:
    """Return the header of a stream in CSV; nothing of any other, or when it cannot be read."""
    if not isinstance(stream.codec, CsvCodec):
        return ()
    with contextlib.suppress(DatagenError, OSError, ValueError):  # whoever reads it tells that
        stream.check_source()
        if stream.storage.size(stream.path):
            with contextlib.closing(stream.open_data()) as file:
                found = stream.codec.read_preamble(file.read_at(0, _HEAD_BYTES), final=True)
            return found[0].columns if found else ()
    return ()
