"""Nodes of a run whose streams an interrupted `rerun` has left in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.runs.state_file import KEEP


def unsettled(run_state: Mapping[str, Any]) -> frozenset[str]:
    """Return the ids of the nodes whose streams an interrupted `rerun` has still to delete, to keep or to move.

    Until a resume has done so, nothing reads these streams, nor those of the nodes that read from them.
    """
    mark = run_state.get("reset")
    if mark is None:
        return frozenset()
    from llm_datagen.streams import StreamFactory

    kept = mark.get(KEEP, {}).get("move", ())
    uris = [*mark["delete"], *(uri for pair in [*mark["move"], *kept] for uri in pair)]
    places = {StreamFactory.create(uri).place for uri in uris}
    found = set()
    for entry in run_state["nodes"]:
        source, output = StreamFactory.source(entry["input_uri"]), StreamFactory.create(entry["output_uri"])
        if places.intersection([*source.places, output.place]):
            found.add(entry["node_id"])
    return frozenset(found)
