"""UnifiedNode: one operator between two streams, by itself or in a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, Unpack

from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.config import (
    check_text,
    checked,
)
from llm_datagen.errors import ConfigError
from llm_datagen.pipeline.binding import Binding
from llm_datagen.pipeline.checked_ids import CheckedIds
from llm_datagen.pipeline.fan_in import Merger
from llm_datagen.pipeline.fan_out import Selector
from llm_datagen.pipeline.given_settings import takes_settings
from llm_datagen.pipeline.node_opening import check_node, open_node
from llm_datagen.pipeline.path_checks import check_layout
from llm_datagen.pipeline.progress import Progress, check_progress, node_views, shown
from llm_datagen.pipeline.run import Run
from llm_datagen.pipeline.runners import run_in_foreground
from llm_datagen.pipeline.settings import NodeAloneOptions, NodeAloneSettings
from llm_datagen.runs.hooks import IPipelineHooks
from llm_datagen.runs.logs.writer import open_log
from llm_datagen.runs.run_report import RunReport
from llm_datagen.runs.status import NodeReport, Status
from llm_datagen.streams import MergedStream, Stream
from llm_datagen.streams.merge_inputs import Naming


class UnifiedNode(Binding):
    """A node: give it streams and an operator, then `run()`.

    `run()` alone opens, runs and closes. Called between `open()` and `close()`, it leaves the stream open:
    `close()` then seals it, if the node has succeeded. A node that was interrupted goes on where it was when it is
    run again with the same streams.

    Args:
        node_id: its id.
        options: its settings, as are the other parameters: `NodeAloneSettings`, and the reference, say what they mean.

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
            source_column=self.settings["source_column"],
            data_config=self.settings["data_config"],
        )
        naming: Naming = "named" if self.settings["id_scheme"] == "path" else "numbered"
        uri = MergedStream.uri_of(naming, {name: stream.uri for name, stream in self._named_inputs.items()})
        merged = self.input
        assert isinstance(merged, Stream)
        node.bind_io(uri, merged).ids = self.ids
        return node.set_operator(Merger(list(self._named_inputs)))

    def _selector(self, name: str, output: Stream) -> UnifiedNode:
        node = UnifiedNode(
            f"{self.node_id}.{name}",
            writer_config=self.settings["writer_config"],
            grace=self.settings["grace"],
            stall_after=self.settings["stall_after"],
            ordered=self.settings["ordered"],
            data_config=self.settings["data_config"],
        )
        node.marked = "" if name == self.marked else None
        return node.bind_io(self.output, output).set_operator(Selector(name))

    # Running.

    def check(self, checked: CheckedIds | None = None) -> None:
        """Check that the node can go on where it was. Only reads: what is refused stays as it is (M22).

        Args:
            checked: which inputs were looked through for ids that are there twice; None: nobody knows.

        Raises:
            ConfigError: when the operator cannot be sent to worker processes.
            IdError: when two rows of an input that no node wrote have one id.
            StreamMissingError: when the input must be there and is not.
            StreamError: when the output cannot be continued; see `Sink`.
        """
        self._packed = check_node(self, checked or CheckedIds())

    def plan(self, *, seal: bool = True, folder: Path | None = None, is_needed: bool = True) -> OpenedNode:
        """Open the node's streams, recover the output, and return what its stages need to know. `check` comes first.

        Args:
            seal: whether the output is sealed at the end.
            folder: where the operator may keep files of its own.
            is_needed: whether anybody needs what it has not done; else nothing is opened.

        Raises:
            StreamError: when the output cannot be continued; see `Sink`.
        """
        packed, self._packed = self._packed, None
        return open_node(self, packed, seal=seal, folder=folder, is_needed=is_needed)

    def open(self) -> Self:
        """Open the streams and recover the output. Only needed to run and close in separate steps."""
        if self._opened is None:
            self._refuse_several()
            self._check_alone()
            self._opened = self.plan(seal=False)
        return self

    def _check_alone(self) -> None:
        check_layout([self.node_files], self._log_file, None)
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
        opened = self._opened or self.plan()
        try:
            log = open_log(self._log_file)
        except BaseException:
            opened.close()
            raise
        self._run = Run(
            [opened],
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
        opened, self._opened = self._opened, None
        if opened is None or opened.sink is None:
            return
        if self.status == Status.COMPLETED:
            # The writer has closed its files; what it committed is recovered and sealed.
            self.output.sink(source=self.input.uri, fsync=self.writer_config.fsync).seal()
        else:
            opened.close()

    def cancel(self) -> None:
        """Begin nothing new, end what was begun, commit it. Any thread may call it; returns at once."""
        if self._run is not None:
            self._run.cancel(keep_jobs=False)

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
