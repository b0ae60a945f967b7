"""The id stripper: how an output gets rows that have no `_i`, or have it under another name.

The last node writes its rows with their ids, as every node does, to a stream beside the output. A small node behind it
copies them to the output, and its codec leaves the ids out. So both streams keep the guarantees (S1, S2, R2), and all
that needs ids has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.operators import BaseOperator, INodeContext
from llm_datagen.runs.node_kinds import is_id_stripper
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.formats.without_ids import CodecWithoutIds, ReservedColumnCodec
from llm_datagen.streams.rows import copied

ID_STRIPPER = "export"
"""The id of the node that copies, and the identity of its operator. Run states have it, so it stays what it was."""


class IdStripper(BaseOperator):
    """Copies rows. The codec of the output removes their ids.

    Args:
        id_column: the column that takes the id; None when none does.
    """

    def __init__(self, id_column: str | None) -> None:
        self.id_column = id_column
        self.name = ID_STRIPPER

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row."""
        return copied(item)

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the column."""
        return {"id_column": self.id_column}


def id_strippers_of(run_state: Mapping[str, Any]) -> list[IdStripper]:
    """Return the operators of a run state's nodes that copy rows to an output without `_i`: one, or none."""
    return [IdStripper(entry["id_column"]) for entry in run_state["nodes"] if is_id_stripper(entry)]


def with_id_stripper(nodes: list[dict[str, Any]], id_column: str | None) -> list[dict[str, Any]]:
    """Return the nodes of a run state with one behind them that copies the rows of the last one to its output.

    The last node refuses a row that has a column of the id's name. A row that cannot be copied for another reason fails
    as rows of the last node do; but if these are skipped, it is dead-lettered.

    Args:
        nodes: the nodes of a line; the last one writes the output.
        id_column: the column that takes the id; None when none does.
    """
    *before, last = nodes
    rows_uri = StreamFactory.create(last["output_uri"]).uri_beside("rows")
    stripper = {
        **last,
        "node_id": ID_STRIPPER,
        "operator": ID_STRIPPER,
        "input_uri": rows_uri,
        "parallel_size": 1,
        "batch_size": 1,
        "batch_by": "position",
        "ordered": True,
        "on_error": "fail" if last["on_error"] == "fail" else "dead_letter",
        "retries": 0,
        "delivery": "exactly_once",
        "rate": None,
        "target": None,  # the node before it has it
        "executor": "auto",
        "idle_timeout": None,
        "id_scheme": "path",  # it names no row
        "follow_input": True,
        "is_root": False,
        "source_column": None,  # the rows have it
        "id_column": id_column,
    }
    return [*before, {**last, "output_uri": rows_uri, "kept_free": id_column}, stripper]


def codec_of(entry: Mapping[str, Any], codec: Any) -> Any:
    """Return the codec that a node of a run state writes its output with, given that of the stream."""
    if is_id_stripper(entry):
        return CodecWithoutIds(codec, entry["id_column"])
    reserved = entry.get("kept_free")
    return codec if reserved is None else ReservedColumnCodec(codec, reserved)
