"""Whether the ids of all shards are different, as those of one run are: what no shard by itself can see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llm_datagen.errors import IdError
from llm_datagen.executors.id_ranges import merged_marks
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.recovery import position_of


def check_numeric_ids(states: Iterable[Mapping[str, Any]]) -> None:
    """Check that under the scheme "numeric", no row of a shard has the id of a child that another one has made.

    Args:
        states: the run states of all shards.

    Raises:
        IdError: when that may be so, naming the node.
    """
    known: dict[str, dict[str, Any]] = {}
    for run_state in states:
        for entry in run_state["nodes"]:
            if entry["id_scheme"] != "numeric":
                continue
            node_id = entry["node_id"]
            found = position_of(StreamFactory.output_of(entry))
            try:
                known[node_id] = merged_marks(known.get(node_id, {}), found[1].marks if found else {})
            except IdError as error:
                raise IdError(f"{node_id}, over all shards: {error}") from None
