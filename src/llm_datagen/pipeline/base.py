"""What both kinds of pipelines share: they are resumed, run, waited for, cancelled and watched."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Self

import pykka

from llm_datagen.actors.host import PipelineHost
from llm_datagen.actors.pipeline import PipelineActor
from llm_datagen.actors.stage import Recipient
from llm_datagen.config import IfExists, OnChange, OnError, Verify, checked
from llm_datagen.errors import ConfigError, PipelineBusyError, PipelineExistsError
from llm_datagen.messages import Resume
from llm_datagen.messages import Run as RunMessage
from llm_datagen.operators.import_path import refuse_lookup
from llm_datagen.pipeline.blueprint import Blueprint, nodes_of
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.node_entries import UNKNOWN_ID
from llm_datagen.pipeline.opening import open_nodes
from llm_datagen.pipeline.progress import Progress, check_progress, node_views, shown
from llm_datagen.pipeline.rerun import finish
from llm_datagen.pipeline.resume_checks import check_operators
from llm_datagen.pipeline.run import Run, run_in_foreground
from llm_datagen.pipeline.runners import run_beside, run_during
from llm_datagen.pipeline.settings import NodePipelineOptions
from llm_datagen.pipeline.stored import RunLifecycle, StoredRun
from llm_datagen.runs import RunFolder
from llm_datagen.runs.diagram import DiagramFormat, draw
from llm_datagen.runs.hooks import IPipelineHooks
from llm_datagen.runs.logs.writer import LogTarget, open_log
from llm_datagen.runs.status import NodeReport, PipelineStatus, RunReport, Status


class BasePipeline:
    """A pipeline that can be run: from the run state to the report.

    Args:
        blueprint: what the code says of it.
        settings: `results_dir`, `hooks` and `log_file`.
    """

    def __init__(self, blueprint: Blueprint, settings: Mapping[str, Any]) -> None:
        self.results_dir: str = settings["results_dir"]
        self.hooks: IPipelineHooks | None = settings["hooks"]
        self.log_file: LogTarget = settings["log_file"]
        self.streaming = blueprint.streaming  # of a run, as its run state says
        self._code = blueprint
        self._stored: StoredRun | None = None
        self._is_default = False  # whether the run was created by run() or start() itself
        self._run: Run | None = None

    @property
    def pipeline_id(self) -> str:
        """The id; empty before `create()` or `resume()`."""
        return self._stored.folder.pipeline_id if self._stored else ""

    @property
    def nodes(self) -> list[UnifiedNode]:
        """The nodes; none before `create()` or `resume()`."""
        return self._stored.nodes if self._stored else []

    def _lifecycle(self) -> RunLifecycle:
        self._refuse_running()
        return RunLifecycle(self._code, self.results_dir, self.log_file)

    def _refuse_running(self) -> None:
        if self._run is not None and not self._run.is_over():
            raise PipelineBusyError(
                f"this object is still running {self.pipeline_id!r}; wait() for it, or cancel() it and wait(), or use "
                "another object"
            )

    def _take(self, stored: StoredRun) -> None:
        """Be the pipeline of a run that is ready."""
        self._stored, self._run, self._is_default = stored, None, False
        self.streaming = bool(stored.state["config"]["streaming"])

    def _create(
        self,
        blueprint: Blueprint,
        overrides: Mapping[str, Any],
        pipeline_id: str | None,
        if_exists: IfExists,
        on_change: OnChange,
    ) -> None:
        """Create a run; only then is the pipeline what `create()` was told."""
        changed = {name: overrides.get(name, getattr(self, name)) for name in ("results_dir", "hooks", "log_file")}
        settings: dict[str, Any] = {**checked(NodePipelineOptions, changed, "create()")}
        self._refuse_running()
        lifecycle = RunLifecycle(blueprint, settings["results_dir"], settings["log_file"])
        stored = lifecycle.create(pipeline_id, if_exists, on_change)
        self.results_dir, self.hooks, self.log_file = (settings[name] for name in changed)
        self._code = blueprint
        self._take(stored)

    # Going on.

    def resume(
        self,
        pipeline_id: str,
        *,
        on_error: OnError | None = None,
        max_errors: int | float | None = None,
        verify: Verify = "tail",
        on_change: OnChange = "refuse",
        parallel_size: int | None = None,
        rate: float | None = None,
    ) -> Self:
        """Load the run state and make it ready to go on where it stopped, whatever stopped it (M6).

        Paths, settings and ids come from the run state; only the operators come from the code. When the code gives
        other paths, or other settings, those of the run state are used, and a `ResumeWarning`, the hooks' `on_log` and
        the platform log say so. Nothing is said of a setting that the code does not give.

        Args:
            pipeline_id: the run's id, in `results_dir`.
            on_error: what becomes of rows that fail from now on, in all nodes; None leaves it as it is. A run that a
                bad row has ended goes on with "dead_letter".
            max_errors: how many rows may fail, in each node, with those that have; None, together with `on_error`: any
                number. Alone, it changes the nodes that go on after a row that failed.
            verify: "tail" compares what the last flush of each stream added with its checksum (and the whole of streams
                up to 64 MiB); "full" compares every byte that the run has written.
            on_change: what becomes of rows of operators that were edited since (their code, their prompt, their
                settings; see `BaseOperator.fingerprint`), and when steps were added, removed or moved: "refuse";
                "accept", what is done stays and the rest is done by the operators as they are now; "rerun", the nodes
                that differ, or keep rows of an edit that was accepted before, and all behind them are done again: their
                outputs are deleted, what is before them stays.
            parallel_size: batches in the operator of each node at once, from now on; None leaves it as it is.
            rate: rows that each node may hand to its operator in a second, from now on; 0 takes the limit off.

        Returns:
            The pipeline itself: call `run()` next.

        Raises:
            ConfigError: on a wrong value; on `max_errors` alone, when any row that fails ends the run, in all nodes; on
                "accept" or "rerun", when the code gives no operators: those of the run state know of no edit.
            PipelineNotFoundError: when there is no such run.
            RunStateError: when its run state cannot be read.
            OperatorChangedError: when operators, or the steps, are not those of the run state, and `on_change` does
                not say what is meant; it names what changed. An OperatorMismatchError.
            PipelineBusyError: when it is running, or this object is.
            StreamError: when its files were changed meanwhile; nothing is changed then.

        Warns:
            OperatorWarning: when the run state does not say whether operators were edited.
        """
        settings: dict[str, Any] = {"on_error": on_error, "max_errors": max_errors, "verify": verify}
        pace: dict[str, Any] = {"parallel_size": parallel_size, "rate": rate}
        self._take(self._lifecycle().resume(pipeline_id, on_change=on_change, **settings, **pace))
        return self

    def replay(self, pipeline_id: str, *, on_change: OnChange = "refuse") -> Self:
        """Like `resume`, and every dead-lettered row is done again, by the same nodes, with the same id.

        Args:
            pipeline_id: the run's id, in `results_dir`.
            on_change: what becomes of rows of operators that were edited since; see `resume`.

        Returns:
            The pipeline itself: call `run()` next. Rows that fail again are dead-lettered again.

        Raises:
            StreamCorruptError: when dead letters cannot be read; nothing is changed then.
            DatagenError: as `resume`.
        """
        self._take(self._lifecycle().replay(pipeline_id, on_change=on_change))
        return self

    # Running.

    def run(self, *, progress: Progress = "auto") -> RunReport:
        """Run to the end. Blocks; in the main thread, the first Ctrl+C cancels and saves (M25).

        Args:
            progress: whether a table shows how far the nodes are: ``"auto"``: in a notebook, and at a terminal (on
                standard error), if rich is installed; True: also elsewhere, as lines on standard error; False: never.

        Returns:
            The report, when the run is completed or was cancelled.

        Raises:
            NodeFailedError: when a node failed; `__cause__` is the original exception.
            StreamError: when a stream is missing or was changed; before anything runs, or is changed.
            PipelineBusyError: when the same id is running elsewhere.
            PipelineExistsError: when this run has ended; `resume()` it.
            KeyboardInterrupt: after Ctrl+C, when everything is saved.
            SystemExit: with 143 after SIGTERM, when everything is saved.
            ConfigError: when `progress` cannot be what was given.
        """
        check_progress(progress)
        self._ready()
        with shown(progress, self.hooks, lambda: node_views(self.nodes, self.progress), lambda: self.status) as hooks:
            return run_in_foreground(self._prepare(hooks))

    def start(self) -> pykka.ActorRef[PipelineActor]:
        """Run without blocking.

        Returns:
            The pipeline's actor, for `tell(Cancel(reason))`, `ask(GetStatus(), timeout=…)`, `tell(Subscribe(ref))`.
            It ends with the run; `wait()` gives the report.

        Raises:
            StreamError, PipelineBusyError, PipelineExistsError: as `run()`.
        """
        return self._prepare().start()

    def actor(self) -> pykka.ActorRef[PipelineHost]:
        """Start an actor that has this pipeline, and runs it when it is told so, again and again.

        Returns:
            Its ref: ``ask(Run())`` begins, ``ask(Resume(pipeline_id))`` goes on with a run that has stopped, of this
            process or of another one, and everything that the ref of `start()` understands goes to the run that is
            under way. It lives until it is stopped (``ref.stop()``), which cancels that run and waits until it is
            saved. Meanwhile, leave `run()`, `start()` and `resume()` of this object alone; `wait()` may be called.
            Asked, both orders answer with a `PipelineStatus` when the run has begun, or raise `PipelineBusyError` while
            another one is under way, else what `run()` and `resume()` raise before a run begins.
        """
        status = PipelineStatus(pipeline_id=self.pipeline_id, status=self.status, nodes=tuple(self.progress))
        return PipelineHost.start(status, self._launch)

    def _launch(self, order: RunMessage | Resume, host: Recipient) -> Run:
        """Do what `order` says, on a thread of its own; the run tells `host` how it goes."""
        if self._run is not None:
            self._run.wait()  # it has ended, and perhaps not let go of everything yet
        if isinstance(order, Resume):
            self.resume(order.pipeline_id, on_change=order.on_change)
        run = self._prepare()
        run.start(host)
        return run

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

    def wait(self, timeout: float | None = None) -> RunReport:
        """Wait for the end of what `start()` began.

        Args:
            timeout: seconds; None waits as long as it takes.

        Returns:
            The report.

        Raises:
            TimeoutError: when the run still goes on after `timeout` seconds. It is not cancelled.
            NodeFailedError: when a node failed.
            ConfigError: when nothing was started.
        """
        if self._run is None:
            raise ConfigError("nothing was started: call start() first")
        if not self._run.wait(timeout):
            raise TimeoutError(
                f"run {self.pipeline_id!r} still goes on after {timeout:g} s; wait again, or cancel() it"
            )
        self._run.raise_failure()
        return self._run.report()

    def cancel(self, reason: str = "") -> None:
        """Begin nothing new, end what was begun, save it (M7). Any thread may call it; returns at once."""
        if self._run is not None:
            self._run.cancel(reason)

    def _prepare(self, hooks: IPipelineHooks | None = None) -> Run:
        """Open everything; `hooks` are those of this run, if they are others than the pipeline's."""
        stored = self._ready()
        folder = stored.folder
        if self._run is not None:
            if not self._run.is_over():
                raise PipelineBusyError(f"run {folder.pipeline_id!r} is running already, started by this object")
            raise PipelineExistsError(
                f"run {folder.pipeline_id!r} has ended ({self.status}); call resume({folder.pipeline_id!r}) to go on"
            )
        with contextlib.ExitStack() as undo:
            if self._is_default:
                undo.callback(self._forget, folder)
            folder.lock.acquire()
            undo.callback(folder.lock.release)
            stored = self._catch_up(stored)
            plans = open_nodes(stored, self.log_file, undo)
            log = open_log(self.log_file)
            undo.pop_all()  # from here on, the run lets go of it all
            self._is_default = False
        self._run = Run(
            plans,
            pipeline_id=folder.pipeline_id,
            streaming=self.streaming,
            folder=folder,
            run_state=stored.state,
            hooks=hooks or self.hooks,
            log=log,
            notes=stored.notes,
        )
        self._code.note_run(self._run)
        return self._run

    def _catch_up(self, stored: StoredRun) -> StoredRun:
        """Return the run as it is now: others may have run, resumed or replaced it meanwhile."""
        run_state = finish(stored.folder, stored.folder.load())
        if run_state["updated_at"] != stored.state["updated_at"]:
            check_operators(run_state, self._code.operators(run_state))
            self._stored = stored = replace(stored, state=run_state, nodes=nodes_of(self._code, run_state))
            self.streaming = bool(run_state["config"]["streaming"])
        return stored

    def _ready(self) -> StoredRun:
        """Return the run; without one, create it under an id that is made up."""
        refuse_lookup("run()")
        if self._stored is None:
            self._create(self._code, {}, None, "error", "refuse")
            self._is_default = True
        assert self._stored is not None
        return self._stored

    def _forget(self, folder: RunFolder) -> None:
        """Leave nothing of a run that nobody asked for by its id, and that could not begin."""
        folder.forget()
        folder.remove_if_unused()
        self._stored, self._is_default = None, False

    # Watching.

    @property
    def _state(self) -> dict[str, Any]:
        return self._stored.state if self._stored else {}

    @property
    def status(self) -> Status:
        """The status (M8)."""
        return Status(self._state.get("status", Status.PENDING))

    @property
    def progress(self) -> list[NodeReport]:
        """Each node's progress, as last saved to the run state."""
        known = NodeReport.__dataclass_fields__
        return [
            NodeReport(**{key: value for key, value in node.items() if key in known})
            for node in self._state.get("nodes", [])
        ]

    def describe(self, format: DiagramFormat = "text") -> str:
        """Return a drawing of the topology: each stream once, and the nodes between them. Opens and changes nothing.

        Args:
            format: "text", or "mermaid": a flowchart in the language of Mermaid.

        Raises:
            ConfigError: when `format` is another one.
        """
        return draw(self._state or self._code.run_state(UNKNOWN_ID), format)

    def blueprint(self) -> tuple[dict[str, Any], list[Any]]:
        """Return the nodes as a run state has them, and their operators. Opens and changes nothing.

        Raises:
            OperatorMismatchError: when the operators are not those of the run that was created or resumed.
        """
        run_state = self._state or self._code.run_state(UNKNOWN_ID)
        return run_state, self._code.operators(run_state)
