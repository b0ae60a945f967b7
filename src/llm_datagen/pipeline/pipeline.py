"""Pipelines of operators in a line: one of the two faces that users hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Self

from llm_datagen.config import (
    DataConfig,
    DeliveryMode,
    ExecutorKind,
    IfExists,
    InputIds,
    NodeConfig,
    OnChange,
    OnError,
    PipelineIdScheme,
    WriterConfig,
)
from llm_datagen.errors import OperatorWarning
from llm_datagen.operators.references import operators_of
from llm_datagen.pipeline.base import BasePipeline
from llm_datagen.pipeline.blueprint import UNKNOWN_ID, image_of_line, new_pipeline_id, node_from_image
from llm_datagen.pipeline.changed_steps import line_of
from llm_datagen.pipeline.given_settings import given_names, noting_given
from llm_datagen.pipeline.id_column import clash_of_ids
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.operator_changes import Entry
from llm_datagen.pipeline.overrides import overriding
from llm_datagen.pipeline.resume_checks import ignored_ends, ignored_node_configs, ignored_settings
from llm_datagen.pipeline.run import Note
from llm_datagen.pipeline.settings import Settings
from llm_datagen.pipeline.warnings import warn
from llm_datagen.runs.diagram import DrawingFormat, draw
from llm_datagen.runs.export import exporters_of
from llm_datagen.runs.hooks import IPipelineHooks
from llm_datagen.runs.logs.writer import DEFAULT_LOG, LogTarget


class UnifiedPipeline(BasePipeline):
    """A line of operators, from an input to an output; the streams between them are derived.

    Args:
        operators: what to do, in order: operators, or functions of one item. These three are needed by `create()`,
            which may be given them instead. A resume takes both paths from the image; without operators, it makes
            again those that the image can name.
        input_uri: where the rows come from: ``jsonl://``, ``csv://``, ``memory://``, or a path with an extension.
        output_uri: where the results go.
        streaming: True runs all nodes at once, each fed by the one before; False one after the other.
        parallel_size: batches in an operator at once, at most.
        batch_size: items a batch.
        writer_config: how results get to the disk.
        base_path: where the streams between the nodes lie.
        protocol_prefix: a folder below `base_path`.
        default_protocol: the protocol of the streams between the nodes.
        results_dir: where the images of runs are kept.
        hooks: who watches.
        id_scheme: how rows are named. "path": a row of the input by its number, 7, and its children ``7_0``, ``7_1``.
            "text": the same behind a prefix, ``r7`` and ``r7_0``, so that no reader takes an id for a number.
            "numeric": children are numbers, too.
        id_prefix: what ids begin with under the scheme "text", such as "shard3-"; None for "r".
        input_ids: what becomes of an `_i` that a row of the input has: "keep" puts it into the first of the columns
            `_i_in`, `_i_in_2`, … that is free; "refuse" makes the row fail; "drop" leaves it out.
        keep_ids: whether the rows of the output have their `_i`. If not, they have it beside the output, in
            ``<output>.rows``, from which the output is copied.
        id_column: the name that `_i` has in the output; None leaves it as it is. ``<output>.rows`` is there, too.
        ordered: whether rows leave every node in input order.
        on_error: what becomes of a row that fails: "fail" ends the run, "skip" leaves it out, "dead_letter" writes
            it to ``<output>.errors.jsonl``. See `FailurePolicy`, also for the next three.
        max_errors: how many rows may fail, per node, before the run does: a number, or a share of the rows.
        retries: how often a call that raised is made again first.
        retry_wait: seconds before the first retry, about; doubled for each further one.
        delivery: "exactly_once": after a crash, the operator is called again for rows in flight. "at_most_once": it
            never is; these rows are dead-lettered as abandoned.
        grace: seconds that a cancelled node waits for calls in flight; then they are given up.
        stall_after: seconds without any movement after which a node is reported as stalled.
        rate: rows that each node may hand to its operator in a second, at most; None for no limit.
        executor: where plain operators are called: "thread", in worker "process"es (for calls that keep a core busy),
            or "auto", which is "thread". Async operators run on an event loop.
        follow_input: whether to wait for more rows until the input is sealed; False takes it as it is.
        idle_timeout: seconds without a new row after which an unsealed input is an error; None waits forever.
        data_config: what of the data is refused: NaN, long records; see `DataConfig`.
        node_configs: what differs from node to node, in their order, unless `create()` is given others.
        log_file: the platform log, relative to the working directory when the run starts, a `LogFile`, or a logger.

    Raises:
        ConfigError: on a wrong value, naming it.
        UnknownProtocolError: on a URI whose protocol is not known.
    """

    given: frozenset[str]
    """The settings that the code gives; see `given_names`."""

    @noting_given
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
        *,
        id_prefix: str | None = None,
        input_ids: InputIds = "keep",
        keep_ids: bool = True,
        id_column: str | None = None,
        ordered: bool = False,
        on_error: OnError = "fail",
        max_errors: int | float | None = None,
        retries: int = 0,
        retry_wait: float = 0.5,
        delivery: DeliveryMode = "exactly_once",
        grace: float = 60.0,
        stall_after: float = 300.0,
        rate: float | None = None,
        executor: ExecutorKind = "auto",
        follow_input: bool = False,
        idle_timeout: float | None = None,
        data_config: DataConfig | Mapping[str, Any] | None = None,
        node_configs: Sequence[NodeConfig | Mapping[str, Any] | None] | None = None,
        log_file: LogTarget = DEFAULT_LOG,
    ) -> None:
        super().__init__(streaming=streaming, results_dir=results_dir, hooks=hooks, log_file=log_file)
        self._node_configs = [] if node_configs is None else node_configs
        for config in self._node_configs:
            NodeConfig.of(config)
        self._configs_given = self._node_configs  # by the constructor, or by create()
        self._remade: tuple[str, list[Any]] | None = None  # of which run, and its operators
        self._settings = Settings(
            operators=operators,
            input_uri=input_uri,
            output_uri=output_uri,
            streaming=streaming,
            parallel_size=parallel_size,
            batch_size=batch_size,
            writer_config=WriterConfig.of(writer_config),
            base_path=os.fspath(base_path),
            protocol_prefix=protocol_prefix,
            default_protocol=default_protocol,
            id_scheme=id_scheme,
            id_prefix=id_prefix,
            input_ids=input_ids,
            keep_ids=keep_ids,
            id_column=id_column,
            ordered=ordered,
            on_error=on_error,
            max_errors=max_errors,
            retries=retries,
            retry_wait=retry_wait,
            delivery=delivery,
            grace=grace,
            stall_after=stall_after,
            rate=rate,
            executor=executor,
            follow_input=follow_input,
            idle_timeout=idle_timeout,
            data_config=DataConfig.of(data_config),
        )

    def create(
        self,
        pipeline_id: str | None = None,
        *,
        node_configs: Sequence[NodeConfig | Mapping[str, Any] | None] | None = None,
        if_exists: IfExists = "error",
        on_change: OnChange = "refuse",
        **overrides: Any,
    ) -> Self:
        """Draw the blueprint and write the image (M4).

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
        names = [field.name for field in fields(self._settings)]
        with overriding(self, overrides, names) as changed:
            self._settings = self._settings.overridden(changed)
            self.given |= given_names(changed)
            self._configs_given = self._node_configs if node_configs is None else node_configs
            self.streaming = self._settings.streaming  # a resume may have set it to what its image says
            pipeline_id = pipeline_id or new_pipeline_id()
            image = image_of_line(self._settings, self._configs_given, pipeline_id)
            clash = clash_of_ids(image)
            self._create(pipeline_id, image, if_exists, on_change)
            if clash is not None and self._image is image:  # and it is not resumed
                warn(clash, OperatorWarning)
                self._notes.append(Note(image["nodes"][-1]["node_id"], clash))
            return self

    def describe(
        self,
        format: DrawingFormat = "text",
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
        **overrides: Any,
    ) -> tuple[dict[str, Any], list[Any]]:
        """Return the nodes as an image has them, and their operators. Opens and changes nothing.

        Args:
            node_configs: those that `create()` will be given; when it was called, they are known.
            overrides: settings that `create()` will be given.

        Raises:
            ConfigError: when a value is wrong, or adjacent nodes' URIs disagree.
        """
        if self.pipeline_id or not (node_configs or overrides):
            return super().blueprint()
        settings = self._settings.overridden(overrides)
        configs = self._node_configs if node_configs is None else node_configs
        image = image_of_line(settings, configs, UNKNOWN_ID)
        return image, [*(settings.operators or ()), *exporters_of(image)]

    def _create_default(self) -> None:
        self.create()

    def _blueprint(self) -> dict[str, Any]:
        return image_of_line(self._settings, self._node_configs, UNKNOWN_ID)

    def _has_operators(self) -> bool:
        return self._settings.operators is not None

    def _operators(self, image: dict[str, Any]) -> list[Any]:
        if self._settings.operators is not None:
            return [*self._settings.operators, *exporters_of(image)]
        pipeline_id = image["pipeline_id"]
        if self._remade is None or self._remade[0] != pipeline_id:
            self._remade = pipeline_id, operators_of(image)
        return self._remade[1]

    def _ignored(self, image: dict[str, Any]) -> list[Note]:
        return [
            *ignored_ends(self._settings.input_uri, self._settings.output_uri, image),
            *ignored_settings(self._settings.as_dict(), UnifiedPipeline()._settings.as_dict(), self.given, image),
            *ignored_node_configs(self._configs_given, image),
        ]

    def _steps(self, image: dict[str, Any]) -> tuple[list[Entry], list[Any]]:
        operators = self._operators(image)
        return line_of(self._settings, self._configs_given, image, operators), operators

    def _nodes_of(self, image: dict[str, Any]) -> list[UnifiedNode]:
        return [
            node_from_image(entry, operator)
            for entry, operator in zip(image["nodes"], self._operators(image), strict=True)
        ]
