"""Pipelines of operators in a line: one of the two classes that users hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, Unpack

from llm_datagen.config import IfExists, NodeConfig, OnChange, PipelineIdScheme, WriterConfig
from llm_datagen.operators import Operator
from llm_datagen.pipeline.base import BasePipeline
from llm_datagen.pipeline.blueprint import LineBlueprint
from llm_datagen.pipeline.given_settings import takes_settings
from llm_datagen.pipeline.line_settings import pipeline_settings
from llm_datagen.pipeline.node_entries import UNKNOWN_ID
from llm_datagen.pipeline.settings import PipelineOptions, PipelineOverrides, PipelineSettings
from llm_datagen.pipeline.settings_elsewhere import IN_NODE_CONFIGS
from llm_datagen.runs.diagram import DiagramFormat, draw
from llm_datagen.runs.exports import check_schema_files
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
        options: further settings, as are the other parameters: `PipelineSettings`, and the reference, say what they
            mean.

    Raises:
        ConfigError: on a wrong value, naming it.
        UnknownProtocolError: on a URI whose protocol is not known.
    """

    given: Mapping[str, Any]
    """What the code gives the constructor, by name."""

    _code: LineBlueprint

    @takes_settings(PipelineSettings, IN_NODE_CONFIGS)
    def __init__(
        self,
        operators: Sequence[Operator] | None = None,
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
        settings = pipeline_settings(self.given)
        self._node_configs = settings["node_configs"] or ()  # those of `create()` are for one run
        super().__init__(LineBlueprint(settings=settings, node_configs=self._node_configs, given=self.given), settings)

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
        line = self._overridden(overrides, node_configs, "create()")
        self._create(line, overrides, pipeline_id, if_exists, on_change)
        return self

    def code(self, **overrides: Any) -> LineBlueprint:
        """Return what the code says of the pipeline, as `create()` would with these overrides.

        Raises:
            ConfigError: on a wrong value.
        """
        given: PipelineOverrides = overrides  # type: ignore[assignment]
        return self._overridden(given, None, "create()") if overrides else self._code

    def _overridden(
        self,
        overrides: PipelineOverrides,
        node_configs: Sequence[NodeConfig | Mapping[str, Any] | None] | None,
        owner: str,
    ) -> LineBlueprint:
        return LineBlueprint(
            settings=pipeline_settings({**self._code.settings, **overrides}, owner),
            node_configs=self._node_configs if node_configs is None else node_configs,
            given={**self._code.given, **overrides},
        )

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

    def to_try(
        self, folder: str | os.PathLike[str], *, most: int | None = None, **overrides: Unpack[PipelineOverrides]
    ) -> tuple[dict[str, Any], list[Any]]:
        """Return what `blueprint()` does, of a pipeline of which rows are to be tried before it is created.

        Args:
            folder: where an input that is read once (rows of the program, standard input) is copied.
            most: how many of its rows are wanted; None: all.
            overrides: settings that `create()` will be given.

        Raises:
            ConfigError: when a value is wrong, or adjacent nodes' URIs disagree; or the input is no rows.
            RowValueError: when the format cannot hold a row, with its number and column.
        """
        line = self._overridden({**overrides, "results_dir": folder}, None, "blueprint()")
        run_state = line.run_state(UNKNOWN_ID)
        check_schema_files(run_state)
        line.copy_input(run_state, most=most)
        return run_state, line.operators(run_state)

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
        line = self._overridden(overrides, node_configs, "blueprint()")
        run_state = line.run_state(UNKNOWN_ID)
        return run_state, line.operators(run_state)
