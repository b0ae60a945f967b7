"""Pipelines: nodes joined by streams, with an image that survives the process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import pykka

from llm_datagen.actors.pipeline import PipelineActor
from llm_datagen.blueprint import (
    Settings,
    check_topology,
    draw,
    image_of_line,
    image_of_nodes,
    in_reading_order,
    new_pipeline_id,
    node_from_image,
)
from llm_datagen.config import (
    DeliveryMode,
    ExecutorKind,
    FailurePolicy,
    IdScheme,
    IfExists,
    NodeConfig,
    OnError,
    Verify,
    WriterConfig,
    check_choice,
    check_flag,
)
from llm_datagen.embedding import run_beside, run_during
from llm_datagen.errors import (
    ConfigError,
    ImageError,
    ImageMismatchError,
    PipelineBusyError,
    PipelineExistsError,
    StreamMissingError,
)
from llm_datagen.hooks import IPipelineHooks, check_hooks
from llm_datagen.log import DEFAULT_LOG, open_log
from llm_datagen.node import UnifiedNode
from llm_datagen.operators import operator_name
from llm_datagen.outputs import delete_outputs, why_refused
from llm_datagen.report import NodeReport, RunReport, Status
from llm_datagen.run import Run, run_in_foreground
from llm_datagen.runtime import RunFolder
from llm_datagen.streams import FileStream, Fingerprint, StreamFactory
from llm_datagen.streams.letters import check_letters, release_letters

ENDED = {Status.COMPLETED, Status.FAILED, Status.CANCELED}


class BasePipeline:
    """What both kinds of pipelines share: from the image to the report."""

    def __init__(
        self,
        *,
        streaming: bool,
        results_dir: str | os.PathLike[str],
        hooks: IPipelineHooks | None,
        log_file: str | os.PathLike[str] | None,
    ) -> None:
        self.streaming = check_flag("streaming", streaming)
        self.results_dir = os.fspath(results_dir)
        self.hooks = check_hooks(hooks)
        self.log_file = log_file
        self.nodes: list[UnifiedNode] = []
        self._folder: RunFolder | None = None
        self._image: dict[str, Any] = {}
        self._run: Run | None = None

    # What the kinds differ in.

    def _operators(self, image: dict[str, Any]) -> list[Any]:
        """Return the operators in the code, in the order of the image's nodes."""
        raise TypeError

    def _nodes_of(self, image: dict[str, Any]) -> list[UnifiedNode]:
        """Return the nodes that an image describes, with the operators in the code."""
        raise TypeError

    # Blueprint.

    @property
    def pipeline_id(self) -> str:
        """The id; empty before `create()` or `resume()`."""
        return self._folder.pipeline_id if self._folder else ""

    def _create(self, pipeline_id: str | None, image: dict[str, Any], if_exists: IfExists) -> Self:
        check_choice("if_exists", if_exists, IfExists)
        self._refuse_running()
        folder = RunFolder(self.results_dir, pipeline_id or new_pipeline_id())
        image["pipeline_id"] = folder.pipeline_id
        nodes = self._nodes_of(image)
        check_topology(nodes)
        folder.lock()
        try:
            old = self._old_image(folder, if_exists)
            if if_exists == "overwrite":
                delete_outputs([*old["nodes"], *image["nodes"]] if old else image["nodes"], nodes, folder)
            elif old and not _is_untouched(old, nodes):
                if if_exists == "resume":
                    folder.unlock()
                    return self.resume(folder.pipeline_id)
                raise PipelineExistsError(
                    f"run {folder.pipeline_id!r} is there already in {self.results_dir} ({old['status']}); continue it "
                    "with if_exists='resume' (or resume()), start afresh with if_exists='overwrite' (its outputs are "
                    "deleted), or choose another pipeline_id"
                )
            for node in nodes:
                if node.output.exists():
                    raise PipelineExistsError(why_refused(node, folder))
            folder.save(image)
        finally:
            folder.unlock()
            folder.remove_if_unused()
        self._folder, self._image, self.nodes, self._run = folder, image, nodes, None
        return self

    def _old_image(self, folder: RunFolder, if_exists: IfExists) -> dict[str, Any] | None:
        """Return the image that is there already, if one is. To be overwritten, it need not be readable."""
        try:
            return folder.load() if folder.exists() else None
        except ImageError:
            if if_exists == "overwrite":
                return None
            raise

    def resume(
        self,
        pipeline_id: str,
        *,
        on_error: OnError | None = None,
        max_errors: int | float | None = None,
        verify: Verify = "tail",
    ) -> Self:
        """Load the image of a run and make it ready to go on where it stopped, whatever stopped it (M6).

        Paths, settings and ids come from the image; only the operators come from the code.

        Args:
            pipeline_id: the run's id, in `results_dir`.
            on_error: what becomes of rows that fail from now on, in all nodes; None leaves it as it is. A run that a
                bad row has ended goes on with "dead_letter".
            max_errors: how many rows may fail, in each node, with those that have; None, together with `on_error`: any
                number. Alone, it changes the nodes that go on after a row that failed.
            verify: "tail" compares what the last flush of each stream added with its checksum (and the whole of streams
                up to 64 MiB); "full" compares every byte that the run has written.

        Returns:
            The pipeline itself: call `run()` next.

        Raises:
            ConfigError: on a wrong value; on `max_errors` alone, when any row that fails ends the run, in all nodes.
            PipelineNotFoundError: when there is no such run.
            ImageError: when its image cannot be read.
            ImageMismatchError: when the operators are not those of the image.
            PipelineBusyError: when it is running, or this object is.
            StreamError: when its files were changed meanwhile; nothing is changed then.
        """
        with self._held(pipeline_id) as (folder, image):
            self._resume(folder, image, on_error=on_error, max_errors=max_errors, verify=verify)
        return self

    def replay(self, pipeline_id: str) -> Self:
        """Like `resume`, and every dead-lettered row is done again, by the same nodes, with the same id.

        Args:
            pipeline_id: the run's id, in `results_dir`.

        Returns:
            The pipeline itself: call `run()` next. Rows that fail again are dead-lettered again.

        Raises:
            StreamCorruptError: when dead letters cannot be read; nothing is changed then.
            DatagenError: as `resume`.
        """
        with self._held(pipeline_id) as (folder, image):
            for entry in image["nodes"]:
                check_letters(StreamFactory.create(entry["output_uri"]))
            self._resume(folder, image)
            for node in self.nodes:
                release_letters(node.output)
            if not all(node.is_finished() for node in self.nodes):
                image["status"] = str(Status.RESUMING)
            folder.save(image)
        return self

    @contextlib.contextmanager
    def _held(self, pipeline_id: str) -> Iterator[tuple[RunFolder, dict[str, Any]]]:
        """Hold the lock of a run, with its image as it is once nobody else can change it."""
        self._refuse_running()
        folder = RunFolder(self.results_dir, pipeline_id)
        folder.load()  # when there is no such run, no folder is made for its lock
        folder.lock()
        try:
            yield folder, folder.load()
        finally:
            folder.unlock()

    def _resume(
        self,
        folder: RunFolder,
        image: dict[str, Any],
        *,
        on_error: OnError | None = None,
        max_errors: int | float | None = None,
        verify: Verify = "tail",
    ) -> None:
        """Check everything, then change what is on the disk: a refusal changes nothing (M22)."""
        check_choice("verify", verify, Verify)
        _change_policy(image, on_error, max_errors)
        _check_operators(image, self._operators(image))
        nodes = self._nodes_of(image)
        if verify == "full":
            for node in nodes:
                node.output.verify()
        _check_nodes(nodes, image)
        for node in nodes:
            node.reopen()
        is_complete = all(node.is_finished() for node in nodes)
        image["status"] = str(Status.COMPLETED if is_complete else Status.RESUMING)
        folder.save(image)
        self._folder, self._image, self.nodes, self._run = folder, image, nodes, None
        self.streaming = bool(image["config"]["streaming"])

    def _refuse_running(self) -> None:
        if self._run is not None and not self._run.is_over():
            raise PipelineBusyError(
                f"this object is still running {self.pipeline_id!r}; wait() for it, or cancel() it and wait(), or use "
                "another object"
            )

    # Running.

    def run(self) -> RunReport:
        """Run to the end. Blocks; in the main thread, the first Ctrl+C cancels and saves (M25).

        Returns:
            The report, when the run is completed or was cancelled.

        Raises:
            NodeFailedError: when a node failed; `__cause__` is the original exception.
            StreamError: when a stream is missing or was changed; before anything runs, or is changed.
            PipelineBusyError: when the same id is running elsewhere.
            PipelineExistsError: when this run has ended; `resume()` it.
            KeyboardInterrupt: after Ctrl+C, when everything is saved.
            SystemExit: with 143 after SIGTERM, when everything is saved.
        """
        return run_in_foreground(self._prepare())

    def start(self) -> pykka.ActorRef[PipelineActor]:
        """Run without blocking.

        Returns:
            The pipeline's actor, for `tell(Cancel(reason))`, `ask(GetStatus(), timeout=…)`, `tell(Subscribe(ref))`.
            It ends with the run; `wait()` gives the report.

        Raises:
            StreamError, PipelineBusyError, PipelineExistsError: as `run()`.
        """
        return self._prepare().start()

    @contextlib.contextmanager
    def running(self) -> Iterator[pykka.ActorRef[PipelineActor]]:
        """Run while a ``with`` block runs, which gets the pipeline's actor; behind the block, wait for the end.

        A block that raises cancels the run first. `wait()` gives the report.

        Raises:
            NodeFailedError: when a node failed, and the block has not raised.
            StreamError, PipelineBusyError, PipelineExistsError: as `run()`.
        """
        with run_during(self._prepare()) as ref:
            yield ref

    async def run_async(self) -> RunReport:
        """Run to the end, as a task of an event loop, which is not blocked. Other threads do the work.

        Cancelling the task cancels the run: when the task has ended, everything is saved. The streams are opened, and
        after a crash recovered, on the loop; so are `create()` and `resume()`.

        Returns:
            The report, when the run is completed or was cancelled by another way.

        Raises:
            NodeFailedError, StreamError, PipelineBusyError, PipelineExistsError: as `run()`.
            CancelledError: when the task was cancelled.
        """
        return await run_beside(self._prepare())

    def wait(self, timeout: float | None = None) -> RunReport | None:
        """Wait for the end of what `start()` began.

        Args:
            timeout: seconds; None waits as long as it takes.

        Returns:
            The report; None when the time is over first.

        Raises:
            NodeFailedError: when a node failed.
            ConfigError: when nothing was started.
        """
        if self._run is None:
            raise ConfigError("nothing was started: call start() first")
        if not self._run.wait(timeout):
            return None
        self._run.raise_failure()
        return self._run.report()

    def cancel(self, reason: str = "") -> None:
        """Begin nothing new, end what was begun, save it (M7). Any thread may call it; returns at once."""
        if self._run is not None:
            self._run.cancel(reason)

    def _prepare(self) -> Run:
        if self._folder is None:
            self._create_default()
        folder = self._folder
        assert folder is not None
        if self._run is not None:
            if not self._run.is_over():
                raise PipelineExistsError(f"run {folder.pipeline_id!r} is running already, started by this object")
            raise PipelineExistsError(
                f"run {folder.pipeline_id!r} has ended ({self.status}); call resume({folder.pipeline_id!r}) to go on"
            )
        with contextlib.ExitStack() as undo:
            folder.lock()
            undo.callback(folder.unlock)
            image = self._catch_up(folder)
            _check_nodes(self.nodes, image)
            plans = []
            for node, entry in zip(self.nodes, image["nodes"], strict=True):
                if not node.follow_input and not node.is_finished():
                    entry["input_fingerprint"] = Fingerprint.of(node.input)
                plans.append(node.plan())  # what was opened must be closed if the next one fails
                undo.callback(plans[-1].close)
            log = open_log(self.log_file)
            undo.pop_all()  # from here on, the run lets go of it all
        self._run = Run(
            plans,
            pipeline_id=folder.pipeline_id,
            streaming=self.streaming,
            folder=folder,
            image=image,
            hooks=self.hooks,
            log=log,
        )
        self._note_run(self._run)
        return self._run

    def _catch_up(self, folder: RunFolder) -> dict[str, Any]:
        """Return the image as it is now: others may have run, resumed or replaced the run since this object read it."""
        image = folder.load()
        if image["updated_at"] != self._image["updated_at"]:
            _check_operators(image, self._operators(image))
            self.nodes, self._image = self._nodes_of(image), image
            self.streaming = bool(image["config"]["streaming"])
        return self._image

    def _note_run(self, run: Run) -> None:
        """Take note of a run that is about to begin."""

    def _create_default(self) -> None:
        raise TypeError

    # Watching.

    @property
    def status(self) -> Status:
        """The status (M8)."""
        return Status(self._image.get("status", Status.PENDING))

    @property
    def progress(self) -> list[NodeReport]:
        """Each node's progress, as last saved to the image."""
        known = NodeReport.__dataclass_fields__
        return [
            NodeReport(**{key: value for key, value in node.items() if key in known})
            for node in self._image.get("nodes", [])
        ]

    def describe(self) -> str:
        """Return the topology as text: a line a node."""
        return draw(self.nodes)


