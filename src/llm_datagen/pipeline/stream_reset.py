"""What becomes of the streams of a run when nodes are done again, or are others: deleted, moved, new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llm_datagen.streams import Stream, StreamFactory

Entry = dict[str, Any]
"""A node, as the run state has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """What has to be done to the streams of a run before it goes on.

    Attributes:
        delete: streams to be deleted.
        moves: streams that get another place: the node's id, from, to.
        new: outputs that no node of the run state has written, by the node's id.
        again: the nodes that are done again.
        forget: the nodes of the run state that are done again, or gone: their model calls are not the run's any more.
    """

    delete: list[Stream]
    moves: list[tuple[str, Stream, Stream]]
    new: list[tuple[str, Stream]]
    again: frozenset[str]
    forget: list[str]

    def mark(self) -> dict[str, Any]:
        """Return it as plain data, for the run state: `rerun.finish` does what it says, also after a crash."""
        moves = [[old.uri, new.uri] for _, old, new in self.moves]
        return {"delete": [stream.uri for stream in self.delete], "move": moves, "forget": self.forget}


def reset_of(run_state: Entry, entries: Sequence[Entry], again: set[str]) -> Reset:
    """Return what has to be done to the streams of a run.

    Args:
        run_state: the run's state.
        entries: its nodes as they are to be.
        again: the ids of those that are done again.
    """
    before = {entry["node_id"]: StreamFactory.create(entry["output_uri"]) for entry in run_state["nodes"]}
    now = {entry["node_id"]: StreamFactory.create(entry["output_uri"]) for entry in entries}
    kept = {node_id: stream for node_id, stream in before.items() if node_id in now and node_id not in again}
    moves = [(node_id, old, now[node_id]) for node_id, old in kept.items() if old.place != now[node_id].place]
    stays = {stream.place for stream in kept.values()}
    stays |= {place for entry in entries for place in StreamFactory.source(entry["input_uri"]).places} - {
        stream.place for stream in now.values()
    }
    deleted = {stream.place: stream for stream in [*before.values(), *now.values()] if stream.place not in stays}
    known_places = {stream.place for stream in before.values()}
    new = [(node_id, stream) for node_id, stream in now.items() if stream.place not in known_places]
    forget = [node_id for node_id in before if node_id not in kept]
    return Reset(delete=list(deleted.values()), moves=moves, new=new, again=frozenset(again), forget=forget)
