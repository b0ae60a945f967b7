"""Merging: a node with several inputs.

What `fan_out` is to outputs, turned around. In front of the node, a small node reads all of its inputs as one stream
(`streams.merged`), and copies their rows, as they come, to one durable stream, which the node reads. So the node has
one source, in one order that no crash changes, and what holds for each node (S1, S2, R2) holds for both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.operators import BaseOperator, INodeContext
from llm_datagen.streams import Place, Stream, StreamFactory
from llm_datagen.streams.rows import copied

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


class Merger(BaseOperator):
    """Copies rows.

    Args:
        names: the inputs.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.name = f"merge({', '.join(names)})"

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row."""
        return copied(item)

    def fingerprint(self) -> Mapping[str, Any]:
        """Return nothing: the names of the inputs are its name."""
        return {}


def check_inputs(node_id: str, inputs: Mapping[Any, Stream]) -> None:
    """Check that several inputs are well formed.

    Raises:
        ConfigError: when there is none, a name cannot be part of an id, or two are the same stream.
    """
    if not inputs:
        raise ConfigError(f"node {node_id} has no input: give bind_io() a stream, several, or names with a stream each")
    names: dict[Place, str] = {}
    for name, stream in inputs.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(
                f"node {node_id}: the name of an input must be letters, digits and dashes, and begin with a letter (it "
                f"becomes part of ids, as in 7_left), not {name!r}"
            )
        if stream.place in names:
            raise ConfigError(
                f"node {node_id} would read the same stream twice, as {names[stream.place]} and as {name}: {stream.uri}"
            )
        names[stream.place] = name


def merged_beside(output: Stream) -> Stream:
    """Return the stream to which the inputs of a node are copied: beside what it writes."""
    return StreamFactory.create(output.uri_beside("merged"))
