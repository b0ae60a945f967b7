"""UnifiedNode: one operator between two streams, by itself or in a pipeline."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from llm_datagen.actors.plan import NodePlan
from llm_datagen.config import (
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
from llm_datagen.errors import ConfigError, StreamBusyError, StreamChangedError, StreamMissingError
from llm_datagen.executors.transport import check_operator, pack
from llm_datagen.hooks import IPipelineHooks, check_hooks
from llm_datagen.log import DEFAULT_LOG, open_log
from llm_datagen.merging import Merger, check_inputs, merged_beside
from llm_datagen.operators import Call, FunctionOperator, as_operator, operator_name
from llm_datagen.report import NodeReport, RunReport, Status
from llm_datagen.routing import RoutingOperator, Rule, Selector, check_outputs
from llm_datagen.run import Run, run_in_foreground
from llm_datagen.streams import Coverage, FileStream, MergedStream, Sink, Span, Stream, StreamFactory
from llm_datagen.streams.commits import CHECK_WHOLE_BYTES, Position
from llm_datagen.streams.dispatch import DispatchLog, abandoned
from llm_datagen.streams.letters import bury_abandoned, check_letters
from llm_datagen.streams.merged import Naming
from llm_datagen.streams.sink import check_recoverable, position_of


class UnifiedNode:
    """A node: give it streams and an operator, then `run()`.

    `run()` alone opens, runs and closes. Called between `open()` and `close()`, it leaves the stream open:
    `close()` then seals it, if the node has succeeded. A node that was interrupted goes on where it was when it is
    run again with the same streams.

    Args:
        node_id: its id.
        parallel_size: batches in the operator at once, at most.
        batch_size: items a batch.
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
        hooks: who watches, when it runs by itself.
        log_file: the platform log when it runs by itself; None for none.

    Raises:
        ConfigError: on a wrong value.
    """

    def __init__(
        self,
        node_id: str,
        parallel_size: int = 1,
        batch_size: int = 1,
        *,
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
        hooks: IPipelineHooks | None = None,
        log_file: str | os.PathLike[str] | None = DEFAULT_LOG,
    ) -> None:
        if not isinstance(node_id, str) or not node_id:
            raise ConfigError(f"node_id must be text, not {node_id!r}")
        self.node_id = node_id
        self.parallel_size = check_count("parallel_size", parallel_size)
        self.batch_size = check_count("batch_size", batch_size)
        self.writer_config = WriterConfig.of(writer_config)
        self.ordered = check_flag("ordered", ordered)
        self.policy = FailurePolicy(on_error=on_error, max_errors=max_errors, retries=retries, retry_wait=retry_wait)
        self.delivery: DeliveryMode = check_choice("delivery", delivery, DeliveryMode)
        self.grace = check_seconds("grace", grace)
        self.stall_after = check_seconds("stall_after", stall_after)
        self.rate = None if rate is None else check_rate("rate", rate)
        self.executor: ExecutorKind = check_choice("executor", executor, ExecutorKind)
        self.id_scheme: IdScheme = check_choice("id_scheme", id_scheme, IdScheme)
        self.idle_timeout = None if idle_timeout is None else check_seconds("idle_timeout", idle_timeout)
        self.follow_input = check_flag("follow_input", follow_input)
        self.is_root = False
        self._patience = self.follow_input, self.idle_timeout  # for the inputs, where there are several
        self._hooks = check_hooks(hooks)
        self._log_file = log_file
        self._operator: Any = None
        self._packed: bytes | None = None  # by `check`, for `plan`
        self._input: Stream | None = None
        self._named_inputs: dict[str, Stream] = {}
        self._output: Stream | None = None
        self._named_outputs: dict[str, Stream] = {}
        self._rule: Rule | None = None
        self._opened: NodePlan | None = None
        self._run: Run | None = None

    def __repr__(self) -> str:
        return f"UnifiedNode({self.node_id!r})"

    # Wiring.

    def bind_io(
        self,
        input_bus: Stream | str | Sequence[Stream | str] | Mapping[str, Stream | str],
        output_bus: Stream | str | Mapping[str, Stream | str],
        *,
        route: Rule | None = None,
    ) -> Self:
        """Say where the node reads and writes: streams, or URIs.

        Several inputs are read as one: their rows come as they are there. With several outputs, by their names, the
        operator returns a `Route` for each row, or `route` says where it goes. A node that has several of either is
        run by a UnifiedNodePipeline, as the nodes that `parts` returns.

        Args:
            input_bus: what is read; several as a list, which is named in0, in1, …; or a stream for each name.
            output_bus: what is written; or a stream for each name.
            route: given a row that is no `Route`, returns the name of its output; None drops the row.

        Raises:
            ConfigError: when something is neither, or two streams are the same.
        """
        self._named_outputs, self._rule = {}, route
        if isinstance(output_bus, Mapping):
            check_outputs(self.node_id, output_bus, route)
            self._named_outputs = {name: _as_stream(f"output {name}", bus) for name, bus in output_bus.items()}
            self._output = _routed(next(iter(self._named_outputs.values())))
        elif route is not None:
            raise ConfigError(
                f"node {self.node_id}: route is for several outputs: give their names, with a stream each"
            )
        else:
            self._output = _as_stream("output_bus", output_bus)
        outputs = list(self._named_outputs.values()) or [self._output]
        self._named_inputs = {}
        if isinstance(input_bus, Mapping | Sequence) and not isinstance(input_bus, str):
            named = input_bus if isinstance(input_bus, Mapping) else _numbered(input_bus)
            self._named_inputs = {name: _as_stream(f"input {name}", bus) for name, bus in named.items()}
            check_inputs(self.node_id, self._named_inputs)
            self._input = merged_beside(outputs[0])
        else:
            self._input = _as_stream("input_bus", input_bus)
        self.follow_input, self.idle_timeout = (True, None) if self._named_inputs else self._patience
        written = {self._output.place, *(output.place for output in outputs)}
        for stream in (self._input, *self._named_inputs.values()):
            if written.intersection(stream.places):
                raise ConfigError(f"node {self.node_id} would read and write the same stream, {stream.uri}")
        return self

    def set_processor(self, func: Any) -> Self:
        """Say what the node does: ``func(items, ctx) -> list``, or an operator.

        Raises:
            ConfigError: when it is neither, or the node's `executor` cannot run it.
        """
        is_operator = hasattr(func, "process_item") or hasattr(func, "process_batch")
        return self.set_operator(func if is_operator else FunctionOperator(func, batch=True))

    def set_operator(self, operator: Any) -> Self:
        """Say what the node does: an operator, or a function of one item.

        Raises:
            ConfigError: when it is neither, or the node's `executor` cannot run it.
        """
        operator = as_operator(operator)
        if self.executor == "process":
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
            raise ConfigError(f"node {self.node_id} has no operator; call set_processor() first")
        if self._named_outputs:
            return RoutingOperator(self._operator, list(self._named_outputs), self._rule)
        return self._operator

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
        )
        return node.bind_io(self.output, output).set_operator(Selector(name))

    @property
    def input(self) -> Stream:
        """The stream that the node reads; with several inputs, the one to which they are copied.

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
            "parallel_size": self.parallel_size,
            "batch_size": self.batch_size,
            "writer_config": self.writer_config.as_dict(),
            "ordered": self.ordered,
            **self.policy.as_dict(),
            "idle_timeout": self.idle_timeout,
            "delivery": self.delivery,
            "grace": self.grace,
            "stall_after": self.stall_after,
            "rate": self.rate,
            "executor": self.executor,
        }

    # Running.

    def is_finished(self) -> bool:
        """Return whether the output was sealed by its writer, and the input has not grown since."""
        manifest = self.output.manifest()
        if manifest is None or not manifest.complete:
            return False
        size = self.input.size()
        if size is None:  # what is finished needs no input
            return True
        if not self.input.has_ended(follow=self.follow_input):
            return False
        return manifest.source_size is None or size <= manifest.source_size

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
            StreamMissingError: when the input must be there and is not.
            StreamError: when the output cannot be continued; see `Sink`.
        """
        source, output = self.input, self.output
        manifest = output.manifest()
        if manifest is not None and self.is_finished():
            _check_finished(output, manifest.size, manifest.source, source.uri)
            _check_letters(output, manifest.position())
            return
        if self.executor == "process":
            self._packed = self._pack()
        for stream in source.read_as_is(follow=self.follow_input):
            _check_input(stream)
        output.check_free()
        if output.is_sealed():
            output.verify(whole=False)
        position = check_recoverable(output, source.uri)
        _check_letters(output, position)
        for stream, coverage in source.parts(position.coverage):
            _check_source(stream, coverage)
        abandoned(output, position)

    def _pack(self) -> bytes:
        return pack(self.operator, self.output.codec)

    def plan(self, *, seal: bool = True, folder: Path | None = None) -> NodePlan:
        """Open the node's streams, recover the output, and return what its stages need to know. `check` comes first.

        Args:
            seal: whether the output is sealed at the end.
            folder: where the operator may keep files of its own.

        Raises:
            StreamError: when the output cannot be continued; see `Sink`.
        """
        source, output = self.input, self.output
        call = Call(self.operator)
        manifest = output.manifest()
        sink: Sink | None = None
        packed: bytes | None = None
        dispatched: DispatchLog | None = None
        if manifest is not None and self.is_finished():
            output.disk.remove(output.commits_path)  # there still after a kill between the seal and its removal
            output.disk.remove(output.dispatched_path)
            position = manifest.position()
        else:
            if self.executor == "process":
                packed, self._packed = self._packed or self._pack(), None
            self.reopen()
            sink = output.sink(source=source.uri, fsync=self.writer_config.fsync)
            try:
                bury_abandoned(sink, source, self.node_id, is_root=self.is_root)
                dispatched = self._dispatch_log()
            except BaseException:
                sink.close()
                raise
            position = sink.position
        return NodePlan(
            node_id=self.node_id,
            operator=self.operator,
            call=call,
            source=source,
            sink=sink,
            position=position,
            segments=position.coverage.gaps(),
            parallel_size=self.parallel_size,
            batch_size=self.batch_size,
            writer=self.writer_config,
            ordered=self.ordered,
            id_scheme=self.id_scheme,
            is_root=self.is_root,
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
            self.check()
            self._opened = self.plan(seal=False)
        return self

    def _refuse_several(self) -> None:
        if self._named_outputs or self._named_inputs:
            several = "outputs" if self._named_outputs else "inputs"
            raise ConfigError(
                f"node {self.node_id} has several {several}, so it does not run alone: run "
                f"UnifiedNodePipeline([{self.node_id}])"
            )

    def run(self) -> RunReport:
        """Run until the input has ended, or the node is cancelled. Blocks.

        Raises:
            NodeFailedError: when the operator, or the disk, failed; from the original exception.
            StreamError: when a stream cannot be read or continued.
            KeyboardInterrupt: after Ctrl+C, when everything is saved.
        """
        self._refuse_several()
        if self._opened is None:
            self.check()
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
            hooks=self._hooks,
            log=log,
        )
        return run_in_foreground(self._run)

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


def _numbered(inputs: Sequence[Any]) -> dict[str, Any]:
    return {f"in{number}": stream for number, stream in enumerate(inputs)}


def _as_stream(name: str, value: Any) -> Stream:
    if isinstance(value, str):
        return StreamFactory.create(value)
    if not isinstance(value, Stream):
        raise ConfigError(f"{name} must be a stream (StreamFactory.create(uri)) or a URI, not {value!r}")
    return value


def _routed(output: Stream) -> Stream:
    """Return the stream from which several outputs are copied: beside the first of them."""
    protocol = "jsonl" if isinstance(output, FileStream) else "memory"
    return StreamFactory.create(f"{protocol}://{output.path}.routed")


def _check_input(source: Stream) -> None:
    """See to it that an input which is to be read as it is can be."""
    if source.size() is None:
        raise StreamMissingError(
            f"{source.path} does not exist; check the path of the input (relative paths count from the working "
            f"directory, {Path.cwd()})"
        )
    if not source.is_sealed() and source.disk.size(source.commits_path) is not None:
        raise StreamBusyError(
            f"{source.path} is the unfinished output of another run ({source.commits_path} is there), so it is not "
            "the whole input yet; finish that run first, or say follow_input=True to wait for its end"
        )


def _check_finished(output: Stream, size: int, made_from: str, source_uri: str) -> None:
    """See to it that a sealed output is what its seal says, and was made from this input."""
    found = output.disk.size(output.path)
    if found != size:
        what = "is gone" if found is None else f"has {found} bytes"
        raise StreamChangedError(
            f"{output.path} {what}, but it had {size} bytes when it was sealed; restore it, or start afresh with "
            "if_exists='overwrite'"
        )
    output.verify(whole=False)
    if made_from != source_uri:
        raise StreamChangedError(
            f"{output.path} is finished and was made from {made_from!r}, not from {source_uri!r}; choose another "
            "output, or delete it"
        )


def _check_letters(output: Stream, position: Position) -> None:
    """See to it that the dead letters can be read; as with rows, only those of a file that is not too long."""
    if position.errors_bytes <= CHECK_WHOLE_BYTES:
        check_letters(output)


def _check_source(source: Stream, done: Coverage) -> None:
    """See to it that the rows which were read before are still there (M22)."""
    _, offset = done.end()
    size = source.size()
    if offset and (size is None or size < offset):
        what = "is gone" if size is None else f"has {size} bytes"
        raise StreamChangedError(
            f"{source.path} {what}, but rows up to byte {offset} were read from it before the run was interrupted; "
            "restore it, or start afresh with if_exists='overwrite'"
        )
    for segment in done.gaps():
        if not source.is_row_start(segment.offset):
            raise StreamChangedError(
                f"{source.path}: no row begins at byte {segment.offset}, where reading is to go on: the file was "
                "edited after the run was interrupted; restore it, or start afresh with if_exists='overwrite'"
            )
