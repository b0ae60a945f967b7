"""The JSON of a row's family: its relatives in all streams, each with the model calls behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.browse.family import Member, family, with_calls
from llm_datagen.runs.topology import stream_key
from llm_datagen.shards.trace_whole import files_of, trace_whole
from llm_datagen.streams.ids import Id
from llm_datagen.web.looking import PlacedRun
from llm_datagen.web.row_view import item_json, shown_id
from llm_datagen.web.stream_view import DEAD_LETTERS, REJECTED, ROWS, streams_of

_DEAD, _REJECTED, _UNREADABLE = "dead letter", "rejected", "unreadable"
_KEYS = {_DEAD: DEAD_LETTERS, _REJECTED: REJECTED}


def family_json(folder: RunFolder, run: PlacedRun, row_id: Id) -> dict[str, Any]:
    """Return the relatives of a row, in the order of the nodes; none of an unknown row.

    Args:
        folder: the run's folder.
        run: the run.
        row_id: an id from any of its streams.

    Raises:
        StreamError: when a stream cannot be read.
        DiskError: when what the operators keep cannot be fetched from a store.
    """
    inputs = {stream_key(stream.uri): stream.key for stream in streams_of(run.state["nodes"]) if stream.node_id is None}
    return {"members": [_member(each, inputs) for each in _members(folder, run, row_id)]}


def _members(folder: RunFolder, run: PlacedRun, row_id: Id) -> Iterator[Member]:
    if run.whole is None:
        with folder.files_to_look_at() as files:
            yield from family(run.state, files, row_id)
        return
    for shard, traces in trace_whole(run.whole, row_id):
        yield from with_calls(shard.state, files_of(run.whole, shard), traces)


def _member(member: Member, inputs: dict[Any, str]) -> dict[str, Any]:
    found = member.trace
    item, reason = found.item, ""
    if found.state == _DEAD:
        item, reason = found.item["input"], f"{found.item['error']['kind']}: {found.item['error']['text']}"
    elif found.state == _REJECTED:
        item, reason = found.item["input"], found.item["reason"]
    elif found.state == _UNREADABLE:
        item, reason = None, found.item["reason"]
    return {
        "relation": found.relation,
        "node_id": None if found.where == "input" else found.where,
        "stream": _stream(member, inputs),
        "id": shown_id(found.row_id),
        "item": None if item is None else item_json(item),
        "state": found.state.replace(" ", "_"),
        "reason": reason,
        "calls": member.calls,
    }


def _stream(member: Member, inputs: dict[Any, str]) -> str | None:
    found = member.trace
    if found.where != "input":
        return f"{found.where}{_KEYS.get(found.state, ROWS)}"
    try:
        return inputs.get(stream_key(found.uri))
    except ConfigError:
        return None
