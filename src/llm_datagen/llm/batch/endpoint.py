"""The jobs at one endpoint: which row goes into which, and who waits for it."""

from __future__ import annotations

import asyncio

from llm_datagen.llm.batch.endpoint_state import EndpointState
from llm_datagen.llm.batch.job_run import JobRun
from llm_datagen.llm.batch.records import StoredJob, StoredRow
from llm_datagen.llm.batch.rows import Filling, Job, WaitingRow, new_rows
from llm_datagen.llm.cost.budget import Amount
from llm_datagen.llm.errors import BatchError, LLMRequestError
from llm_datagen.llm.http.batch.base import BatchItem
from llm_datagen.llm.types import ChatRequest
from llm_datagen.runs.batch_jobs import BatchState

_CLOSE_SECONDS = 30.0
"""How long the end of a run waits for a job that is being sent, or cancelled, or deleted at the provider."""
_LOOK_SECONDS = 0.02


class EndpointJobs:
    """Puts rows into the jobs of an endpoint. Used on the event loop of the node.

    Args:
        state: what is known of them.

    Attributes:
        state: the same.
        label: the endpoint, as the job log names it.
    """

    def __init__(self, state: EndpointState) -> None:
        self.state = state
        self.label = state.label
        self.node, self._money, self._jobs = state.node, state.money, state.jobs
        self._filling: Filling | None = None
        self._runs: dict[JobRun, asyncio.Task[None]] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self.node.endpoints.append(self)

    def go_on(self, jobs: list[StoredJob]) -> None:
        """Go on with jobs of an earlier process."""
        for stored in jobs:
            rows = self.node.job_log.open_rows(stored.number)
            calls = self._money.adopt(self.node.job_log.path, [row.most for row in rows], self.node.request)
            waiting = {row.place: WaitingRow(row.most, call) for row, call in zip(rows, calls, strict=True)}
            self._begin(Job(stored, waiting, is_new=False), from_before=True)

    async def close(self) -> None:
        """End: jobs stay at the provider, unless they are given up. May be called more than once."""
        deadline = self.node.clock() + _CLOSE_SECONDS
        while self.node.clock() < deadline and not self._may_end():
            await asyncio.sleep(_LOOK_SECONDS)
        tasks = [*self._starting, *self._runs.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _may_end(self) -> bool:
        """Return whether nothing is under way that takes a moment, and should not be broken off."""
        if self.node.gives_up:
            self.give_up()
            if not all(job.is_cancelled for job in self._jobs.values()):
                return False
        return not self._starting and not any(run.ends_soon for run in self._runs)

    # Rows.

    async def row(self, row: WaitingRow) -> None:
        """Put a row into a job, and wait until it is known what became of it.

        Raises:
            LLMRequestError: when it is too large for a job.
            BaseException: what made the jobs fail.
        """
        assert row.body is not None
        assert row.request is not None
        place, batch = self.state.place, self.node.batch
        limits = place.adapter.limits
        most_bytes = min(limits.bytes, batch.max_bytes or limits.bytes)
        # With a custom id as long as one can be.
        size = len(place.adapter.line(BatchItem(custom_id="0" * 32, body=row.body))) + 1
        if size > most_bytes:
            self.release(row)
            raise LLMRequestError(
                f"{row.request.row} has {size:,} bytes, and a job at {self.label} takes {most_bytes:,}: shorten the "
                "prompt, or send fewer images",
                is_free=True,
            )
        if self._filling is not None and not self._filling.takes(size):
            self._send()
        now = self.node.clock()
        if self._filling is None:
            self._filling = Filling(place.adapter, min(limits.rows, batch.max_rows or limits.rows), most_bytes, now)
        row.done = asyncio.get_running_loop().create_future()
        self._filling.add(row, size)
        if self._filling.is_full:
            self._send()
        await self._wait(row)

    async def join(self, stored: StoredRow, request: ChatRequest) -> None:
        """Wait until it is known what became of a row that is in a job already.

        Raises:
            BaseException: what made the jobs fail.
        """
        job = self._jobs.get(stored.job)
        row = None if job is None else job.rows.get(stored.place)
        if job is None or row is None:
            raise BatchError(
                f"{self.node.job_log.path} has {request.row} in a job that is not under way: resume once more"
            )
        job.is_asked_about = True
        row.request = request
        await self._wait(row)

    async def _wait(self, row: WaitingRow) -> None:
        node = self.node
        node.check()
        if row.done is None or row.done.done():
            row.done = asyncio.get_running_loop().create_future()
        node.rows += 1
        node.touched = node.clock()
        try:
            await row.done
        finally:
            node.row_ended()

    def release(self, row: WaitingRow) -> None:
        """Let go of the reservation of a row that was not sent."""
        self._money.settle(row.call, self.node.request, Amount())

    def fail_waiting(self, error: BaseException) -> None:
        """Let every call fail that waits for a job here."""
        filling, self._filling = self._filling, None
        if filling is not None:
            for row in [*filling.rows(), *filling.left()]:
                self.release(row)
                row.end(error)
        for job in self._jobs.values():
            for row in job.rows.values():
                row.end(error)

    # Jobs.

    @property
    def open_jobs(self) -> int:
        """Jobs of which answers may still come."""
        return len(self._jobs)

    @property
    def is_all_out(self) -> bool:
        """Whether no job is being filled, sent or collected."""
        return self._filling is None and not self._starting and all(job.is_out for job in self._jobs.values())

    def send_if_due(self) -> None:
        """Send the job that is being filled, if nothing more can come, or its time is over."""
        filling, batch, now = self._filling, self.node.batch, self.node.clock()
        if filling is None or now < self.state.not_before:
            return
        if now - filling.since >= batch.max_wait or self.node.is_quiet():
            self._send()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way: no job is open, nor being deleted at the provider."""
        return self._filling is None and not self._starting and not self._runs

    def give_up(self) -> None:
        """Cancel all jobs at the provider."""
        for job in self._jobs.values():
            job.given_up.set()

    @property
    def has_foreign(self) -> bool:
        """Whether some job is one that `give_up_foreign` cancels, or has asked to cancel, with no answer yet."""
        return any(not (job.is_new or job.is_asked_about or job.is_cancelled) for job in self._jobs.values())

    def give_up_foreign(self) -> None:
        """Cancel jobs of which no call asks for any row, though all rows have asked."""
        for job in self._jobs.values():
            if not (job.is_new or job.is_asked_about or job.given_up.is_set()):
                job.given_up.set()
                self.node.log(
                    f"job {job.stored.job_id or job.stored.key} at {self.label} is cancelled: none of its "
                    f"{job.stored.rows:,} rows is asked any more, as the prompt, or the input, was changed; what was "
                    "answered until then is paid for",
                    level="warning",
                )

    def _send(self) -> None:
        filling, self._filling = self._filling, None
        assert filling is not None
        for row in filling.left():
            self.release(row)
        rows = filling.rows()
        if rows:
            task = asyncio.get_running_loop().create_task(self._start(filling, rows))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start(self, filling: Filling, rows: list[WaitingRow]) -> None:
        job_log = self.node.job_log
        try:
            stored = await self.node.write(
                job_log.intend, filling.key, self.label, self.state.place.model, new_rows(rows), filling.size
            )
        except BatchError as error:
            for row in rows:
                self.release(row)
                row.end(error)
            return
        self._begin(Job(stored, dict(enumerate(rows)), is_new=True), from_before=False)

    def _begin(self, job: Job, *, from_before: bool) -> None:
        self._jobs[job.stored.number] = job
        job.is_enqueued = from_before and job.stored.state is not BatchState.COLLECTED
        run = JobRun(self.state, job, is_sent=from_before)
        task = asyncio.get_running_loop().create_task(run.run())
        self._runs[run] = task
        task.add_done_callback(lambda _: self._runs.pop(run, None))
