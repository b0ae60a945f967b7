"""From what a pipeline file says of a graph to its nodes: operators are made once, nodes for each run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llm_datagen.cli.yaml_errors import SpecError
from llm_datagen.cli.yaml_nodes import NODE, OUTPUT, GraphPart
from llm_datagen.cli.yaml_wires import Wires
from llm_datagen.errors import ConfigError
from llm_datagen.operators.references import build_callable, build_operator
from llm_datagen.pipeline.line_settings import stream_between
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.node_pipeline import UnifiedNodePipeline

_OF_INPUT = ("follow_input", "idle_timeout", "source_column")
"""Settings that are about the input of a pipeline: said for all nodes, they are for those that read a file."""


class Graph:
    """The nodes of a file.

    Args:
        spec: what the file says.

    Raises:
        ConfigError: when an operator or a rule cannot be made, or the wires do not fit together; with the path of the
            key.
    """

    def __init__(self, spec: GraphPart) -> None:
        self._spec = spec
        self._operators = {name: build_operator(node.ref(), f"nodes.{name}") for name, node in spec.nodes.items()}
        self._rules = {
            name: build_callable(node.route.ref(), f"nodes.{name}.route")
            for name, node in spec.nodes.items()
            if node.route is not None
        }
        self._between, self._of_nodes = spec.between(), spec.of_nodes()
        self._wires = Wires(spec)  # the modules of operators may register the protocols of streams
        if self._wires.problems:
            raise SpecError(self._wires.problems)

    def pipeline(self, **settings: Any) -> UnifiedNodePipeline:
        """Return the pipeline; what it is given is for a file that does not say it.

        Raises:
            ConfigError: when the nodes cannot be wired so, with the path of a key.
        """
        try:
            return UnifiedNodePipeline(self.nodes, **{**settings, **self._spec.of_pipeline()})
        except ConfigError as error:
            raise with_path(error) from error.__cause__

    def nodes(self, pipeline_id: str) -> list[UnifiedNode]:
        """Return the nodes of a run.

        Raises:
            ConfigError: when they cannot be wired so, with the path of a key.
        """
        nodes = []
        for name in self._spec.nodes:
            try:
                nodes.append(self._node(name, pipeline_id))
            except ConfigError as error:
                raise with_path(error, name) from error.__cause__
        return nodes

    def _node(self, name: str, pipeline_id: str) -> UnifiedNode:
        part = self._spec.nodes[name]
        outputs = {output: self._written(name, output, pipeline_id) for output in self._wires.outputs[name]}
        node = UnifiedNode(name, **self._settings(name))
        node.bind_io(
            self._read(part.from_, pipeline_id),
            outputs.get("", outputs),
            route=self._rules.get(name),
            ids=part.ids,
        )
        node.marked = part.marked()
        return node.set_operator(self._operators[name])

    def _settings(self, name: str) -> dict[str, Any]:
        """Return the settings of a node: those of all, and its own before these."""
        of_all, own = self._of_nodes, self._spec.nodes[name].settings()
        reads_a_file = self._wires.reads_a_file(name)
        if not reads_a_file:
            if "follow_input" in own:
                raise ConfigError("follow_input is of nodes that read a file, and this one reads nodes: take it out")
            of_all = {key: value for key, value in of_all.items() if key not in _OF_INPUT}
        if self._spec.nodes[name].to != OUTPUT:  # the target of a pipeline is for the rows of its output
            of_all = {key: value for key, value in of_all.items() if key != "target"}
        settings = {"follow_input": not reads_a_file, **of_all, **own}
        writers = [given["writer_config"] for given in (of_all, own) if isinstance(given.get("writer_config"), Mapping)]
        if writers:
            settings["writer_config"] = {key: value for writer in writers for key, value in writer.items()}
        return settings

    def _read(self, given: Any, pipeline_id: str) -> Any:
        """Return the streams that `from` names, in its form; a list of one is that one."""
        if isinstance(given, str):
            wire = self._wires.wire(given)
            return wire.uri or self._written(wire.node, wire.output, pipeline_id)
        if isinstance(given, Mapping):
            return {key: self._read(text, pipeline_id) for key, text in given.items()}
        streams = [self._read(text, pipeline_id) for text in given]
        return streams if len(streams) > 1 else streams[0]

    def _written(self, name: str, output: str, pipeline_id: str) -> str:
        """Return the stream of an output: the one that the file names, or one of the run."""
        uri = self._wires.outputs[name][output]
        return uri or stream_between(self._between, pipeline_id, f"{name}.{output}" if output else name)


_OF_NODE = re.compile(r"node ([\w-]+)(:?) ")


def with_path(error: ConfigError, name: str = "") -> ConfigError:
    """Return an error of a node that begins with the path of its key in the file.

    Args:
        error: as it is told of nodes that are wired in Python.
        name: the node's; empty, if the error says it.
    """
    text = str(error)
    found = _OF_NODE.match(text)
    if found:
        name, text = found[1], text[found.end() :]
    if not name:
        return error
    key = re.match(r"\w+", text)
    between = "." if key and key[0] in NODE.model_fields else " " if found and not found[2] else ": "
    return ConfigError(f"nodes.{name}{between}{text}")
