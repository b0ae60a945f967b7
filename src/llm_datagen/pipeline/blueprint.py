"""What the code says of a pipeline: the part in which a line of operators and nodes wired by hand differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llm_datagen.config import NodeConfig
from llm_datagen.errors import OperatorMismatchError
from llm_datagen.operators.references import operators_of
from llm_datagen.pipeline.changed_steps import has_same_steps, keep_inputs, line_of
from llm_datagen.pipeline.ignored import (
    ignored_ends,
    ignored_input,
    ignored_node_configs,
    ignored_node_settings,
    ignored_settings,
    ignored_uris,
)
from llm_datagen.pipeline.line_settings import as_plain, pipeline_settings
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.node_entries import node_of_entry, run_state_of_line, run_state_of_nodes
from llm_datagen.pipeline.run import Run, StartNotice
from llm_datagen.pipeline.settings import PipelineSettings
from llm_datagen.pipeline.spool import copy_input, is_copied, is_standard
from llm_datagen.pipeline.stream_reset import Entry
from llm_datagen.runs.id_stripper import id_strippers_of
from llm_datagen.streams import Generate, Source, StreamFactory


class Blueprint(Protocol):
    """What the code says of a pipeline. Plain data: nothing is opened or started."""

    @property
    def streaming(self) -> bool:
        """Whether all nodes run at once."""

    @property
    def has_operators(self) -> bool:
        """Whether the code gives operators; else, they are made again as the run state says."""

    def run_state(self, pipeline_id: str) -> dict[str, Any]:
        """Return the run state of a new run.

        Raises:
            ConfigError: when something that it needs is missing, or the nodes do not fit together.
        """

    def copy_input(self, run_state: dict[str, Any], *, most: int | None = None) -> bool:
        """Copy an input that is read once to where the first node reads; return whether there is one.

        With `most`, only so many rows are wanted.
        """

    def operators(self, run_state: dict[str, Any]) -> list[Any]:
        """Return the operators, in the order of the run state's nodes."""

    def steps(self, run_state: dict[str, Any]) -> tuple[list[Entry], list[Any]]:
        """Return the nodes as the code has them, drawn for the run of a run state, and their operators.

        The nodes are ``run_state["nodes"]`` itself when the code has the same steps.
        """

    def inputs(self, run_state: dict[str, Any]) -> Mapping[str, Source | Generate]:
        """Return what the nodes of a run read as the code has it, by their ids, where it says so."""

    def ignored(self, run_state: dict[str, Any]) -> list[StartNotice]:
        """Return what the code gives, and a resume does not use."""

    def note_run(self, pipeline_id: str, run: Run) -> None:
        """Note a run that is about to begin."""


def nodes_of(blueprint: Blueprint, run_state: dict[str, Any]) -> list[UnifiedNode]:
    """Return the nodes that a run state describes, with the operators of the code."""
    operators = blueprint.operators(run_state)
    return [node_of_entry(entry, operator) for entry, operator in zip(run_state["nodes"], operators, strict=True)]


