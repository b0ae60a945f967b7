"""Pipelines of operators in a line: one of the two faces that users hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, Unpack

from llm_datagen.config import IfExists, NodeConfig, OnChange, PipelineIdScheme, WriterConfig
from llm_datagen.errors import OperatorWarning
from llm_datagen.operators.references import operators_of
from llm_datagen.pipeline.base import BasePipeline
from llm_datagen.pipeline.blueprint import UNKNOWN_ID, new_pipeline_id, node_of_entry, run_state_of_line
from llm_datagen.pipeline.changed_steps import line_of
from llm_datagen.pipeline.given_settings import takes_settings
from llm_datagen.pipeline.id_column import clash_of_ids
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.operator_changes import Entry
from llm_datagen.pipeline.overrides import override, restoring
from llm_datagen.pipeline.resume_checks import ignored_ends, ignored_node_configs, ignored_settings
from llm_datagen.pipeline.run import Note
from llm_datagen.pipeline.settings import (
    PipelineOptions,
    PipelineOverrides,
    PipelineSettings,
    as_plain,
    pipeline_settings,
)
from llm_datagen.pipeline.warnings import warn
from llm_datagen.runs.diagram import DiagramFormat, draw
from llm_datagen.runs.export import exporters_of
from llm_datagen.runs.hooks import IPipelineHooks


class UnifiedPipeline(BasePipeline):
    """A line of operators, from an input to an output; the streams between them are derived.

    Args:
        operators: what to do, in order: operators, or functions of one item. These three are needed by `create()`,
            which may be given them instead. A resume takes both paths from the run state; without operators, it makes
            again those that the run state can name.
        input_uri: where the rows come from: ``jsonl://``, ``csv://``, ``memory://``, or a path with an extension.
        output_uri: where the results go.
        streaming: True runs all nodes at once, each fed by the one before; False one after the other.
        parallel_size, batch_size, writer_config, base_path, protocol_prefix, default_protocol, results_dir, hooks,
            id_scheme, options: further settings: `PipelineSettings`, and the reference, say what they mean.

    Raises:
        ConfigError: on a wrong value, naming it.
        UnknownProtocolError: on a URI whose protocol is not known.
    """

    given: Mapping[str, Any]
    """What the code gives, by name."""

    @takes_settings(PipelineSettings)
    def __init__(
        self,
        operators: Sequence[Any] | None = None,
        input_uri: str | None = None,
        output_uri: str | None = None,
        streaming: bool = False,
        parallel_size: int = 1,
        batch_size: int = 1,
        writer_config: WriterConfig | Mapping[str, Any] | None = None,
        base_path: str | os.PathLike[str] = "tmp",
        protocol_prefix: str = "",
        default_protocol: str = "jsonl://",
        results_dir: str | os.PathLike[str] = "tmp/results",
        hooks: IPipelineHooks | None = None,
        id_scheme: PipelineIdScheme = "path",
        **options: Unpack[PipelineOptions],
    ) -> None:
        self._settings = pipeline_settings(self.given)
        super().__init__(self._settings)
        self._configs_given = self._node_configs  # by the constructor, or by create()
        self._remade: tuple[str, list[Any]] | None = None  # of which run, and its operators

    @property
    def _node_configs(self) -> Sequence[NodeConfig | Mapping[str, Any] | None]:
        return self._settings["node_configs"] or ()

    def create(
        self,
        pipeline_id: str | None = None,
        *,
        node_configs: Sequence[NodeConfig | Mapping[str, Any] | None] | None = None,
        if_exists: IfExists = "error",
        on_change: OnChange = "refuse",
        **overrides: Unpack[PipelineOverrides],
    ) -> Self:
        """Draw the blueprint and write the run state (M4).

        Args:
            pipeline_id: the run's id; made up unless given.
            node_configs: what differs from node to node, in their order, in place of what the constructor was given.
            if_exists: what to do when the id has a run already: "error", "resume", or "overwrite" (its outputs are
                deleted, and what lies where the new run is to write, unless a run of another id made it).
            on_change: with ``if_exists="resume"``, what becomes of rows of operators that were edited since, as in
                `resume()`.
            overrides: any argument of the constructor, in place of what it was given.

        Returns:
            The pipeline itself: call `run()` next.

        Raises:
            ConfigError: on a wrong value, or when adjacent nodes' URIs disagree; nothing was touched then.
            PipelineExistsError: when the id, or an output, is there already.
            PipelineBusyError: when the id is running, or this object is.

        Warns:
            OperatorWarning: when the first row of the input has the column that `id_column` names.
        """
        with restoring(self):
            override(self, PipelineOverrides, overrides)
            self._settings = pipeline_settings({**self._settings, **overrides}, "create()")
            self.given = {**self.given, **overrides}
            self._configs_given = self._node_configs if node_configs is None else node_configs
            self.streaming = self._settings["streaming"]  # a resume may have set it to what its run state says
            pipeline_id = pipeline_id or new_pipeline_id()
            run_state = run_state_of_line(self._settings, self._configs_given, pipeline_id)
            clash = clash_of_ids(run_state)
            self._create(pipeline_id, run_state, if_exists, on_change)
            if clash is not None and self._run_state is run_state:  # and it is not resumed
                warn(clash, OperatorWarning)
                self._notes.append(Note(run_state["nodes"][-1]["node_id"], clash))
            return self

    def describe(
        self,
        format: DiagramFormat = "text",
        *,
        node_configs: Sequence[NodeConfig | Mapping[str, Any] | None] | None = None,
    ) -> str:
        """Return a drawing of the topology: each stream once, and the nodes between them. Opens and changes nothing.

        Before `create()`, the streams between the nodes lie in a folder PIPELINE_ID.

        Args:
            format: "text", or "mermaid": a flowchart in the language of Mermaid.
            node_configs: those that `create()` will be given, if any; when it was called, they are known.

        Raises:
            ConfigError: when a value is wrong, or adjacent nodes' URIs disagree.
        """
        if self.pipeline_id or not node_configs:
            return super().describe(format)
        return draw(self.blueprint(node_configs=node_configs)[0], format)

    def blueprint(
        self,
        *,
        node_configs: Sequence[NodeConfig | Mapping[str, Any] | None] | None = None,
        **overrides: Unpack[PipelineOverrides],
    ) -> tuple[dict[str, Any], list[Any]]:
        """Return the nodes as a run state has them, and their operators. Opens and changes nothing.

        Args:
            node_configs: those that `create()` will be given; when it was called, they are known.
            overrides: settings that `create()` will be given.

        Raises:
            ConfigError: when a value is wrong, or adjacent nodes' URIs disagree.
        """
        if self.pipeline_id or not (node_configs or overrides):
            return super().blueprint()
        settings = pipeline_settings({**self._settings, **overrides}, "blueprint()")
        configs = self._node_configs if node_configs is None else node_configs
        run_state = run_state_of_line(settings, configs, UNKNOWN_ID)
        return run_state, [*(settings["operators"] or ()), *exporters_of(run_state)]

    def _create_default(self) -> None:
        self.create()

    def _blueprint(self) -> dict[str, Any]:
        return run_state_of_line(self._settings, self._node_configs, UNKNOWN_ID)

    def _has_operators(self) -> bool:
        return self._settings["operators"] is not None

    def _operators(self, run_state: dict[str, Any]) -> list[Any]:
        operators = self._settings["operators"]
        if operators is not None:
            return [*operators, *exporters_of(run_state)]
        pipeline_id = run_state["pipeline_id"]
        if self._remade is None or self._remade[0] != pipeline_id:
            self._remade = pipeline_id, operators_of(run_state)
        return self._remade[1]

    def _ignored(self, run_state: dict[str, Any]) -> list[Note]:
        return [
            *ignored_ends(self._settings["input_uri"], self._settings["output_uri"], run_state),
            *ignored_settings(as_plain(self._settings), as_plain(pipeline_settings({})), self.given, run_state),
            *ignored_node_configs(self._configs_given, run_state),
        ]

    def _steps(self, run_state: dict[str, Any]) -> tuple[list[Entry], list[Any]]:
        operators = self._operators(run_state)
        return line_of(self._settings, self._configs_given, run_state, operators), operators

    def _nodes_of(self, run_state: dict[str, Any]) -> list[UnifiedNode]:
        return [
            node_of_entry(entry, operator)
            for entry, operator in zip(run_state["nodes"], self._operators(run_state), strict=True)
        ]