class UnifiedPipeline(BasePipeline):
    """A line of operators, from an input to an output; the streams between them are derived.

    Args:
        operators: what to do, in order: operators, or functions of one item.
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
        id_scheme: how the children of a row are named: "path" or "numeric".
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
        executor: where plain operators are called: "thread", in worker "process"es (for calls that keep a core busy),
            or "auto", which is "thread". Async operators run on an event loop.
        follow_input: whether to wait for more rows until the input is sealed; False takes it as it is.
        idle_timeout: seconds without a new row after which an unsealed input is an error; None waits forever.
        log_file: the platform log, relative to the working directory when the run starts; None for none.

    Raises:
        ConfigError: on a wrong value, naming it.
        UnknownProtocolError: on a URI whose protocol is not known.
    """

    def __init__(
        self,
        operators: Sequence[Any],
        input_uri: str,
        output_uri: str,
        streaming: bool = False,
        parallel_size: int = 1,
        batch_size: int = 1,
        writer_config: WriterConfig | Mapping[str, Any] | None = None,
        base_path: str | os.PathLike[str] = "tmp",
        protocol_prefix: str = "",
        default_protocol: str = "jsonl://",
        results_dir: str | os.PathLike[str] = "tmp/results",
        hooks: IPipelineHooks | None = None,
        id_scheme: IdScheme = "path",
        *,
        ordered: bool = False,
        on_error: OnError = "fail",
        max_errors: int | float | None = None,
        retries: int = 0,
        retry_wait: float = 0.5,
        delivery: DeliveryMode = "exactly_once",
        grace: float = 60.0,
        stall_after: float = 300.0,
        executor: ExecutorKind = "auto",
        follow_input: bool = False,
        idle_timeout: float | None = None,
        log_file: str | os.PathLike[str] | None = DEFAULT_LOG,
    ) -> None:
        super().__init__(streaming=streaming, results_dir=results_dir, hooks=hooks, log_file=log_file)
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
            ordered=ordered,
            on_error=on_error,
            max_errors=max_errors,
            retries=retries,
            retry_wait=retry_wait,
            delivery=delivery,
            grace=grace,
            stall_after=stall_after,
            executor=executor,
            follow_input=follow_input,
            idle_timeout=idle_timeout,
        )

    def create(
        self,
        pipeline_id: str | None = None,
        *,
        node_configs: Sequence[NodeConfig | Mapping[str, Any] | None] | None = None,
        if_exists: IfExists = "error",
        **overrides: Any,
    ) -> Self:
        """Draw the blueprint and write the image (M4).

        Args:
            pipeline_id: the run's id; made up unless given.
            node_configs: what differs from node to node, in their order.
            if_exists: what to do when the id has a run already: "error", "resume", or "overwrite" (its outputs are
                deleted, and what lies where the new run is to write, unless a run of another id made it).
            overrides: any argument of the constructor, in place of what it was given.

        Returns:
            The pipeline itself: call `run()` next.

        Raises:
            ConfigError: on a wrong value, or when adjacent nodes' URIs disagree; nothing was touched then.
            PipelineExistsError: when the id, or an output, is there already.
            PipelineBusyError: when the id is running, or this object is.
        """
        before = dict(vars(self))
        try:
            for name in ("results_dir", "hooks", "log_file"):
                if name in overrides:
                    value = overrides.pop(name)
                    setattr(self, name, os.fspath(value) if name == "results_dir" else value)
            self._settings = self._settings.overridden(overrides)
            self.streaming = self._settings.streaming
            pipeline_id = pipeline_id or new_pipeline_id()
            image = image_of_line(self._settings, node_configs or [], pipeline_id)
            return self._create(pipeline_id, image, if_exists)
        except BaseException:
            vars(self).update(before)  # what was refused leaves no trace
            raise

    def _create_default(self) -> None:
        self.create()

    def _operators(self, image: dict[str, Any]) -> list[Any]:
        return list(self._settings.operators)

    def _nodes_of(self, image: dict[str, Any]) -> list[UnifiedNode]:
        return [
            node_from_image(entry, operator)
            for entry, operator in zip(image["nodes"], self._settings.operators, strict=True)
        ]


