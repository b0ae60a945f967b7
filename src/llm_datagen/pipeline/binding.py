"""The binding of a node: which streams it reads and writes, and with which operator."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

from llm_datagen.config import (
    BatchBy,
    DataConfig,
    FailurePolicy,
    MergeIds,
    WriterConfig,
    check_choice,
    node_settings,
    plain,
)
from llm_datagen.errors import ConfigError
from llm_datagen.executors.process.pickling import check_operator
from llm_datagen.operators import FunctionOperator, Operator, as_operator, batch_by_of, operator_name
from llm_datagen.pipeline.fan_in import check_inputs, merged_beside
from llm_datagen.pipeline.fan_out import RoutingOperator, Rule, check_outputs
from llm_datagen.pipeline.run_files import NodeFiles
from llm_datagen.pipeline.settings import NodeAloneSettings
from llm_datagen.streams import FileStream, MergedStream, Source, Span, Stream, StreamFactory
from llm_datagen.streams.ids import END_NAME, RootNames
from llm_datagen.streams.inputs.file_set import FileSet
from llm_datagen.streams.recovery import position_of
from llm_datagen.streams.source import has_ended, size_of, streams_of
from llm_datagen.streams.storage.object_uri import refuse_path_of_uri
from llm_datagen.streams.target_mark import TargetMark


class Binding:
    """What `UnifiedNode` is joined to.

    Args:
        node_id: the node's id.
        settings: those of the node.
    """

    def __init__(self, node_id: str, settings: NodeAloneSettings) -> None:
        self.node_id = node_id
        self.settings = settings
        self.follow_input, self.idle_timeout = settings["follow_input"], settings["idle_timeout"]
        self._waits = self.follow_input, self.idle_timeout  # for the inputs, where there are several
        self.source_column = settings["source_column"]
        self.writer_config = WriterConfig.of(settings["writer_config"])
        self.policy = FailurePolicy.of(settings)
        self.root: RootNames | None = None
        self.ids: MergeIds | None = None
        self.end_name = END_NAME
        self._operator: Any = None
        self._input: Source | None = None
        self._named_inputs: dict[str, Stream] = {}
        self._output: Stream | None = None
        self._named_outputs: dict[str, Stream] = {}
        self._rule: Rule | None = None
        self.marked: str | None = None
        """Which of its outputs a pipeline file calls the output of the run; empty of its only one; None for none."""

    def bind_io(
        self,
        input_bus: Stream | str | Sequence[Stream | str] | Mapping[str, Stream | str],
        output_bus: Stream | str | Mapping[str, Stream | str],
        *,
        route: Rule | None = None,
        ids: MergeIds | None = None,
    ) -> Self:
        """Say where the node reads and writes: streams, or URIs.

        Several inputs are read as one: their rows come as they are there. With several outputs, by their names, the
        operator returns a `Route` for each row, or `route` says where it goes. A node that has several of either is
        run by a UnifiedNodePipeline, as the nodes that `parts` returns.

        Args:
            input_bus: what is read; several as a list, which is named in0, in1, …; or a stream for each name. A name
                is letters, digits and dashes.
            output_bus: what is written; or a stream for each name.
            route: given a row that is no `Route`, returns the name of its output; None drops the row.
            ids: of several inputs. "rename": all rows are named after their input: row 7 of `left` is ``7_left``.
                "keep": they keep their ids; refused where rows of two inputs may have the same one. None: they keep
                them where no two can have the same one, else they are renamed.

        Returns:
            The node.

        Raises:
            ConfigError: when something is neither, or two streams are the same.
        """
        self._named_outputs, self._rule = {}, route
        if isinstance(output_bus, Mapping):
            check_outputs(self.node_id, output_bus, route)
            self._named_outputs = {name: self._stream(f"output {name}", bus) for name, bus in output_bus.items()}
            self._output = _routed(next(iter(self._named_outputs.values()))).with_data(
                DataConfig.of(self.settings["data_config"])
            )
        elif route is not None:
            raise ConfigError(
                f"node {self.node_id}: route is for several outputs: give their names, with a stream each"
            )
        else:
            self._output = self._stream("output_bus", output_bus)
        outputs = list(self._named_outputs.values()) or [self._output]
        for stream in (self._output, *outputs):
            stream.anchor()
        if ids is not None:
            check_choice("ids", ids, MergeIds)
        self.ids = ids
        self._named_inputs = {}
        if isinstance(input_bus, Mapping | Sequence) and not isinstance(input_bus, str | bytes):
            named = input_bus if isinstance(input_bus, Mapping) else _numbered(input_bus)
            self._named_inputs = {name: self._stream(f"input {name}", bus) for name, bus in named.items()}
            check_inputs(self.node_id, self._named_inputs)
            self._input = merged_beside(outputs[0]).with_data(DataConfig.of(self.settings["data_config"]))
        else:
            if ids is not None and not isinstance(input_bus, MergedStream):
                raise ConfigError(
                    f"node {self.node_id}: ids={ids!r} is for several inputs: give a list of them, or a dict"
                )
            found = _as_source("input_bus", input_bus).with_data(DataConfig.of(self.settings["data_config"]))
            self._input = found.with_source(self.settings["source_column"])
        sources: list[Source] = [self._input, *self._named_inputs.values()]
        for stream in (stream for source in sources for stream in streams_of(source)):
            stream.anchor()
        self.follow_input, self.idle_timeout = (True, None) if self._named_inputs else self._waits
        self.source_column = None if self._named_inputs else self.settings["source_column"]
        written = {self._output.place, *(output.place for output in outputs)}
        for source in sources:
            if written.intersection(source.places):
                raise ConfigError(f"node {self.node_id} would read and write the same stream, {source.uri}")
        self._check_file_sets(sources, [self._output, *outputs])
        return self

    def _check_file_sets(self, sources: list[Source], outputs: list[Stream]) -> None:
        read = (stream.data for source in sources for stream in streams_of(source))
        for files in (stream for stream in read if isinstance(stream, FileSet)):
            for output in outputs:
                if isinstance(output, FileStream) and files.reads(output.path):
                    raise ConfigError(
                        f"node {self.node_id} would write {output.path}, which is one of the files that it reads "
                        f"({files.uri}); choose another folder, or a pattern that leaves it out"
                    )

    def _stream(self, name: str, value: Any) -> Stream:
        return _as_stream(name, value).with_data(DataConfig.of(self.settings["data_config"]))

    def set_processor(self, func: Any) -> Self:
        """Say what the node does: ``func(items, ctx) -> list``, or an operator.

        Raises:
            ConfigError: when it is neither, or the node's `executor` cannot run it.
        """
        is_operator = hasattr(func, "process_item") or hasattr(func, "process_batch")
        return self.set_operator(func if is_operator else FunctionOperator(func, batch=True))

    def set_operator(self, operator: Operator) -> Self:
        """Say what the node does: an operator, or a function of one item.

        Raises:
            ConfigError: when it is neither, or the node's `executor` cannot run it.
        """
        operator = as_operator(operator)
        if self.settings["executor"] == "process":
            check_operator(operator, self.node_id)
        self._operator = operator
        return self

    @property
    def operator(self) -> Any:
        """The operator.

        Raises:
            ConfigError: when none was set.
        """
        if self._operator is None:
            raise ConfigError(f"node {self.node_id} has no operator; call set_operator() first")
        if self._named_outputs:
            return RoutingOperator(self._operator, list(self._named_outputs), self._rule)
        return self._operator

    @property
    def node_files(self) -> NodeFiles:
        """What it reads and writes, for a check of all paths of a run.

        Raises:
            ConfigError: when no streams were bound, or no operator was set.
        """
        return NodeFiles(self.node_id, self.input, self.output, self.operator)

    @property
    def input(self) -> Source:
        """The source that the node reads; with several inputs, the one to which they are copied.

        Raises:
            ConfigError: when none was bound.
        """
        if self._input is None:
            raise ConfigError(f"node {self.node_id} has no streams; call bind_io() first")
        return self._input

    @property
    def output(self) -> Stream:
        """The stream that the node writes; with several named outputs, the one from which they are copied.

        Raises:
            ConfigError: when none was bound.
        """
        if self._output is None:
            raise ConfigError(f"node {self.node_id} has no streams; call bind_io() first")
        return self._output

    def config(self) -> dict[str, Any]:
        """Return the node's settings as plain data."""
        return {
            "operator": operator_name(self.operator),
            "input_uri": self.input.uri,
            "output_uri": self.output.uri,
            **plain(node_settings(self.settings_of_run())),
        }

    def settings_of_run(self) -> dict[str, Any]:
        """Return the settings, with those that depend on what the node is joined to."""
        return {**self.settings, "batch_by": self.batch_by, "idle_timeout": self.idle_timeout}

    @property
    def batch_by(self) -> BatchBy:
        """Which items share a batch.

        Raises:
            ConfigError: when the operator, or the ids, do not allow what was chosen.
        """
        return batch_by_of(self.operator, self.settings["batch_by"], self.node_id, self.settings["id_scheme"])

    def is_finished(self) -> bool:
        """Return whether the output was sealed by its writer, and the input has not grown since, if it had to end."""
        seal = self.output.read_seal()
        if seal is None or not seal.complete:
            return False
        if TargetMark.of(seal.marks).rows is not None:  # it has ended before its input
            return self.has_met_target()
        if size_of(self.input) is None:  # what is finished needs no input
            return True
        if not has_ended(self.input, follow=self.follow_input):
            return False
        if seal.source_size is None:
            return True
        return not self.input.has_grown(seal.position().coverage, seal.source_size)

    def has_met_target(self) -> bool:
        """Return whether the output has all the rows that it is to get, committed."""
        target: Any = self.settings["target"]
        found = None if target is None else position_of(self.output)
        return found is not None and found[1].rows >= target

    def reopen(self) -> None:
        """Take the seal off an output that is not finished.

        Raises:
            StreamError: when it is not what it was when it was sealed; then the seal stays.
        """
        if self.output.is_sealed() and not self.is_finished():
            self.output.verify(whole=False)
            self.output.unseal()

    def read_before(self) -> list[Span]:
        """Return which rows of the input are done with, as the output says."""
        found = position_of(self.output)
        return list(found[1].coverage) if found else []


def _numbered(inputs: Sequence[Any]) -> dict[str, Any]:
    return {f"in{number}": stream for number, stream in enumerate(inputs)}


def _as_source(name: str, value: Any) -> Stream | MergedStream:
    if isinstance(value, str):
        return StreamFactory.source(refuse_path_of_uri(name, value))
    return value if isinstance(value, MergedStream) else _as_stream(name, value)


def _as_stream(name: str, value: Any) -> Stream:
    if isinstance(value, str):
        return StreamFactory.create(refuse_path_of_uri(name, value))
    if not isinstance(value, Stream):
        raise ConfigError(f"{name} must be a stream (StreamFactory.create(uri)) or a URI, not {reprlib.repr(value)}")
    return value


def _routed(output: Stream) -> Stream:
    """Return the stream from which several outputs are copied: beside the first of them."""
    return StreamFactory.create(output.uri_beside("routed"))
