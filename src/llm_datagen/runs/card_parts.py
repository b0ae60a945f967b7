"""What a card tells of each export of a run that is in its folder: whose rows they are, and which columns they have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llm_datagen.runs.exports import rows_of_node
from llm_datagen.runs.node_kinds import Entry
from llm_datagen.streams import Stream
from llm_datagen.streams.ids import ID_FIELD
from llm_datagen.streams.outputs import Exported, ExportOptions, exports_in, place_of
from llm_datagen.streams.outputs.columns import types_of_rows
from llm_datagen.streams.outputs.source_rows import SourceRows

_UNTYPED = {"csv", "jsonl"}
"""The formats that say no types."""


@dataclass(frozen=True, slots=True)
class CardPart:
    """An export on a card.

    Attributes:
        entry: the node whose rows they are.
        made: what was exported.
        columns: the columns with their types; none of a format that has other ones than the rows.
    """

    entry: Entry
    made: Exported
    columns: Mapping[str, Any]


def parts_of(
    made: Exported, entry: Entry, run_state: Mapping[str, Any], rows_of: Callable[[Entry], Stream]
) -> list[CardPart]:
    """Return an export, and all others of its run in the same folder that are made of rows as they are now.

    Args:
        made: the export.
        entry: the node whose rows it has.
        run_state: the run state.
        rows_of: opens the rows that a node has written.
    """
    makers = {rows_of_node(each).path: each for each in run_state["nodes"]}
    types: dict[str, Mapping[str, Any]] = {}
    found = []
    for each, manifest in exports_in(made.target.root, place_of(made.target)):
        is_it = each.target == made.target
        of = entry if is_it else makers.get(manifest["source"]["path"])
        if of is None or not (is_it or manifest.get("owner") == run_state["pipeline_id"]):
            continue
        source = SourceRows(rows_of(of))
        if is_it or source.identity() == manifest["source"]:
            if each.target.kind in _UNTYPED and of["node_id"] not in types:
                types[of["node_id"]] = types_of_rows(source)  # once for all exports: there may be millions
            found.append(CardPart(of, each, columns_of(each, manifest["options"], types.get(of["node_id"], {}))))
    return found


def columns_of(made: Exported, options: Mapping[str, Any], types: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the columns of an export. CSV and JSON lines say no types: they have those of the rows."""
    if made.target.kind == "chatml":
        return {}
    if made.target.kind not in _UNTYPED:
        return made.columns or {}
    ids = ExportOptions.of(options).ids
    found = {name: type for name, type in types.items() if name not in {ID_FIELD, ids}}
    if ids is not None and types:
        found = {ids: types[ID_FIELD], **found}
    if made.columns is None:
        return found
    return {name: found.get(name, type) if type == "null" else type for name, type in made.columns.items()}
