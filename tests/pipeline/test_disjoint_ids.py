"""Whether rows of several inputs keep their ids is decided before anything runs, and must never be wrong (M14)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_datagen import UnifiedNode, UnifiedNodePipeline
from llm_datagen.streams import MergedStream, StreamFactory

ROOTS = ("x", "y")


def uri(name: str) -> str:
    return f"memory://apart-{name}"


@given(st.data())
@pytest.mark.slow
def test_no_id_is_in_a_merged_stream_twice(data: st.DataObject) -> None:
    """Of any graph: of routers, of nodes that keep rows or make several of them, of merges of merges."""
    streams, nodes = list(ROOTS), []
    for number in range(data.draw(st.integers(1, 7), "nodes")):
        sources = data.draw(st.lists(st.sampled_from(streams), min_size=1, max_size=3, unique=True), "sources")
        outputs = [f"{number}{letter}" for letter in "abc"[: data.draw(st.integers(1, 3), "outputs")]]
        inputs: Any = [uri(name) for name in sources] if len(sources) > 1 else uri(sources[0])
        written: Any = {name: uri(name) for name in outputs} if len(outputs) > 1 else uri(outputs[0])
        nodes.append(UnifiedNode(f"n{number}").bind_io(inputs, written).set_operator(lambda row: row))
        streams += outputs
    pipeline = UnifiedNodePipeline(nodes, log_file=None)
    ids: dict[tuple[str, str], list[Any]] = {StreamFactory.create(uri(name)).place: [0, 1] for name in ROOTS}
    routes: dict[tuple[str, str], dict[Any, str]] = {}
    for node in pipeline._code.nodes_of_run(""):
        if isinstance(node.input, MergedStream):
            made = [
                merge_input.named(row_id)
                for merge_input in node.input.inputs
                for row_id in ids[merge_input.stream.place]
            ]
            assert len(set(made)) == len(made), (pipeline.describe(), made)
        elif "." in node.node_id:  # it copies what a router sent to one of its outputs
            routed = routes.setdefault(node.input.place, {})
            for row_id in ids[node.input.place]:
                routed.setdefault(row_id, data.draw(st.sampled_from("abc"), f"route of {row_id}"))
            made = [row_id for row_id, letter in routed.items() if node.node_id.endswith(letter)]
        else:
            made = []
            for row_id in ids[node.input.place][:40]:
                is_fanned = data.draw(st.booleans(), f"{node.node_id} makes several rows of {row_id}")
                made += [f"{row_id}_0", f"{row_id}_1"] if is_fanned else [row_id]
        ids[node.output.place] = made
