"""Pipelines of nodes that were wired by hand: one of the two faces that users hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, Unpack

from llm_datagen.config import (
    IfExists,
    OnChange,
    check_flag,
    checked,
)
from llm_datagen.errors import OperatorMismatchError
from llm_datagen.pipeline.base import BasePipeline
from llm_datagen.pipeline.blueprint import UNKNOWN_ID, node_of_entry, run_state_of_nodes
from llm_datagen.pipeline.changed_steps import has_same_steps
from llm_datagen.pipeline.disjoint_ids import settle_merges
from llm_datagen.pipeline.given_settings import takes_settings
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.operator_changes import Entry
from llm_datagen.pipeline.overrides import override, restoring
from llm_datagen.pipeline.resume_checks import ignored_node_settings, ignored_settings, ignored_uris
from llm_datagen.pipeline.run import Note, Run
from llm_datagen.pipeline.settings import NodePipelineOptions
from llm_datagen.pipeline.topology import check_topology, in_reading_order


class UnifiedNodePipeline(BasePipeline):
    """Nodes that were wired by hand. It wires nothing: it only starts, schedules and records them (M9).

    Args:
        nodes: nodes with streams and operators bound.
        options: `streaming`, `results_dir`, `hooks`, `log_file`: see `NodePipelineOptions`.

    Raises:
        ConfigError: when there are no nodes, ids repeat, a stream has two writers, or the nodes form a cycle.
    """

    given: Mapping[str, Any]
    """What the code gives, by name."""

    @takes_settings(NodePipelineOptions)
    def __init__(self, nodes: Sequence[UnifiedNode], **options: Unpack[NodePipelineOptions]) -> None:
        super().__init__(checked(NodePipelineOptions, options, "UnifiedNodePipeline"))
        self._streaming = self.streaming  # as the code says; a resume sets the other to what its run state says
        parts = [part for node in nodes for part in node.parts()]
        check_topology(parts)
        self._given = in_reading_order(parts)
        settle_merges(self._given)

    def create(
        self,
        pipeline_id: str | None = None,
        *,
        if_exists: IfExists = "error",
        on_change: OnChange = "refuse",
        **overrides: Unpack[NodePipelineOptions],
    ) -> Self:
        """Write the run state.

        Args:
            pipeline_id: the run's id; made up unless given.
            if_exists: what to do when the id has a run already: "error", "resume", or "overwrite" (its outputs are
                deleted, and what lies where the new run is to write, unless a run of another id made it).
            on_change: with ``if_exists="resume"``, what becomes of rows of operators that were edited since, as in
                `resume()`.
            overrides: any argument of the constructor but the nodes, in place of what it was given: `streaming`,
                `results_dir`, `hooks`, `log_file`.

        Returns:
            The pipeline itself: call `run()` next.

        Raises:
            ConfigError: on a wrong value, or another name; nothing was touched then.
            PipelineExistsError: when the id, or an output, is there already.
            PipelineBusyError: when the id is running, or this object is.
        """
        with restoring(self):
            override(self, NodePipelineOptions, overrides)
            self._streaming = self.streaming = check_flag("streaming", overrides.get("streaming", self._streaming))
            self.given = {**self.given, **overrides}
            run_state = run_state_of_nodes(self._given, pipeline_id or "", streaming=self.streaming)
            return self._create(pipeline_id, run_state, if_exists, on_change)

    def _create_default(self) -> None:
        self.create()

    def _blueprint(self) -> dict[str, Any]:
        return run_state_of_nodes(self._given, UNKNOWN_ID, streaming=self._streaming)

    def _note_run(self, run: Run) -> None:
        for node in self._given:
            node.runs_in(run)

    def _has_operators(self) -> bool:
        return True

    def _operators(self, run_state: dict[str, Any]) -> list[Any]:
        given = {node.node_id: node.operator for node in self._given}
        known = [entry["node_id"] for entry in run_state["nodes"]]
        if sorted(given) != sorted(known):
            raise OperatorMismatchError(
                f"run {run_state['pipeline_id']!r} was made with the nodes {known}, and the code has {list(given)}; "
                "undo that, or resume it again: resume() says what changed, and what can be done"
            )
        return [given[node_id] for node_id in known]

    def _ignored(self, run_state: dict[str, Any]) -> list[Note]:
        return [
            *ignored_uris(self._given, run_state),
            *ignored_settings({"streaming": self._streaming}, {"streaming": True}, self.given, run_state),
            *ignored_node_settings(self._given, run_state),
        ]

    def _steps(self, run_state: dict[str, Any]) -> tuple[list[Entry], list[Any]]:
        given = {node.node_id: node.operator for node in self._given}
        entries = run_state_of_nodes(self._given, run_state["pipeline_id"], streaming=self.streaming)["nodes"]
        if has_same_steps(run_state["nodes"], entries):
            entries = run_state["nodes"]
        return entries, [given[entry["node_id"]] for entry in entries]

    def _nodes_of(self, run_state: dict[str, Any]) -> list[UnifiedNode]:
        operators = self._operators(run_state)
        return [node_of_entry(entry, operator) for entry, operator in zip(run_state["nodes"], operators, strict=True)]
