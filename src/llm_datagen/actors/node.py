"""The node: its source, its workers, and how it ends. It sees blocks of rows, never a single row."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import pykka

from llm_datagen.actors.dispatcher import Dispatcher, DispatchTimer
from llm_datagen.actors.ended_tasks import EndedTasks
from llm_datagen.actors.error_budget import ErrorBudget
from llm_datagen.actors.executor_factory import make_delivery, make_executor, make_processing
from llm_datagen.actors.executor_start import ExecutorStart
from llm_datagen.actors.hunger import Hunger
from llm_datagen.actors.mailbox import Mailbox
from llm_datagen.actors.metrics import TELL_SECONDS, WorkerMetrics
from llm_datagen.actors.node_context import NodeContext
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.pause import PAUSE_SECONDS, PauseGate
from llm_datagen.actors.stage import Recipient, Stage, refuse_unknown, tell
from llm_datagen.actors.watchdog import StallWatchdog
from llm_datagen.actors.wind_down import GraceOver, WindDown
from llm_datagen.errors import FailureRecord, StopRun, StreamChangedError
from llm_datagen.messages import (
    Batch,
    Cancel,
    Committed,
    Demand,
    Dropped,
    EndOfSource,
    Feed,
    Finish,
    LeadMoved,
    LimitLead,
    NodeMessage,
    PauseCalls,
    Resize,
    Sealed,
    StageOutcome,
    Starving,
    TaskDone,
    TasksDone,
    TellStarving,
    UnpauseCalls,
)
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.runs.past_end import rows_past_end


@dataclass(frozen=True, slots=True)
class _Started:
    """The workers are ready, or `setup` has raised."""

    error: BaseException | None


class _Timer(Enum):
    """Timers of a node."""

    STALL = auto()
    """Time to check whether anything has moved."""
    PAUSE_OVER = auto()
    """Tasks of a node that is paused were waited for long enough."""
    QUIET = auto()
    """Nothing has come for a while: what was not reported yet is."""


class NodeActor(Stage):
    """Hands rows to workers, as many at once as it may, and asks its reader for more in time.

    Args:
        opened: the node.
        pipeline_id: the pipeline's id, for the operator's context.
        supervisor: the supervisor.
        writer: the ref of the writer that takes the results.
        log: the platform log.
    """

    def __init__(
        self, opened: OpenedNode, pipeline_id: str, supervisor: Recipient, writer: pykka.ActorRef[Any], log: PlatformLog
    ) -> None:
        super().__init__("node", opened.node_id, supervisor)
        self._opened = opened
        self._pipeline_id = pipeline_id
        self._supervisor = supervisor
        self._writer = writer
        self._reader: Recipient | None = None
        self._log = log.bind(node_id=opened.node_id)
        self._ctx = NodeContext(
            pipeline_id,
            opened.node_id,
            supervisor,
            log,
            folder=opened.folder,
            results_dir=opened.results_dir,
            state=None if opened.sink is None else opened.sink.state,
            feedback=opened.feedback,
        )
        self._delivery = make_delivery(opened, writer, self.actor_ref, self._ctx)
        position = opened.position
        error_budget = ErrorBudget(opened.policy, done=position.coverage.rows, failed=position.skipped + position.dead)
        processing = make_processing(opened, self._ctx, error_budget.allowance)
        self._pause_gate = PauseGate(processing.gate, self._ctx)
        self._executor = make_executor(opened, processing, self._delivery)
        self._starting = ExecutorStart(self._executor, opened.node_id)
        self._dispatcher = Dispatcher(opened, self._executor, self._delivery, self.mailbox, processing.parent_batches)
        self._backlog, self._in_flight = self._dispatcher.backlog, self._dispatcher.in_flight
        self._wind_down = WindDown(
            self._dispatcher,
            self._ctx,
            self.mailbox,
            grace=opened.grace,
            log=self._log,
            is_on=opened.has_met_target,
        )
        self._ended = EndedTasks(self.node_id, supervisor, self._dispatcher, error_budget, self._wind_down)
        self._hunger = Hunger(opened)
        self._watchdog = StallWatchdog(self.clock, opened.stall_after, pipeline_id, opened.node_id)
        self._metrics = WorkerMetrics(opened.node_id, opened.concurrency, supervisor, self._load)
        self._total: int | None = None
        self._source_size = 0
        self._is_demanding = False
        self._has_given_end = opened.call.finish is None or opened.has_ended

    def begin(self) -> None:
        """Start the workers; the operator's `setup` runs on a thread of its own."""
        self._starting.begin(self._tell_started)
        self._watchdog.moved()
        self._check_stall_later()

    def _tell_started(self, error: BaseException | None) -> None:
        """Tell this actor, from another thread."""
        tell(self.actor_ref, _Started(error))

    def _started(self, error: BaseException | None) -> None:
        self._starting.is_on = False
        self._watchdog.moved()
        if isinstance(error, StopRun):
            self._ended.stop_run(FailureRecord.of(error))
        elif error is not None:
            raise error
        elif self._starting.is_resized:
            self._resize()

    def handle(self, message: NodeMessage | _Started | _Timer | DispatchTimer | GraceOver) -> None:
        """Handle a message."""
        match message:
            case Feed(reader=reader):
                self._reader = reader
            case Batch(block=block):
                self._moved()
                self._is_demanding = False
                self._check_not_ended()
                self._backlog.add(block)
                self._hunger.was_given(block)
            case EndOfSource(total=total, size=size):
                self._is_demanding = False
                self._total, self._source_size = total, size
                self._backlog.close()
            case TaskDone():
                self._take(message)
            case TasksDone(tasks=tasks):
                self._take(*tasks)
            case _Started(error=error):
                self._started(error)
            case DispatchTimer():
                self._dispatcher.on_timer(message)
            case _Timer.STALL:
                self._check_stall()
            case GraceOver():
                self._wind_down.give_up()
            case PauseCalls(paused=paused):
                self._pause(paused)
            case UnpauseCalls():
                self._pause_gate.end()
            case _Timer.PAUSE_OVER:
                self._pause_gate.answer()
            case _Timer.QUIET:
                self._tell_figures()
            case Resize():
                self._resize()
            case Committed(limit=limit):
                if self._opened.feedback is not None:
                    self._opened.feedback.extend(limit)
            case Sealed():
                pass  # what it draws from has ended, and so will its source
            case LimitLead() | LeadMoved() | Starving():
                self._dispatcher.lead_limit.hear(message)
            case TellStarving():
                self._hunger.add(message)
            case Cancel(keep_jobs=keep_jobs):
                self._wind_down.begin(keep_jobs=keep_jobs)
            case _:
                refuse_unknown(message)
        self._advance()

    def drop(self, message: Any) -> None:
        """Answer a pause: a node that has ended makes no calls."""
        if isinstance(message, PauseCalls):
            message.paused.set_result(None)

    def release(self) -> None:
        """Wait for the workers; the operator's `teardown` runs."""
        self._ctx.cancel(keep_jobs=True)
        self._pause_gate.answer()
        self._note_limits()
        self._metrics.tell()
        if self._opened.dispatched is not None:
            self._opened.dispatched.close()
        try:
            self._executor.stop(wait=not self._wind_down.is_given_up)
        except BaseException as error:  # noqa: BLE001 - the rows are done: a failing teardown does not undo them
            self._log.error(events.TEARDOWN_FAILED, error=str(FailureRecord.of(error)))
        self._starting.stop(wait=not self._wind_down.is_given_up)
        self._ctx.usage.tell()
        if not self._wind_down.is_given_up:
            if dropped := self._delivery.close():
                tell(self._writer, Dropped(dropped))
            if self._opened.feedback is not None:
                self._opened.feedback.close()

    def _advance(self) -> None:
        """Do what can be done now: hand out work, ask for more, end."""
        if not self._in_flight:
            self._pause_gate.answer()
        if self._starting.is_on and not self._wind_down.is_given_up:
            return
        if not self._wind_down.is_on and not self._pause_gate.is_on:
            self._dispatcher.hand_out()
        if self._wind_down.is_on:
            if not self._in_flight:
                self.end(StageOutcome.STOPPED)
        elif self._total is not None and not self._in_flight and not self._backlog.rows:
            if self._has_given_end:
                tell(self._writer, Finish(self._total, self._source_size))
                self.end(StageOutcome.FINISHED)
            elif not self._pause_gate.is_on:
                self._in_flight.submit_end((self._total, self._source_size))
        else:
            self._demand()
            self._note_rows()
            if not self._in_flight and self._dispatcher.needs_rows and not self._pause_gate.is_on:
                self._hunger.tell()

    def _note_rows(self) -> None:
        """Let the operator know whether more rows may come before one of those that it has is done."""
        has_all = self._total is not None and not self._backlog.rows
        is_paused = self._pause_gate.is_on
        self._ctx.note_rows(expects=not has_all and (is_paused or self._dispatcher.expects_rows), has_all=has_all)

    def _demand(self) -> None:
        if self._is_demanding or self._total is not None or self._reader is None:
            return
        rows = self._dispatcher.rows_to_demand()
        if rows:
            self._is_demanding = True
            tell(self._reader, Demand(rows))

    def _check_not_ended(self) -> None:
        if self._opened.has_ended:
            raise StreamChangedError(
                rows_past_end(self._opened.source.uri, self._pipeline_id, self._opened.results_dir)
            )

    # Control.

    def _pause(self, paused: Future[None]) -> None:
        self._pause_gate.begin(paused)
        self._dispatcher.take_back()
        self.mailbox.wake_after(PAUSE_SECONDS, _Timer.PAUSE_OVER, key="pause")

    def _resize(self) -> None:
        if self._starting.is_on:
            self._starting.is_resized = True
            return
        self._dispatcher.resize()
        self._metrics.workers = self._opened.concurrency

    # What has happened meanwhile.

    def _take(self, *tasks: TaskDone) -> None:
        for ended in tasks:
            self._dispatcher.ended(ended)
            self._note_limits()
            self._metrics.add(ended, self.clock.monotonic())
            self._has_given_end |= ended.result.is_end
            self._ended.take(ended)
        self._moved()

    def _tell_figures(self) -> None:
        self._metrics.tell_changes()
        self._ctx.usage.tell()

    def _moved(self) -> None:
        self._watchdog.moved()
        self.mailbox.wake_after(TELL_SECONDS, _Timer.QUIET, key="quiet")

    def _load(self) -> tuple[int, int]:
        inbox = self._writer.actor_inbox
        return self._in_flight.rows, inbox.outstanding if isinstance(inbox, Mailbox) else 0

    def _note_limits(self) -> None:
        self._metrics.rate_limited_s = self._dispatcher.rate_limited_s
        self._metrics.lead_limited_s = self._dispatcher.lead_limit.waited

    def _check_stall_later(self) -> None:
        self.mailbox.wake_after(self._opened.stall_after / 4, _Timer.STALL, key="stall")

    def _check_stall(self) -> None:
        """Say once that nothing moves, and once that something does again."""
        if self._pause_gate.is_on or self._ctx.jobs:
            self._watchdog.moved()
        report = self._watchdog.check(self._waits_on(), self._in_flight)
        if report is not None:
            tell(self._supervisor, report)
        self._check_stall_later()

    def _waits_on(self) -> str:
        """Return what a node in which nothing moves waits for; "" when there is nothing to be done."""
        return self._dispatcher.waits_on() or ("upstream" if self._is_demanding else "")
