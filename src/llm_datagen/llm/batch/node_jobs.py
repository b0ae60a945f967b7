"""The jobs of one node, at all of its endpoints: their job log, and who looks after them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from llm_datagen.errors import FatalError, StopRun
from llm_datagen.llm.batch.job_log import JobLog
from llm_datagen.llm.batch.log_thread import LogThread
from llm_datagen.llm.batch.options import Batch
from llm_datagen.llm.batch.records import StoredJob, StoredRow
from llm_datagen.llm.batch.rows import GivenRows
from llm_datagen.llm.errors import BatchError, LLMCancelledError
from llm_datagen.llm.run_commands import run_command
from llm_datagen.llm.types import ChatRequest
from llm_datagen.operators.protocols import IJobContext, INodeContext, IOutageContext
from llm_datagen.runs.batch_jobs import DETACH_VARIABLE, BatchState, job_log_path
from llm_datagen.runs.outage import OutageReport
from llm_datagen.runs.usage import COST, PICO
from llm_datagen.runs.words import jobs_in_words

T = TypeVar("T")

TICK_SECONDS = 0.1
"""How often it is looked whether a job is to be sent, and whether the run is cancelled."""
QUIET_SECONDS = 0.5
"""Seconds without a further row after which none is waited for, when the node says that none can come."""
FOREIGN_SECONDS = 5.0
"""The same, after which a job that nobody has asked about belongs to rows that are not asked any more."""


class JobsAtEndpoint(Protocol):
    """The jobs of a node at one endpoint."""

    label: str

    def go_on(self, jobs: list[StoredJob]) -> None:
        """Go on with jobs of an earlier process."""

    def send_if_due(self) -> None:
        """Send the job that is being filled, if it is time."""

    def give_up(self) -> None:
        """Cancel all jobs."""

    @property
    def has_foreign(self) -> bool:
        """Whether no call asks for any row of some job, and it is not cancelled yet."""

    def give_up_foreign(self) -> None:
        """Cancel jobs of which no call asks for any row, though all rows have asked."""

    def fail_waiting(self, error: BaseException) -> None:
        """Let every call fail that waits for a job here."""

    @property
    def open_jobs(self) -> int:
        """Jobs of which answers may still come."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""

    @property
    def is_all_out(self) -> bool:
        """Whether no job is being filled, sent or collected."""


