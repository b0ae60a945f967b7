"""The streams of a run in shards, as they are shown: between its nodes, each shard has its own, and the whole none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.runs import RunFolder
from llm_datagen.shards.gathered import gathered_outputs, shown_outputs
from llm_datagen.shards.spec import moved_streams, rewired, shards_folder
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.source import streams_of

_A_SHARD, _EACH = "00000", "*"


def as_shown(run_state: Mapping[str, Any], folder: RunFolder) -> dict[str, Any]:
    """Return the run state of a run in shards with patterns in place of the URIs of streams that there are not.

    Args:
        run_state: that of the whole.
        folder: its folder.
    """
    nodes, shards = run_state["nodes"], shards_folder(folder)
    of_a_shard = moved_streams(nodes, RunFolder(shards.location, _A_SHARD))
    parts = f"{shards.location}/{_A_SHARD}/", f"{shards.location}/{_EACH}/"
    shown = {place: uri.replace(*parts) for place, uri in of_a_shard.items()}
    for entry, name in zip(gathered_outputs(run_state), shown_outputs(run_state), strict=True):
        stream = StreamFactory.create(entry["output_uri"])
        shown[stream.place] = entry["output_uri"].replace(stream.shown, name)
    for entry in nodes:  # what no node writes is an input
        for stream in streams_of(StreamFactory.source(entry["input_uri"])):
            shown.setdefault(stream.place, stream.uri)
    return {
        **run_state,
        "nodes": [
            {
                **entry,
                "input_uri": rewired(entry["input_uri"], shown, ""),
                "output_uri": shown[StreamFactory.create(entry["output_uri"]).place],
            }
            for entry in nodes
        ],
    }
