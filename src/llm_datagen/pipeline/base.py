"""What both kinds of pipelines share while they run: they are run, waited for, and cancelled."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pykka

from llm_datagen.actors.pipeline import PipelineActor
from llm_datagen.actors.stage import Recipient
from llm_datagen.errors import ConfigError, PipelineBusyError, PipelineExistsError
from llm_datagen.messages import Resume
from llm_datagen.messages import Run as RunMessage
from llm_datagen.operators.import_path import refuse_lookup
from llm_datagen.pipeline.blueprint import nodes_of
from llm_datagen.pipeline.opening import open_nodes
from llm_datagen.pipeline.progress import Progress, check_progress, node_views, shown
from llm_datagen.pipeline.rerun import finish
from llm_datagen.pipeline.resume_checks import check_operators
from llm_datagen.pipeline.run import Run
from llm_datagen.pipeline.runners import run_beside, run_during, run_in_foreground
from llm_datagen.pipeline.stored import StoredRun
from llm_datagen.pipeline.stored_pipeline import StoredPipeline
from llm_datagen.runs import RunFolder
from llm_datagen.runs.display.node_view import NodeView
from llm_datagen.runs.hooks import IPipelineHooks
from llm_datagen.runs.logs.writer import open_log
from llm_datagen.runs.page_process import check_page, start_page
from llm_datagen.runs.run_report import RunReport
from llm_datagen.runs.status import PipelineStatus

if TYPE_CHECKING:
    from llm_datagen.actors.host import PipelineHost


class BasePipeline(StoredPipeline):
    """A pipeline that can be run: from the run state to the report."""

    def run(self, *, progress: Progress = "auto", ui: bool = False) -> RunReport:
        """Run to the end. Blocks; in the main thread, the first Ctrl+C cancels and saves (M25).

        Args:
            progress: whether a table shows how far the nodes are: ``"auto"``: in a notebook, and at a terminal (on
                standard error), if rich is installed; True: also elsewhere, as lines on standard error; False: never.
            ui: whether a page in a browser shows the run, too: a process of its own serves it, whose address is printed
                on standard error. It ends half a minute after the run has, and nobody looks at it. Needs the extra
                ``web``.

        Returns:
            The report, when the run is completed or was cancelled.

        Raises:
            NodeFailedError: when a node failed; `__cause__` is the original exception.
            StreamError: when a stream is missing or was changed; before anything runs, or is changed.
            PipelineBusyError: when the same id is running elsewhere.
            PipelineExistsError: when this run has ended; `resume()` it.
            KeyboardInterrupt: after Ctrl+C, when everything is saved.
            SystemExit: with 143 after SIGTERM, when everything is saved.
            ConfigError: when `progress` cannot be what was given, or the page cannot be started.
        """
        check_progress(progress)
        if ui:
            check_page()
        folder = self._ready().folder
        if ui:
            print(f"page: {start_page(folder)}", file=sys.stderr, flush=True)
        with shown(progress, self.hooks, self.node_views, lambda: self.status) as hooks:
            return run_in_foreground(self._prepare(hooks))

    def node_views(self) -> list[NodeView]:
        """Return the nodes as a display shows them before a run."""
        return node_views(self.nodes, self.progress)

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
        from llm_datagen.actors.host import PipelineHost

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
            self._run.cancel(reason, keep_jobs=False)

    def _prepare(self, hooks: IPipelineHooks | None = None) -> Run:
        """Open everything; `hooks` are those of this run, if they are others than the pipeline's."""
        stored = self._ready()
        self._refuse_again()
        folder = stored.folder
        with contextlib.ExitStack() as undo:
            if self._is_default:
                undo.callback(self._forget, folder)
            folder.lock.acquire()
            undo.callback(folder.lock.release)
            stored = self._catch_up(stored)
            folder.begin(stored.state)
            opened = open_nodes(stored, self.log_file, undo)
            log = open_log(self.log_file)
            undo.pop_all()  # from here on, the run lets go of it all
            self._is_default = False
        self._run = Run(
            opened,
            pipeline_id=folder.pipeline_id,
            streaming=self.streaming,
            folder=folder,
            run_state=stored.state,
            hooks=hooks or self.hooks,
            log=log,
            notes=stored.notes,
        )
        self._code.note_run(self.pipeline_id, self._run)
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

    def _refuse_again(self) -> None:
        """Refuse to run once more: each run is created or resumed.

        Raises:
            PipelineBusyError: when it is running.
            PipelineExistsError: when it has ended.
        """
        if self._run is None:
            return
        if not self._run.is_over():
            raise PipelineBusyError(f"run {self.pipeline_id!r} is running already, started by this object")
        raise PipelineExistsError(
            f"run {self.pipeline_id!r} has ended ({self.status}); call resume({self.pipeline_id!r}) to go on"
        )

    def _forget(self, folder: RunFolder) -> None:
        """Leave nothing of a run that nobody asked for by its id, and that could not begin."""
        folder.forget()
        folder.remove_if_unused()
        self._stored, self._is_default = None, False