class UnifiedNodePipeline(BasePipeline):
    """Nodes that were wired by hand. It wires nothing: it only starts, schedules and records them (M9).

    Args:
        nodes: nodes with streams and operators bound.
        streaming: True runs all nodes at once; False one after the other, each after those that it reads from.
        results_dir: where the images of runs are kept.
        hooks: who watches.
        log_file: the platform log, relative to the working directory when the run starts; None for none.

    Raises:
        ConfigError: when there are no nodes, ids repeat, a stream has two writers, or the nodes form a cycle.
    """

    def __init__(
        self,
        nodes: Sequence[UnifiedNode],
        *,
        streaming: bool = True,
        results_dir: str | os.PathLike[str] = "tmp/results",
        hooks: IPipelineHooks | None = None,
        log_file: str | os.PathLike[str] | None = DEFAULT_LOG,
    ) -> None:
        super().__init__(streaming=streaming, results_dir=results_dir, hooks=hooks, log_file=log_file)
        check_topology(nodes)
        self._given = in_reading_order(nodes)

    def create(self, pipeline_id: str | None = None, *, if_exists: IfExists = "error") -> Self:
        """Write the image.

        Args:
            pipeline_id: the run's id; made up unless given.
            if_exists: what to do when the id has a run already: "error", "resume", or "overwrite" (its outputs are
                deleted, and what lies where the new run is to write, unless a run of another id made it).

        Returns:
            The pipeline itself: call `run()` next.

        Raises:
            PipelineExistsError: when the id, or an output, is there already.
            PipelineBusyError: when the id is running, or this object is.
        """
        image = image_of_nodes(self._given, pipeline_id or "", streaming=self.streaming)
        return self._create(pipeline_id, image, if_exists)

    def _create_default(self) -> None:
        self.create()

    def _note_run(self, run: Run) -> None:
        for node in self._given:
            node.runs_in(run)

    def _operators(self, image: dict[str, Any]) -> list[Any]:
        given = {node.node_id: node.operator for node in self._given}
        known = [entry["node_id"] for entry in image["nodes"]]
        if sorted(given) != sorted(known):
            raise ImageMismatchError(
                f"run {image['pipeline_id']!r} was made with the nodes {known}, and the code has {list(given)}; a "
                "resume needs the same ones"
            )
        return [given[node_id] for node_id in known]

    def _nodes_of(self, image: dict[str, Any]) -> list[UnifiedNode]:
        operators = self._operators(image)
        return [node_from_image(entry, operator) for entry, operator in zip(image["nodes"], operators, strict=True)]


