"""Pipelines of nodes that were wired by hand: one of the two classes that users hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Self, Unpack

from llm_datagen.config import IfExists, OnChange, checked
from llm_datagen.pipeline.base import BasePipeline
from llm_datagen.pipeline.blueprint import GraphBlueprint
from llm_datagen.pipeline.disjoint_ids import choose_merge_ids
from llm_datagen.pipeline.given_settings import takes_settings
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.node_entries import UNKNOWN_ID
from llm_datagen.pipeline.settings import NodePipelineOptions
from llm_datagen.pipeline.settings_elsewhere import IN_NODES
from llm_datagen.pipeline.topology import check_topology, in_reading_order


class UnifiedNodePipeline(BasePipeline):
    """Nodes that were wired by hand. It wires nothing: it only starts, schedules and records them (M9).

    Args:
        nodes: nodes with streams and operators bound. Or a function that is given the id of a run and returns its
            nodes, so that each run has its own streams between them: ``lambda run: [UnifiedNode(…).bind_io("in.jsonl",
            f"jsonl://tmp/{run}/a.jsonl")…]``. It is called once when the pipeline is made, with an id of no run.
        options: `streaming`, `results_dir`, `hooks`, `log_file`: see `NodePipelineOptions`.

    Raises:
        ConfigError: when there are no nodes, ids repeat, a stream has two writers, or the nodes form a cycle.
    """

    given: Mapping[str, Any]
    """What the code gives the constructor, by name."""

    _code: GraphBlueprint

    @takes_settings(NodePipelineOptions, IN_NODES)
    def __init__(
        self,
        nodes: Sequence[UnifiedNode] | Callable[[str], Sequence[UnifiedNode]],
        **options: Unpack[NodePipelineOptions],
    ) -> None:
        nodes_of_run = _made_by(nodes) if callable(nodes) else _always(nodes)
        nodes_of_run(UNKNOWN_ID)
        settings = checked(NodePipelineOptions, options, "UnifiedNodePipeline")
        graph = GraphBlueprint(nodes_of_run=nodes_of_run, streaming=settings["streaming"], given=self.given)
        super().__init__(graph, settings)

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
        self._create(self.code(**overrides), overrides, pipeline_id, if_exists, on_change)
        return self

    def code(self, **overrides: Any) -> GraphBlueprint:
        """Return what the code says of the pipeline, as `create()` would with these overrides.

        Raises:
            ConfigError: on a wrong value.
        """
        given = {"streaming": self._code.streaming, **overrides}
        settings = checked(NodePipelineOptions, given, "create()", IN_NODES)
        return replace(self._code, streaming=settings["streaming"], given={**self._code.given, **overrides})


def _always(nodes: Sequence[UnifiedNode]) -> Callable[[str], Sequence[UnifiedNode]]:
    """Return a function that returns the same nodes for each run."""
    ordered = _in_order(nodes)
    return lambda _: ordered


def _made_by(make: Callable[[str], Sequence[UnifiedNode]]) -> Callable[[str], Sequence[UnifiedNode]]:
    """Return a function that makes the nodes of a run, and keeps them until those of another run are asked for."""
    return lru_cache(maxsize=1)(lambda pipeline_id: _in_order(make(pipeline_id)))


def _in_order(nodes: Sequence[UnifiedNode]) -> Sequence[UnifiedNode]:
    """Return the nodes that these are run as, each behind those that it reads from."""
    parts = [part for node in nodes for part in node.parts()]
    check_topology(parts)
    ordered = in_reading_order(parts)
    choose_merge_ids(ordered)
    return ordered
