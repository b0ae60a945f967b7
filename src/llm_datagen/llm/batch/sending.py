"""A job is sent; or looked for, when it may have been, as nobody knows whether its submit arrived."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

from llm_datagen.llm.batch.asking import Asking
from llm_datagen.llm.batch.endpoint_state import EndpointState
from llm_datagen.llm.batch.finding import Finding
from llm_datagen.llm.batch.giving_up import drop, log_of_job
from llm_datagen.llm.batch.records import DROPPED, UNSEEN
from llm_datagen.llm.batch.rows import Job, items_of
from llm_datagen.llm.errors import EndpointRefusedError, LLMRequestError, OutageError
from llm_datagen.llm.http.batch.base import JobStatus
from llm_datagen.runs.batch_jobs import BatchState


class Sending:
    """Sends one job. Used on the event loop of the node.

    Args:
        jobs: those of the endpoint.
        job: the job, whose intent is in the job log.
        asking: asks the provider.
        finding: finds the job.
    """

    def __init__(self, jobs: EndpointState, job: Job, asking: Asking, finding: Finding) -> None:
        self._jobs = jobs
        self._node = jobs.node
        self._adapter, self._http = jobs.place.adapter, jobs.place.http
        self._asking = asking
        self._finding = finding
        self._job = job

    async def send(self) -> bool:
        """Send the job; return whether it is there."""
        node = self._node
        async with self._jobs.room:
            await self._until_room()
            self._job.is_enqueued = True
        async with self._jobs.sending:
            if node.is_cancelled:
                await drop(self._jobs, self._job, "the run was cancelled before it was sent", DROPPED)
                return False
            self._job.ends_soon = True
            try:
                job_id = await self._submitted()
            except LLMRequestError as error:
                self._jobs.away.failed(error)
                self._job.ends_soon = False
                if error.is_free:
                    await self._refused(error)
                    return False
                what = "its submit was not acknowledged: it is looked for before its rows are sent again"
                log_of_job(self._jobs, self._job, what, error)
            else:
                await self._note_submitted(job_id, None)
                self._job.ends_soon = False
                return True
        return await self.seek()

    async def _submitted(self) -> str:
        """Submit the job, and return its id. The bodies of its rows are not needed after that."""
        job = self._job.stored
        try:
            return await self._adapter.submit(self._http, items_of(self._job), key=job.key, model=job.model)
        finally:
            for row in self._job.rows.values():
                row.body = None

    async def _until_room(self) -> None:
        most = self._node.batch.max_enqueued_tokens
        while most is not None and not self._node.is_cancelled:
            enqueued = self._jobs.enqueued(self._job)
            if not enqueued or enqueued + self._job.tokens <= most:
                return
            await asyncio.sleep(min(1.0, self._node.batch.poll_wait))

    async def _note_submitted(self, job_id: str, expires_at: float | None) -> None:
        await self._node.write(self._node.job_log.submitted, self._job.stored.number, job_id, expires_at)
        self._jobs.failing_since = None
        self._jobs.away.answered()
        self._job.stored.job_id, self._job.stored.state = job_id, BatchState.RUNNING
        self._job.stored.submitted_at = time.time()
        self._node.log("batch job submitted", job=job_id, rows=self._job.stored.rows, endpoint=self._jobs.label)

    async def _refused(self, error: LLMRequestError) -> None:
        """The job is surely not at the provider: its rows go into another one, after a pause."""
        with contextlib.suppress(LLMRequestError):  # its file may be there; it costs nothing
            await self._adapter.withdraw(self._http, self._job.stored.key)
        if not error.may_pass:
            await drop(
                self._jobs,
                self._job,
                str(error),
                DROPPED,
                EndpointRefusedError(f"a job was refused: {error}", status=error.status),
            )
            return
        await self._not_taken(str(error), max(self._asking.pause(1), error.retry_after or 0.0))

    async def _not_taken(self, why: str, pause: float = 0.0) -> None:
        """Let the rows go into another job after a pause; but the run fails when no job was taken for too long."""
        jobs, now = self._jobs, self._node.clock()
        if jobs.failing_since is None:
            jobs.failing_since = now
        outage_after = jobs.place.outage_after
        if now - jobs.failing_since >= outage_after:
            error = OutageError(f"{jobs.label} took no job for {outage_after:g} s: {why}")
            await drop(self._jobs, self._job, why, DROPPED, error)
            return
        jobs.not_before = now + pause
        await drop(self._jobs, self._job, why, DROPPED)

    async def seek(self) -> bool:
        """Look for a job that may have been registered, for as long as the provider may be late; return whether it was.

        The time is that of this process: what the clock said in an earlier one cannot be relied on.
        """
        node, job = self._node, self._job.stored
        begun = node.clock()
        while True:
            found = await self._finding.find()
            if await self._note_if_among(found):
                return True
            left = node.batch.late_s - (node.clock() - begun)
            if left <= 0 and not found:  # one without a key may be it, until it has ended
                break
            pause = max(node.batch.poll_wait / 4, 0.05)
            await asyncio.sleep(min(left, pause) if left > 0 else pause)
        await self._asking.ask(lambda: self._adapter.withdraw(self._http, job.key))
        if await self._note_if_among(await self._finding.find()):
            return True
        await self._not_taken(UNSEEN)
        return False

    async def _note_if_among(self, found: Sequence[JobStatus]) -> bool:
        """Note the job as submitted, if it is among some of the provider's; return whether it is."""
        mine = next((each for each in found if each.key == self._job.stored.key), None)
        if mine is not None:
            await self._note_submitted(mine.job_id, mine.expires_at)
        return mine is not None