def _check_operators(image: dict[str, Any], operators: list[Any]) -> None:
    names = [operator_name(operator) for operator in operators]
    known = [node["operator"] for node in image["nodes"]]
    if names != known:
        raise ImageMismatchError(
            f"run {image['pipeline_id']!r} was made with the operators {known}, and the code has {names}; a resume "
            "needs the same ones in the same order (an operator that was renamed keeps its identity with "
            "name='the old name')"
        )


def _change_policy(image: dict[str, Any], on_error: OnError | None, max_errors: int | float | None) -> None:
    """Write into an image what becomes of rows that fail from now on.

    Raises:
        ConfigError: on a wrong value, or when only a limit is given, and no node goes on after a row that fails.
    """
    if on_error is None and max_errors is None:
        return
    FailurePolicy(on_error=on_error or "fail", max_errors=max_errors)
    changed = [entry for entry in image["nodes"] if on_error is not None or entry["on_error"] != "fail"]
    if not changed:
        raise ConfigError(
            f"max_errors={max_errors} changes nothing by itself: in this run, the first row that fails ends it "
            "(on_error='fail'); say on_error='skip' or 'dead_letter', too"
        )
    for entry in changed:
        entry.update(on_error=on_error or entry["on_error"], max_errors=max_errors)


def _check_nodes(nodes: Sequence[UnifiedNode], image: Mapping[str, Any]) -> None:
    """See to it that all nodes can go on, before anything is changed (M22)."""
    for node, entry in zip(nodes, image["nodes"], strict=True):
        if not node.follow_input and not node.is_finished():
            Fingerprint.check(node.input, entry.get("input_fingerprint"), node.read_before())
        _check_output_is_there(node, entry)
        node.check()


def _check_output_is_there(node: UnifiedNode, entry: Mapping[str, Any]) -> None:
    """See to it that what the image says was written has not gone, with all that accounted for it (M22)."""
    rows = entry.get("rows_in", 0)
    if rows and isinstance(node.output, FileStream) and not node.output.exists():
        raise StreamMissingError(
            f"{node.output.path} is gone, with its commit log and its seal, though {rows} source rows of "
            f"{node.node_id} were done; restore it, or start afresh with if_exists='overwrite'"
        )


def _is_untouched(image: dict[str, Any], nodes: list[UnifiedNode]) -> bool:
    return image["status"] == Status.PENDING and not any(node.output.exists() for node in nodes)
