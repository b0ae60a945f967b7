"""A run: opened nodes become actors, actors become a report. What the runs of all classes share."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pykka

from llm_datagen.actors.control_server import ControlServer
from llm_datagen.actors.hook_dispatcher import HookDispatcher
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.pipeline import PipelineActor
from llm_datagen.actors.stage import Recipient, join, tell
from llm_datagen.actors.subscribers import Subscribers
from llm_datagen.actors.supervisor import SupervisorActor
from llm_datagen.errors import FailureRecord, LeaseLostError, NodeFailedError
from llm_datagen.errors.advice import advice
from llm_datagen.messages import Cancel, OperatorLogged, Settled
from llm_datagen.messages import Run as RunMessage
from llm_datagen.operators.fingerprint import fingerprint_of, note_changes
from llm_datagen.pipeline.left_jobs import LeftJobs
from llm_datagen.pipeline.spool import print_output, prints_output
from llm_datagen.pipeline.warnings import OutageWarnings, OwnStateWarnings
from llm_datagen.runs import RunFolder
from llm_datagen.runs.export_entries import KEY as EXPORTS
from llm_datagen.runs.exports import make_exports, unfit_rows
from llm_datagen.runs.hooks import IPipelineHooks, shows_warnings
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.runs.output_node import outputs_to_name
from llm_datagen.runs.results_dir import working_directory
from llm_datagen.runs.run_report import RunReport
from llm_datagen.runs.software import software
from llm_datagen.runs.status import ENDED, NodeReport, PipelineStatus, Status
from llm_datagen.runs.usage import JOBS_UNCOUNTED
from llm_datagen.streams.storage.owner import now_text, whoami

if TYPE_CHECKING:
    from llm_datagen.runs.output_rows import RunOutput

LAST_WAIT_SECONDS = 60.0
"""How long the end of a run waits for the thread of an actor that was stopped from outside."""

SLICE_SECONDS = 0.2
"""How long a thread waits without a look at signals."""


@dataclass(frozen=True, slots=True)
class StartNotice:
    """Something that is told of a node when the run begins: in the log, and to the hooks.

    Attributes:
        node_id: the node.
        text: what is told.
        parts: the parts of its operator that changed; None when it is about something that is given and not used: a
            path, a setting, or an `on_change`.
    """

    node_id: str
    text: str
    parts: Sequence[str] | None = None


class Run:
    """One execution of some nodes.

    Args:
        opened: the nodes, their streams open.
        pipeline_id: the id, or an empty string.
        streaming: whether all nodes run at once.
        folder: where the run state is kept, locked by the caller; unlocked at the end. None: no run state.
        run_state: the run state.
        hooks: who watches.
        log: the platform log; closed at the end.
        notes: what is to be told of nodes first, in the log and to the hooks.
    """

    def __init__(
        self,
        opened: list[OpenedNode],
        *,
        pipeline_id: str,
        streaming: bool,
        folder: RunFolder | None,
        run_state: dict[str, Any],
        hooks: IPipelineHooks | None,
        log: PlatformLog,
        notes: Sequence[StartNotice] = (),
    ) -> None:
        self._opened = opened
        self._notes = notes
        self._pipeline_id = pipeline_id
        self._streaming = streaming
        self._folder = folder
        self._run_state = run_state
        self._home = working_directory()  # the program may change it
        log = log.bind(run=secrets.token_hex(4))  # of all lines in the log, those of this run
        self._log = log.bind(pipeline_id=pipeline_id) if pipeline_id else log
        self._watcher = hooks
        self._hooks: HookDispatcher | None = None
        self._state = OwnStateWarnings()
        self._subscribers = Subscribers()
        self._refs: list[pykka.ActorRef[Any]] = []
        self._settled: Future[Settled] = Future()
        self._fingerprints = {node.node_id: fingerprint_of(node.operator) for node in opened}
        self._started = time.monotonic()
        self._seconds = 0.0
        self._ref: pykka.ActorRef[PipelineActor] | None = None
        self._control: ControlServer | None = None
        self._cancelled: Cancel | None = None
        self._left_jobs = None if folder is None else LeftJobs(opened, folder, run_state, self._tell_of_job)
        self._status = PipelineStatus(
            pipeline_id=pipeline_id,
            status=Status.PENDING,
            nodes=tuple(NodeReport(node_id=node.node_id) for node in opened),
        )

    def start(self, host: Recipient | None = None, *, warns: bool = True) -> pykka.ActorRef[PipelineActor]:
        """Start the actors; returns at once. When that fails, the run has ended: failed, with nothing left open.

        Args:
            host: who hears of every status and event, if anybody.
            warns: whether the program is warned of outages, unless hooks show them.
        """
        try:
            return self._start(host, warns=warns and not shows_warnings(self._watcher))
        except BaseException as error:
            if self._ref is None:
                self.abandon(error)
            else:  # the actor lives: it cleans up itself, and only once
                self._ref.stop(block=False)
                join(self._ref, LAST_WAIT_SECONDS)
            raise

    def abandon(self, error: BaseException) -> None:
        """End a run that was never started, as failed of `error`: what the caller has opened is closed."""
        failure = FailureRecord.of(error)
        self._run_state.update(error=str(failure), ended_at=now_text())
        try:
            self._clean_up()
        except BaseException as second:  # noqa: BLE001 - what comes after the first failure never replaces it (F1)
            error.add_note(f"then cleaning up failed, too: {FailureRecord.of(second)}")
        status = replace(self._status, status=Status.FAILED, error=str(failure))
        self._settled.set_result(Settled(status, "", failure, error))

    def _start(self, host: Recipient | None, *, warns: bool) -> pykka.ActorRef[PipelineActor]:
        self._run_state.update(
            started_at=now_text(), ended_at=None, error=None, failed_row=None, paused=False, **whoami()
        )
        self._run_state.update(log_file=self._log.path, software=software())
        self._run_state.pop(JOBS_UNCOUNTED, None)
        nodes = [node.node_id for node in self._opened]
        self._log.info(events.RUN_STARTED, streaming=self._streaming, nodes=nodes, pid=os.getpid())
        self._subscribers.add(self._state, (OperatorLogged,))
        if self._watcher is not None:
            self._hooks = HookDispatcher(self._watcher, self._pipeline_id, self._log)
            self._hooks.prepare(self._folder.results_dir if self._folder else "", self._run_state)
            self._subscribers.add(self._hooks)
        if host is not None:
            self._subscribers.add(host)
        if self._folder is not None:
            self._control = ControlServer.open(self._folder, lambda: self._ref)
            if self._control is None:
                self._log.warning(events.NO_CONTROL)
        config = self._run_state.get("config", {})
        self._ref = PipelineActor.start(
            self._status,
            config,
            self._start_supervisor,
            self._subscribers,
            self._settled,
            self._clean_up,
            OutageWarnings(host) if warns else host,
        )
        tell(self._ref, RunMessage())
        for note in self._notes:
            if note.parts is None:
                self._log.warning(events.NOT_USED, node_id=note.node_id, message=note.text)
            else:
                parts = list(note.parts)
                self._log.warning(events.OPERATOR_CHANGED, node_id=note.node_id, parts=parts, message=note.text)
            tell(self._ref, OperatorLogged(self._pipeline_id, note.node_id, "warning", note.text))
        if self._cancelled is not None:  # it came before there was anybody to hear it
            tell(self._ref, self._cancelled)
        return self._ref

    def _start_supervisor(self, pipeline: Recipient) -> pykka.ActorRef[SupervisorActor]:
        supervisor = SupervisorActor.start(
            self._opened,
            pipeline_id=self._pipeline_id,
            streaming=self._streaming,
            folder=self._folder,
            saved_state=self._run_state,
            pipeline=pipeline,
            refs=self._refs,
            log=self._log,
            at_end=self._end_work if self._has_end_work() else None,
        )
        self._refs.append(supervisor)
        return supervisor

    def _has_end_work(self) -> bool:
        """Return whether something may be left to do when all nodes are completed."""
        has_jobs = self._left_jobs is not None and self._left_jobs.may_be()
        return has_jobs or bool(self._run_state.get(EXPORTS)) or prints_output(self._run_state)

    def _end_work(self, stopped: Callable[[], bool]) -> Sequence[str]:
        """Do what comes when all nodes are completed, and log what is to be told of it."""
        if self._left_jobs is not None:
            self._left_jobs.settle(stopped)
        notes = self._finish(stopped)
        for note in notes:
            self._log.warning(events.UNFIT_ROWS, message=note)
        return notes

    def _finish(self, stopped: Callable[[], bool]) -> Sequence[str]:
        """Make the exports, then write the rows to standard output, if that is what the run has to do."""
        notes = make_exports(self._run_state, stopped)
        print_output(self._run_state, stopped)
        return notes

    def _tell_of_job(self, node_id: str, message: str, level: str = "warning", **fields: Any) -> None:
        write = self._log.warning if level == "warning" else self._log.info
        write(events.OPERATOR_LOG, message=message, node_id=node_id, **fields)
        tell(self._ref, OperatorLogged(self._pipeline_id, node_id, level, message))

    def cancel(self, reason: str = "", *, keep_jobs: bool) -> None:
        """Cancel. Any thread may call it, also before the start and after the end.

        Args:
            reason: why.
            keep_jobs: whether jobs at batch APIs go on, for a resume to collect.
        """
        self._cancelled = Cancel(reason, keep_jobs)
        tell(self._ref, self._cancelled)

    @property
    def ref(self) -> pykka.ActorRef[PipelineActor] | None:
        """The pipeline's actor."""
        return self._ref

    def is_over(self) -> bool:
        """Return whether the run has ended."""
        return self._settled.done()

    def when_over(self, call: Callable[[], None]) -> None:
        """Have `call` called when the run has ended, in the thread that ends it; at once when it has already."""
        self._settled.add_done_callback(lambda _: call())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, at most `timeout` seconds, until the run has ended; return whether it has."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            # Short slices, so that signals are handled while the main thread waits (H19).
            left = SLICE_SECONDS if deadline is None else min(SLICE_SECONDS, max(0.0, deadline - time.monotonic()))
            with contextlib.suppress(TimeoutError):
                self._settled.result(left)
            if self._settled.done():
                if self._ref is not None:
                    join(self._ref, LAST_WAIT_SECONDS)
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def report(self) -> RunReport:
        """Return the report of a run that has ended, however it did."""
        status = self._settled.result(0).status
        return RunReport(
            pipeline_id=status.pipeline_id,
            status=status.status,
            nodes=status.nodes,
            reason=status.reason,
            error=status.error,
            failed_row=status.failed_row,
            seconds=round(self._seconds, 3),
            own_state=self._state.parts,
            output=self._output(),
            outputs=outputs_to_name(self._run_state),
            unfit=unfit_rows(self._run_state),
            uncounted=str(self._run_state.get(JOBS_UNCOUNTED) or ""),
        )

    def _output(self) -> RunOutput | None:
        """Return what the run has written; None of nodes without a run state."""
        from llm_datagen.runs.output_rows import RunOutput

        return None if self._folder is None else RunOutput(self._run_state, self._folder, self._home)

    def saved(self) -> str:
        """Return what somebody who has interrupted the run reads."""
        how = f": resume({self._pipeline_id!r}) goes on" if self._folder else ", and can be gone on with"
        return f"the run was interrupted, and everything finished is saved{how}"

    def raise_failure(self) -> None:
        """Raise what the run failed of, if it did; warn of operators that have state of their own.

        Raises:
            NodeFailedError: from the original exception.
        """
        settled = self._settled.result(0)
        if settled.failure is None:
            self._state.warn()
        else:
            what = f"node {settled.node_id}" if settled.node_id else "the run"
            row = settled.status.failed_row
            at = f"; at {row}" if row else ""
            hint = advice(f"; mend the cause, then resume({self._pipeline_id!r})", "") if self._folder else ""
            message = f"{what} failed: {settled.failure}{at}{hint}"
            failed = NodeFailedError(message, settled.node_id, row)
            try:
                self._state.warn()
            except Warning as warning:  # whoever makes errors of warnings hears first of what went wrong
                failed.add_note(str(warning))
            raise failed from settled.error

    def _clean_up(self) -> None:
        """Leave nothing behind (F2). In the pipeline actor's thread, when all has ended."""
        with contextlib.ExitStack() as last_first:  # each step is taken, whatever becomes of the others
            last_first.callback(self._log.close)
            last_first.callback(self._note_end)
            if self._folder is not None:
                last_first.callback(self._folder.lock.release)
                last_first.callback(self._settle_run_state, self._folder)
            if self._hooks is not None:
                last_first.callback(self._hooks.close)
            is_over = [join(ref, LAST_WAIT_SECONDS) for ref in self._refs]
            if all(is_over):  # else a writer still runs, and closes its stream itself
                for node in self._opened:
                    last_first.callback(node.close)
            if self._control is not None:
                last_first.callback(self._control.close)
            for node in self._opened:
                last_first.callback(note_changes, node.operator, self._fingerprints[node.node_id])

    def _settle_run_state(self, folder: RunFolder) -> None:
        if self._run_state["status"] not in ENDED:
            self._run_state["status"] = str(Status.FAILED)  # the supervisor did not live to say so
            with contextlib.suppress(LeaseLostError):  # that is what it died of; the run is another process's
                folder.save(self._run_state)

    def _note_end(self) -> None:
        self._seconds = time.monotonic() - self._started
        self._log.info(events.RUN_ENDED, seconds=round(self._seconds, 3))
