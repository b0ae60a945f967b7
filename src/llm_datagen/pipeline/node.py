"""UnifiedNode: one operator between two streams, by itself or in a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.config import (
    BatchBy,
    DataConfig,
    DeliveryMode,
    ExecutorKind,
    FailurePolicy,
    IdScheme,
    OnError,
    WriterConfig,
    check_choice,
    check_count,
    check_flag,
    check_rate,
    check_seconds,
)
from llm_datagen.errors import ConfigError
from llm_datagen.executors.process.pickling import pack
from llm_datagen.operators import Call, batch_by_of, operator_name
from llm_datagen.pipeline.binding import Binding
from llm_datagen.pipeline.fan_in import Merger
from llm_datagen.pipeline.fan_out import Selector
from llm_datagen.pipeline.given_settings import noting_given
from llm_datagen.pipeline.path_checks import check_layout
from llm_datagen.pipeline.progress import Progress, check_progress, node_views, shown
from llm_datagen.pipeline.run import Run, run_in_foreground
from llm_datagen.pipeline.stream_checks import check_dead_letters_of, check_finished, check_input, check_source
from llm_datagen.pipeline.unique_ids import check_ids
from llm_datagen.runs.hooks import IPipelineHooks, check_hooks
from llm_datagen.runs.logs.writer import DEFAULT_LOG, LogTarget, check_log, open_log
from llm_datagen.runs.status import NodeReport, RunReport, Status
from llm_datagen.streams import MergedStream, Sink, Span, Stream
from llm_datagen.streams.dead_letters import bury_abandoned
from llm_datagen.streams.dispatch_log import DispatchLog, abandoned
from llm_datagen.streams.ids import RootNames
from llm_datagen.streams.merge_inputs import Naming
from llm_datagen.streams.sink import check_recoverable, position_of
from llm_datagen.streams.tails import Tails


class UnifiedNode(Binding):
    """A node: give it streams and an operator, then `run()`.

    `run()` alone opens, runs and closes. Called between `open()` and `close()`, it leaves the stream open:
    `close()` then seals it, if the node has succeeded. A node that was interrupted goes on where it was when it is
    run again with the same streams.

    Args:
        node_id: its id.
        parallel_size: batches in the operator at once, at most.
        batch_size: items a batch.
        batch_by: which items share a batch: "position", "parent", or None, as the operator says; see `NodeConfig`.
        writer_config: how results get to the disk.
        ordered: whether rows leave in input order.
        on_error: what becomes of a row that fails; see `FailurePolicy`, also for the next three.
        max_errors: how many rows may fail before the node does.
        retries: how often a call that raised is made again.
        retry_wait: seconds before the first retry.
        delivery: "exactly_once": after a crash, the operator is called again for rows in flight. "at_most_once": it
            never is; these rows are dead-lettered as abandoned.
        grace: seconds that a cancelled node waits for calls in flight; then they are given up.
        stall_after: seconds without any movement after which a node is reported as stalled.
        rate: rows that the node may hand to its operator in a second, at most; None for no limit.
        executor: where plain operators are called: "thread", in worker "process"es, or "auto", which is "thread".
        id_scheme: how the children of a row are named.
        idle_timeout: seconds without a new row after which an unsealed input is an error; None waits forever.
        follow_input: whether to wait for more rows until the input is sealed; False takes it as it is.
        data_config: what of the data is refused: NaN, long records; see `DataConfig`.
        hooks: who watches, when it runs by itself.
        log_file: the platform log when it runs by itself, or a logger of the host's own; None for none.

    Raises:
        ConfigError: on a wrong value.
    """

    given: frozenset[str]
    """The settings that the code gives; see `given_names`."""

    @noting_given
    def __init__(
        self,
        node_id: str,
        parallel_size: int = 1,
        batch_size: int = 1,
        *,
        batch_by: BatchBy | None = None,
        writer_config: WriterConfig | Mapping[str, Any] | None = None,
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
        id_scheme: IdScheme = "path",
        idle_timeout: float | None = None,
        follow_input: bool = True,
        data_config: DataConfig | Mapping[str, Any] | None = None,
        hooks: IPipelineHooks | None = None,
        log_file: LogTarget = DEFAULT_LOG,
    ) -> None:
        if not isinstance(node_id, str) or not node_id:
            raise ConfigError(f"node_id must be text, not {node_id!r}")
        super().__init__(
            node_id,
            check_choice("executor", executor, ExecutorKind),
            follow_input=check_flag("follow_input", follow_input),
            idle_timeout=None if idle_timeout is None else check_seconds("idle_timeout", idle_timeout),
            data=DataConfig.of(data_config),
        )
        self.parallel_size = check_count("parallel_size", parallel_size)
        self.batch_size = check_count("batch_size", batch_size)
        self._batch_by = None if batch_by is None else check_choice("batch_by", batch_by, BatchBy)
        self.writer_config = WriterConfig.of(writer_config)
        self.ordered = check_flag("ordered", ordered)
        self.policy = FailurePolicy(on_error=on_error, max_errors=max_errors, retries=retries, retry_wait=retry_wait)
        self.delivery: DeliveryMode = check_choice("delivery", delivery, DeliveryMode)
        self.grace = check_seconds("grace", grace)
        self.stall_after = check_seconds("stall_after", stall_after)
        self.rate = None if rate is None else check_rate("rate", rate)
        self.id_scheme: IdScheme = check_choice("id_scheme", id_scheme, IdScheme)
        self.root: RootNames | None = None
        self._hooks = check_hooks(hooks)
        self._log_file = check_log(log_file)
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
        follow_input, idle_timeout = self._patience
        node = UnifiedNode(
            f"{self.node_id}.merge",
            writer_config=self.writer_config,
            grace=self.grace,
            stall_after=self.stall_after,
            on_error=self.policy.on_error,
            max_errors=self.policy.max_errors,
            idle_timeout=idle_timeout,
            follow_input=follow_input,
            data_config=self.data_config,
        )
        naming: Naming = "named" if self.id_scheme == "path" else "numbered"
        uri = MergedStream.uri_of(naming, {name: stream.uri for name, stream in self._named_inputs.items()})
        return node.bind_io(uri, self.input).set_operator(Merger(list(self._named_inputs)))

    def _selector(self, name: str, output: Stream) -> UnifiedNode:
        node = UnifiedNode(
            f"{self.node_id}.{name}",
            writer_config=self.writer_config,
            grace=self.grace,
            stall_after=self.stall_after,
            ordered=self.ordered,
            data_config=self.data_config,
        )
        return node.bind_io(self.output, output).set_operator(Selector(name))

    def config(self) -> dict[str, Any]:
        """Return the node's settings as plain data."""
        return {
            "operator": operator_name(self.operator),
            "input_uri": self.input.uri,
            "output_uri": self.output.uri,
            "parallel_size": self.parallel_size,
            "batch_size": self.batch_size,
            "batch_by": self.batch_by,
            "writer_config": self.writer_config.as_dict(),
            "ordered": self.ordered,
            **self.policy.as_dict(),
            "idle_timeout": self.idle_timeout,
            "delivery": self.delivery,
            "grace": self.grace,
            "stall_after": self.stall_after,
            "rate": self.rate,
            "executor": self.executor,
            "data_config": self.data_config.as_dict(),
        }

    @property
    def batch_by(self) -> BatchBy:
        """Which items share a batch.

        Raises:
            ConfigError: when the operator, or the ids, do not allow what was chosen.
        """
        return batch_by_of(self.operator, self._batch_by, self.node_id, self.id_scheme)

    # Running.

    def is_finished(self) -> bool:
        """Return whether the output was sealed by its writer, and the input has not grown since."""
        seal = self.output.read_seal()
        if seal is None or not seal.complete:
            return False
        if self.input.size() is None:  # what is finished needs no input
            return True
        if not self.input.has_ended(follow=self.follow_input):
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
        """See to it that the node can go on where it was. Only reads: what is refused stays as it is (M22).

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
        if self.executor == "process":
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
            if self.executor == "process":
                packed, self._packed = self._packed or self._pack(), None
            self.reopen()
            sink = output.sink(source=source.uri, fsync=self.writer_config.fsync)
            if source.read_as_is(follow=self.follow_input):
                sink.tails = Tails(source, follow=self.follow_input)
            try:
                bury_abandoned(sink, source, self.node_id, self.root)
                dispatched = self._dispatch_log()
            except BaseException:
                sink.close()
                raise
            position = sink.position
        return OpenedNode(
            node_id=self.node_id,
            operator=self.operator,
            call=call,
            source=source,
            sink=sink,
            position=position,
            segments=position.coverage.gaps(),
            parallel_size=self.parallel_size,
            batch_size=self.batch_size,
            batch_by=self.batch_by,
            writer=self.writer_config,
            ordered=self.ordered,
            id_scheme=self.id_scheme,
            root=self.root,
            follow=self.follow_input,
            idle_timeout=self.idle_timeout,
            policy=self.policy,
            delivery=self.delivery,
            dispatched=dispatched,
            grace=self.grace,
            stall_after=self.stall_after,
            rate=self.rate,
            packed=packed,
            folder=folder,
            seal=seal,
            config=self.config(),
        )

    def _dispatch_log(self) -> DispatchLog | None:
        if self.delivery == "exactly_once":
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
            image={"config": self.config()},
            hooks=hooks,
            log=log,
        )
        return self._run

    def runs_in(self, run: Run) -> None:
        """Take note of the run of a pipeline that this node is in, for `status` and `progress`."""
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