@dataclass(slots=True, kw_only=True)
class LineBlueprint:
    """A line of operators.

    Attributes:
        settings: its settings.
        node_configs: what differs from node to node.
        given: the settings that the code gives, also as their defaults.
    """

    settings: PipelineSettings
    node_configs: Sequence[NodeConfig | Mapping[str, Any] | None]
    given: Mapping[str, Any]
    _made_again: dict[str, list[Any]] = field(default_factory=dict)
    """Operators that the code does not give, by the run."""

    @property
    def streaming(self) -> bool:
        """Whether all nodes run at once."""
        return self.settings["streaming"]

    @property
    def has_operators(self) -> bool:
        """Whether the code gives operators."""
        return self.settings["operators"] is not None

    def run_state(self, pipeline_id: str) -> dict[str, Any]:
        """Return the run state of a new run."""
        return run_state_of_line(self.settings, self.node_configs, pipeline_id)

    def copy_input(self, run_state: dict[str, Any], *, most: int | None = None) -> bool:
        """Copy rows of memory, or of standard input."""
        if not is_copied(self.settings):
            return False
        copy_input(self.settings["input"], run_state, most=most)
        return True

    def operators(self, run_state: dict[str, Any]) -> list[Any]:
        """Return those of the code; if it has none, those that the run state names."""
        operators = self.settings["operators"]
        if operators is not None:
            return [*operators, *id_strippers_of(run_state)]
        pipeline_id = run_state["pipeline_id"]
        if pipeline_id not in self._made_again:
            self._made_again = {pipeline_id: operators_of(run_state)}
        return self._made_again[pipeline_id]

    def steps(self, run_state: dict[str, Any]) -> tuple[list[Entry], list[Any]]:
        """Return the nodes as the code has them, and their operators."""
        operators = self.operators(run_state)
        return line_of(self.settings, self.node_configs, run_state, operators), operators

    def inputs(self, run_state: dict[str, Any]) -> Mapping[str, Source | Generate]:
        """Return the input: that of the first node."""
        given, uri = self.settings["input"], self.settings["input_uri"]
        if isinstance(given, Generate):
            return {run_state["nodes"][0]["node_id"]: given}
        if uri is None or is_standard(uri):
            return {}
        return {run_state["nodes"][0]["node_id"]: StreamFactory.source(uri)}

    def ignored(self, run_state: dict[str, Any]) -> list[StartNotice]:
        """Return the paths and settings that a resume does not use."""
        settings = self.settings
        return [
            *ignored_ends(settings["input_uri"], settings["output_uri"], run_state),
            *ignored_input(settings, run_state),
            *ignored_settings(as_plain(settings), as_plain(pipeline_settings({})), self.given, run_state),
            *ignored_node_configs(self.node_configs, run_state),
        ]

    def note_run(self, pipeline_id: str, run: Run) -> None:
        """Do nothing: nobody else has its nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphBlueprint:
    """Nodes that were wired by hand.

    Attributes:
        nodes_of_run: given the id of a run, its nodes, each behind those that it reads from.
        streaming: whether all run at once.
        given: the settings that the code gives, also as their defaults.
    """

    nodes_of_run: Callable[[str], Sequence[UnifiedNode]]
    streaming: bool
    given: Mapping[str, Any]

    @property
    def has_operators(self) -> bool:
        """Whether the code gives operators: always."""
        return True

    def run_state(self, pipeline_id: str) -> dict[str, Any]:
        """Return the run state of a new run."""
        return run_state_of_nodes(self.nodes_of_run(pipeline_id), pipeline_id, streaming=self.streaming)

    def copy_input(self, run_state: dict[str, Any], *, most: int | None = None) -> bool:
        """Do nothing: nodes read streams."""
        return False

    def operators(self, run_state: dict[str, Any]) -> list[Any]:
        """Return those of the nodes.

        Raises:
            OperatorMismatchError: when the run state has other nodes.
        """
        given = self._given(run_state)
        known = [entry["node_id"] for entry in run_state["nodes"]]
        if sorted(given) != sorted(known):
            raise OperatorMismatchError(
                f"run {run_state['pipeline_id']!r} was made with the nodes {known}, and the code has {list(given)}; "
                "undo that, or resume it again: resume() says what changed, and what can be done"
            )
        return [given[node_id] for node_id in known]

    def steps(self, run_state: dict[str, Any]) -> tuple[list[Entry], list[Any]]:
        """Return the nodes as the code has them, and their operators."""
        given = self._given(run_state)
        entries = self.run_state(run_state["pipeline_id"])["nodes"]
        if has_same_steps(run_state["nodes"], entries):
            entries = run_state["nodes"]
        else:
            keep_inputs(run_state["nodes"], entries)
        return entries, [given[entry["node_id"]] for entry in entries]

    def inputs(self, run_state: dict[str, Any]) -> Mapping[str, Source | Generate]:
        """Return what the nodes read."""
        return {node.node_id: node.input for node in self.nodes_of_run(run_state["pipeline_id"])}

    def ignored(self, run_state: dict[str, Any]) -> list[StartNotice]:
        """Return the streams and settings that a resume does not use."""
        nodes = self.nodes_of_run(run_state["pipeline_id"])
        return [
            *ignored_uris(nodes, run_state),
            *ignored_settings({"streaming": self.streaming}, {"streaming": True}, self.given, run_state),
            *ignored_node_settings(nodes, run_state),
        ]

    def note_run(self, pipeline_id: str, run: Run) -> None:
        """Let the nodes show how the run goes."""
        for node in self.nodes_of_run(pipeline_id):
            node.runs_in(run)

    def _given(self, run_state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the operators of the code, by the ids of their nodes."""
        return {node.node_id: node.operator for node in self.nodes_of_run(run_state["pipeline_id"])}
