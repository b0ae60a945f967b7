"""UnifiedNode: one operator between two streams, by itself or in a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Self, Unpack

from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.config import (
    BatchBy,
    FailurePolicy,
    WriterConfig,
    check_text,
    checked,
    node_settings,
    plain,
    settings_in,
)
from llm_datagen.errors import ConfigError
from llm_datagen.executors.process.pickling import pack
from llm_datagen.operators import Call, batch_by_of, operator_name
from llm_datagen.pipeline.binding import Binding
from llm_datagen.pipeline.fan_in import Merger
from llm_datagen.pipeline.fan_out import Selector
from llm_datagen.pipeline.given_settings import takes_settings
from llm_datagen.pipeline.path_checks import check_layout
from llm_datagen.pipeline.progress import Progress, check_progress, node_views, shown
from llm_datagen.pipeline.run import Run, run_in_foreground
from llm_datagen.pipeline.settings import NodeAloneOptions, NodeAloneSettings
from llm_datagen.pipeline.stream_checks import check_dead_letters_of, check_finished, check_input, check_source
from llm_datagen.pipeline.unique_ids import check_ids
from llm_datagen.runs.hooks import IPipelineHooks
from llm_datagen.runs.logs.writer import open_log
from llm_datagen.runs.status import NodeReport, RunReport, Status
from llm_datagen.streams import MergedStream, Sink, Span, Stream
from llm_datagen.streams.dead_letters import dead_letter_abandoned
from llm_datagen.streams.dispatch_log import DispatchLog, abandoned
from llm_datagen.streams.ids import RootNames
from llm_datagen.streams.merge_inputs import Naming
from llm_datagen.streams.recovery import check_recoverable, position_of
from llm_datagen.streams.source import has_ended, size_of
from llm_datagen.streams.tails import Tails

_OF_STAGES = [each.name for each in fields(OpenedNode) if each.name in settings_in(NodeAloneSettings)]
"""Settings that stages look at by their names."""


class UnifiedNode(Binding):
    """A node: give it streams and an operator, then `run()`.

    `run()` alone opens, runs and closes. Called between `open()` and `close()`, it leaves the stream open:
    `close()` then seals it, if the node has succeeded. A node that was interrupted goes on where it was when it is
    run again with the same streams.

    Args:
        node_id: its id.
        parallel_size, batch_size, options: its settings: `NodeAloneSettings`, and the reference, say what they mean.

    Raises:
        ConfigError: on a wrong value.
    """

    given: Mapping[str, Any]
    """What the code gives the constructor, by name."""

    @takes_settings(NodeAloneSettings)
    def __init__(
        self, node_id: str, parallel_size: int = 1, batch_size: int = 1, **options: Unpack[NodeAloneOptions]
    ) -> None:
        given = {name: value for name, value in self.given.items() if name != "node_id"}
        super().__init__(check_text("node_id", node_id), checked(NodeAloneSettings, given, "UnifiedNode"))
        self.writer_config = WriterConfig.of(self.settings["writer_config"])
        self.policy = FailurePolicy.of(self.settings)
        self.root: RootNames | None = None
        self._hooks, self._log_file = self.settings["hooks"], self.settings["log_file"]
        self._packed: bytes | None = None  # by `check`, for `plan`
        self._opened: OpenedNode | None = None
        self._run: Run | None = None

    def __repr__(self) -> str:
        return f"UnifiedNode({self.node_id!r})"

    def parts(self) -> list[UnifiedNode]:
        """Return the nodes that this one is run as.

        It is one of them. Before it comes one that merges several inputs, behind it one for each of several outputs.
        """
        merging = [self._merging()] if self._named_inputs else []
        return [*merging, self, *(self._selector(name, output) for name, output in self._named_outputs.items())]

    def _merging(self) -> UnifiedNode:
        follow_input, idle_timeout = self._waits
        node = UnifiedNode(
            f"{self.node_id}.merge",
            writer_config=self.settings["writer_config"],
            grace=self.settings["grace"],
            stall_after=self.settings["stall_after"],
            on_error=self.settings["on_error"],
            max_errors=self.settings["max_errors"],
            idle_timeout=idle_timeout,
            follow_input=follow_input,
            data_config=self.settings["data_config"],
        )
        naming: Naming = "named" if self.settings["id_scheme"] == "path" else "numbered"
        uri = MergedStream.uri_of(naming, {name: stream.uri for name, stream in self._named_inputs.items()})
        merged = self.input
        assert isinstance(merged, Stream)
        return node.bind_io(uri, merged).set_operator(Merger(list(self._named_inputs)))

    def _selector(self, name: str, output: Stream) -> UnifiedNode:
        node = UnifiedNode(
            f"{self.node_id}.{name}",
            writer_config=self.settings["writer_config"],
            grace=self.settings["grace"],
            stall_after=self.settings["stall_after"],
            ordered=self.settings["ordered"],
            data_config=self.settings["data_config"],
        )
        return node.bind_io(self.output, output).set_operator(Selector(name))

    def config(self) -> dict[str, Any]:
        """Return the node's settings as plain data."""
        return {
            "operator": operator_name(self.operator),
            "input_uri": self.input.uri,
            "output_uri": self.output.uri,
            **plain(node_settings(self._settings_of_run())),
        }

    def _settings_of_run(self) -> dict[str, Any]:
        """Return the settings, with those that depend on what the node is joined to."""
        return {**self.settings, "batch_by": self.batch_by, "idle_timeout": self.idle_timeout}

    @property
    def batch_by(self) -> BatchBy:
        """Which items share a batch.

        Raises:
            ConfigError: when the operator, or the ids, do not allow what was chosen.
        """
        return batch_by_of(self.operator, self.settings["batch_by"], self.node_id, self.settings["id_scheme"])

    # Running.

    def is_finished(self) -> bool:
        """Return whether the output was sealed by its writer, and the input has not grown since."""
        seal = self.output.read_seal()
        if seal is None or not seal.complete:
            return False
        if size_of(self.input) is None:  # what is finished needs no input
            return True
        if not has_ended(self.input, follow=self.follow_input):
            return False
        if seal.source_size is None:
            return True
        # Of several, one may have grown while another one was shortened: this one counts as what was read of it.
        parts = self.input.parts(seal.position().coverage)
        return sum(max(stream.size() or 0, done.end()[1]) for stream, done in parts) <= seal.source_size

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

    def check(self) -> None:
        """Check that the node can go on where it was. Only reads: what is refused stays as it is (M22).

        Raises:
            ConfigError: when the operator cannot be sent to worker processes.
            IdError: when two rows of an input that no node wrote have one id.
            StreamMissingError: when the input must be there and is not.
            StreamError: when the output cannot be continued; see `Sink`.
        """
        source, output = self.input, self.output
        output.check_seal()
        seal = output.read_seal()
        if seal is not None and self.is_finished():
            check_finished(output, seal.size, seal.source, source.uri)
            check_dead_letters_of(output, seal.position())
            return
        if self.settings["executor"] == "process":
            self._packed = self._pack()
        for stream in source.read_as_is(follow=self.follow_input):
            check_input(stream)
        output.check_free()
        if output.is_sealed():
            output.verify(whole=False)
        position = check_recoverable(output, source.uri)
        check_dead_letters_of(output, position)
        as_is = {stream.place for stream in source.read_as_is(follow=self.follow_input)}
        for stream, coverage in source.parts(position.coverage):
            check_source(stream, coverage)
            if self.root is None:
                check_ids(stream, follow=stream.place not in as_is)
        Tails.check(source, position.marks, position.coverage)
        abandoned(output, position)

    def _pack(self) -> bytes:
        return pack(self.operator, self.output.codec)

    def plan(self, *, seal: bool = True, folder: Path | None = None) -> OpenedNode:
        """Open the node's streams, recover the output, and return what its stages need to know. `check` comes first.

        Args:
            seal: whether the output is sealed at the end.
            folder: where the operator may keep files of its own.

        Raises:
            StreamError: when the output cannot be continued; see `Sink`.
        """
        source, output = self.input, self.output
        call = Call(self.operator)
        old_seal = output.read_seal()
        sink: Sink | None = None
        packed: bytes | None = None
        dispatched: DispatchLog | None = None
        if old_seal is not None and self.is_finished():
            output.storage.remove(output.commits_path)  # there still after a kill between the seal and its removal
            output.storage.remove(output.dispatched_path)
            position = old_seal.position()
        else:
            if self.settings["executor"] == "process":
                packed, self._packed = self._packed or self._pack(), None
            self.reopen()
            sink = output.sink(source=source.uri, fsync=self.writer_config.fsync)
            if source.read_as_is(follow=self.follow_input):
                sink.tails = Tails(source, follow=self.follow_input)
            try:
                dead_letter_abandoned(sink, source, self.node_id, self.root)
                dispatched = self._dispatch_log()
            except BaseException:
                sink.close()
                raise
            position = sink.position
        settings = self._settings_of_run()
        return OpenedNode(
            node_id=self.node_id,
            operator=self.operator,
            call=call,
            source=source,
            sink=sink,
            position=position,
            segments=position.coverage.gaps(),
            writer=self.writer_config,
            root=self.root,
            follow=self.follow_input,
            policy=self.policy,
            dispatched=dispatched,
            **{name: settings[name] for name in _OF_STAGES},
            packed=packed,
            folder=folder,
            seal=seal,
            config=self.config(),
        )

    def _dispatch_log(self) -> DispatchLog | None:
        if self.settings["delivery"] == "exactly_once":
            return None
        return DispatchLog(self.output, sync=self.writer_config.fsync == "flush")

    def open(self) -> Self:
        """Open the streams and recover the output. Only needed to run and close in separate steps."""
        if self._opened is None:
            self._refuse_several()
            self._check_alone()
            self._opened = self.plan(seal=False)
        return self

    def _check_alone(self) -> None:
        check_layout([self.joint], self._log_file, None)
        self.check()

    def _refuse_several(self) -> None:
        if self._named_outputs or self._named_inputs:
            several = "outputs" if self._named_outputs else "inputs"
            raise ConfigError(
                f"node {self.node_id} has several {several}, so it does not run alone: run "
                f"UnifiedNodePipeline([{self.node_id}])"
            )

    def run(self, *, progress: Progress = "auto") -> RunReport:
        """Run until the input has ended, or the node is cancelled. Blocks.

        Args:
            progress: whether a table shows how far the node is; see `UnifiedPipeline.run`.

        Raises:
            ConfigError: when `progress` cannot be what was given.
            NodeFailedError: when the operator, or the disk, failed; from the original exception.
            StreamError: when a stream cannot be read or continued.
            KeyboardInterrupt: after Ctrl+C, when everything is saved.
        """
        check_progress(progress)
        self._refuse_several()
        if self._opened is None:
            self._check_alone()
        before = NodeReport(node_id=self.node_id)
        with shown(progress, self._hooks, lambda: node_views([self], [before]), lambda: self.status) as hooks:
            return run_in_foreground(self._prepare(hooks))

    def _prepare(self, hooks: IPipelineHooks | None) -> Run:
        plan = self._opened or self.plan()
        try:
            log = open_log(self._log_file)
        except BaseException:
            plan.close()
            raise
        self._run = Run(
            [plan],
            pipeline_id="",
            streaming=True,
            folder=None,
            run_state={"config": self.config()},
            hooks=hooks,
            log=log,
        )
        return self._run

    def runs_in(self, run: Run) -> None:
        """Note the run of a pipeline that this node is in, for `status` and `progress`."""
        self._run = run

    def close(self) -> None:
        """After `open()`: seal the output if the node has succeeded, and let go of the streams."""
        plan, self._opened = self._opened, None
        if plan is None or plan.sink is None:
            return
        if self.status == Status.COMPLETED:
            # The writer has closed its files; what it committed is recovered and sealed.
            self.output.sink(source=self.input.uri, fsync=self.writer_config.fsync).seal()
        else:
            plan.close()

    def cancel(self) -> None:
        """Begin nothing new, end what was begun, commit it. Any thread may call it; returns at once."""
        if self._run is not None:
            self._run.cancel()

    # Watching.

    @property
    def status(self) -> Status:
        """The status of the last run."""
        if self._run is not None and not self._run.is_over():
            return Status.RUNNING
        return self.progress.status

    @property
    def progress(self) -> NodeReport:
        """How far the node was at the end of the last run."""
        if self._run is not None and self._run.is_over():
            for report in self._run.report().nodes:
                if report.node_id == self.node_id:
                    return report
        return NodeReport(node_id=self.node_id)

    def get_runtime(self) -> dict[str, Any]:
        """Return the node's settings, status and progress as plain data."""
        return {"node_id": self.node_id, **self.config(), **self.progress.as_dict(), "status": str(self.status)}
