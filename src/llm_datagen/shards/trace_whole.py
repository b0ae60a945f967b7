"""Trace a row of a run in shards: through the shard that its row of the input belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from llm_datagen.runs import RunFolder
from llm_datagen.runs.trace import Trace, trace
from llm_datagen.shards.shard_seen import Shard
from llm_datagen.shards.spec import shards_folder
from llm_datagen.shards.whole import Whole, readers_of_input
from llm_datagen.streams.ids import Id, batch_ends, parent_of, root_names
from llm_datagen.streams.inputs.part import input_of_part


def trace_whole(whole: Whole, row_id: Id) -> Iterator[tuple[Shard, list[Trace]]]:
    """Yield the shards that know a row, each with what `runs.trace` finds in it.

    Where ids are the numbers of rows, that is the shard whose range has the number. Else all shards are looked
    through.

    Args:
        whole: the run.
        row_id: an id from any stream of it.

    Raises:
        StreamError: when a stream cannot be read.
    """
    begun = [shard for shard in whole.shards if shard.state]
    number = _row_number(whole, row_id)
    likely = [shard for shard in begun if number is not None and _has(shard, number)]
    others = [shard for shard in begun if shard not in likely]
    for shards in (likely, others):
        found = False
        for shard in shards:
            traces = [replace(each, uri=input_of_part(each.uri)) for each in trace(shard.state, row_id)]
            if traces:
                found = True
                yield shard, traces
        if found:
            return


def files_of(whole: Whole, shard: Shard) -> Path:
    """Return where the operators of a shard that has begun keep their files."""
    assert shard.run is not None
    return RunFolder(shards_folder(whole.folder).location, shard.run).files_path


def shard_to_come(whole: Whole, row_id: Id) -> Shard | None:
    """Return the shard that a row belongs to, by its id, if it has not begun: then nothing is known of the row."""
    number = _row_number(whole, row_id)
    found = (shard for shard in whole.shards if number is not None and not shard.state and _has(shard, number))
    return next(found, None)


def _row_number(whole: Whole, row_id: Id) -> int | None:
    """Return the number of the row of the input that a row comes from, as its id says; None when it does not."""
    readers = readers_of_input(whole.saved["nodes"])
    names = next(root_names(entry) for entry in whole.saved["nodes"] if entry["node_id"] in readers)
    if names is None:
        return None
    current: Id | None = row_id
    while current is not None:
        if (number := names.number(current)) is not None:
            return number
        ends = batch_ends(current)
        current = ends[0][0] if ends else parent_of(current)
    return None


def _has(shard: Shard, number: int) -> bool:
    return shard.range.first.row <= number < shard.range.last.row