class NodeJobs:
    """The jobs of one node. Used on the event loop of the node.

    Args:
        batch: how rows are sent.
        clock: returns monotonic seconds.

    Attributes:
        job_log: what is known of the jobs, once it is open.
        request: a call of the node, for its context.
        touched: when the last row came, or was answered.
        rows: calls that wait for the answer of a job.
        given: rows whose answer a call has got: if it is made again, it is a new one.
    """

    def __init__(self, batch: Batch, clock: Callable[[], float] = time.monotonic) -> None:
        self.batch = batch
        self.clock = clock
        self._detaches = batch.detach or bool(os.environ.get(DETACH_VARIABLE))
        self.job_log: JobLog
        self.request: ChatRequest
        self.touched = clock()
        self.rows = 0
        self.given = GivenRows()
        self.endpoints: list[JobsAtEndpoint] = []
        self._ctx: INodeContext | None = None
        self._opening = asyncio.Lock()
        self._log: LogThread | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._useless: set[bytes] = set()
        self._error: BaseException | None = None
        self._idle: list[asyncio.Future[None]] = []
        self._told = 0

    async def open_for(self, request: ChatRequest) -> None:
        """Open the job log of the node of `request`, if it is not open yet, and go on with the jobs in it.

        Raises:
            BatchError: when the run keeps no files, the job log cannot be used, or a job is at another endpoint.
        """
        if self._keeper is not None:
            return
        async with self._opening:
            if self._keeper is None:
                await self._open(request)

    async def _open(self, request: ChatRequest) -> None:
        ctx = request.ctx
        if ctx is None or ctx.folder is None:
            raise BatchError(
                "batch_api needs a run that is kept, in which the jobs are written down: run the operator in a "
                "pipeline (create or run with a results_dir), or leave batch_api out"
            )
        log = LogThread(job_log_path(ctx.folder, ctx.node_id))
        await log.open(ctx.node_id)
        self._log, self.job_log = log, log.job_log
        self._ctx, self.request = ctx, request
        try:
            jobs = self.job_log.unfinished()
            self._check_endpoints(jobs)
        except BaseException:
            await self.close()
            raise
        for endpoint in self.endpoints:
            endpoint.go_on([job for job in jobs if job.endpoint == endpoint.label])
        self.report()
        self._keeper = asyncio.create_task(self._keep())

    def _check_endpoints(self, jobs: list[StoredJob]) -> None:
        known = {endpoint.label for endpoint in self.endpoints}
        away = [job for job in jobs if job.endpoint not in known and job.state is not BatchState.COLLECTED]
        if away:
            rows, asked = sum(job.rows for job in away), ", ".join(sorted(known))
            raise BatchError(
                f"the run has {jobs_in_words(len(away), rows)} at {away[0].endpoint}; the operator asks {asked}. "
                "Resume with that endpoint until they are collected, or cancel them with the operator as it was: "
                f"{self.cancel_command}"
            )

    @property
    def cancel_command(self) -> str:
        """The command to type to cancel the jobs of the run, or give up those that their provider does not know."""
        return run_command("jobs", self._ctx, options=["--cancel"])

    async def close(self) -> None:
        """Let go of the job log. May be called more than once."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        log, self._log = self._log, None
        if log is not None:
            await log.close(self._useless)

    async def write(self, work: Callable[..., T], *args: Any) -> T:
        """Do something that writes to the job log, see `LogThread.write`.

        Raises:
            BatchError: when it fails. Then nothing goes on: every call of the node fails with it.
        """
        if self._log is None:
            raise BatchError("the job log is not open")
        try:
            return await self._log.write(work, *args)
        except BatchError as error:
            self.fail(error)
            raise

    # Calls.

    def latest(self, scope: bytes, body: bytes) -> StoredRow | None:
        """Return the row that was last in a job for a call, unless the call has had its answer; None for none.

        Raises:
            BaseException: what made the jobs fail, if they did.
        """
        self.check()
        found = self.job_log.latest(scope, body)
        return None if found is None or found.number in self.given else found

    def holds(self, scope: bytes, endpoint: str) -> bool:
        """Return whether a job of an endpoint has a call whose answer was not given yet."""
        if self._keeper is None:
            return False
        found = self.job_log.endpoint_of(scope)
        return found is not None and found[1] == endpoint and found[0] not in self.given

    def note(self, scope: bytes, *, is_useful: bool) -> None:
        """Note whether the answer of a call is of use: what is not is forgotten when the run ends in good order."""
        if is_useful:
            self._useless.discard(scope)
        else:
            self._useless.add(scope)

    def check(self) -> None:
        """Raise what made the jobs fail, if they did."""
        if self._error is not None:
            raise self._error

    def fail(self, error: BaseException) -> None:
        """Let every call fail with `error`, and the run with it, whatever it is."""
        if not isinstance(error, FatalError):
            fatal = BatchError(f"jobs cannot go on: {type(error).__name__}: {error}")
            fatal.__cause__ = error
            error = fatal
        if self._error is None:
            self._error = error
            for endpoint in self.endpoints:
                endpoint.fail_waiting(error)

    def log(self, message: str, **fields: Any) -> None:
        """Write a line to the log of the run."""
        if self._ctx is not None:
            self._ctx.log(message, **fields)

    def note_outage(self, endpoint: str, outage: OutageReport | None) -> None:
        """Say that an endpoint answers nothing but errors; None: it answers again."""
        if isinstance(self._ctx, IOutageContext):
            self._ctx.note_outage(endpoint, outage)

    def report(self, new: list[Mapping[str, Any]] | None = None) -> None:
        """Report what was used: in all, which may be told again; or only what is new, where nobody takes sums."""
        if isinstance(self._ctx, IJobContext):
            for entry in self.job_log.usage():
                self._ctx.report_usage_total(entry)
        elif self._ctx is not None:
            for used in new or ():
                self._ctx.report_usage({name: n / PICO if name == COST else n for name, n in used.items()})

    # How the node stands.

    @property
    def is_paused(self) -> bool:
        """Whether the run is paused."""
        return self._ctx is not None and self._ctx.is_paused()

    @property
    def is_cancelled(self) -> bool:
        """Whether the run is cancelled."""
        return self._ctx is not None and self._ctx.is_cancelled()

    @property
    def gives_up(self) -> bool:
        """Whether the jobs are to be cancelled at the provider."""
        return isinstance(self._ctx, IJobContext) and not self._ctx.keeps_jobs()

    def is_quiet(self, seconds: float = QUIET_SECONDS) -> bool:
        """Return whether no further row can come before one of those that wait is answered."""
        if isinstance(self._ctx, IJobContext) and self._ctx.expects_rows():
            return False
        return self.clock() - self.touched >= seconds

    async def until_idle(self) -> None:
        """Wait until no call waits for a job.

        Raises:
            LLMCancelledError: when the run is cancelled.
        """
        if self.rows:
            idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle

    def row_ended(self) -> None:
        """A call does not wait any more."""
        self.rows -= 1
        self.touched = self.clock()
        if not self.rows:
            self._wake_idle(None)

    def _wake_idle(self, error: BaseException | None) -> None:
        idle, self._idle = self._idle, []
        for each in idle:
            if not each.done():
                each.set_exception(error) if error else each.set_result(None)

    async def _keep(self) -> None:
        """Look after the jobs, again and again."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                self._look_after()
            except Exception as error:  # noqa: BLE001 - a task of its own: nobody else would hear of it
                self.fail(error)

    def _look_after(self) -> None:
        """Send jobs in time, and end waits when the run is cancelled."""
        if self.is_cancelled:
            error = LLMCancelledError("the run is cancelled while a row waits for its job: a resume goes on")
            for endpoint in self.endpoints:
                endpoint.fail_waiting(error)
            self._wake_idle(error)
            return
        if not self.is_paused:
            for endpoint in self.endpoints:
                endpoint.send_if_due()
            if self._has_all_rows(FOREIGN_SECONDS):
                for endpoint in self.endpoints:
                    endpoint.give_up_foreign()
            self._detach()
        jobs = sum(endpoint.open_jobs for endpoint in self.endpoints)
        if jobs != self._told and isinstance(self._ctx, IJobContext):
            self._ctx.wait_for_jobs(jobs)
            self._told = jobs

    def _has_all_rows(self, seconds: float) -> bool:
        return isinstance(self._ctx, IJobContext) and self._ctx.has_all_rows() and self.is_quiet(seconds)

    def _detach(self) -> None:
        """End the run when all that is in flight waits at the provider, if it is to be so.

        Jobs that nobody asks about any more are cancelled before: nobody would do it later.
        """
        if not (self._detaches and self.rows and self.is_quiet()):
            return
        if self._has_all_rows(QUIET_SECONDS) and any(endpoint.has_foreign for endpoint in self.endpoints):
            return
        if all(endpoint.is_all_out for endpoint in self.endpoints):
            jobs = sum(endpoint.open_jobs for endpoint in self.endpoints)
            reason = f"detached: {jobs_in_words(jobs, self.rows)} at the provider; resume collects them"
            for endpoint in self.endpoints:
                endpoint.fail_waiting(StopRun(reason))
