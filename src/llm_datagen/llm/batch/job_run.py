"""One job's way: it is sent; looked at until it has ended; collected; and deleted at the provider."""

from __future__ import annotations

import asyncio
import contextlib
import time
from http import HTTPStatus

from llm_datagen.llm.batch.asking import Asking, GoneError
from llm_datagen.llm.batch.collecting import Collecting
from llm_datagen.llm.batch.endpoint_state import EndpointState
from llm_datagen.llm.batch.finding import Finding
from llm_datagen.llm.batch.giving_up import drop, log_of_job
from llm_datagen.llm.batch.records import DROPPED, LOST, UNKNOWN
from llm_datagen.llm.batch.rows import Job
from llm_datagen.llm.batch.sending import Sending
from llm_datagen.llm.errors import BatchError, EndpointRefusedError, LLMRequestError, OutageError
from llm_datagen.llm.http.batch.base import CancelRefusedError, JobState, JobStatus
from llm_datagen.runs.batch_jobs import BatchState
from llm_datagen.runs.words import rows_in_words

_DELETES = 4
"""Tries to delete what a provider has of a job that is collected."""
_POLLS_OF_AGE = 10
_FIRST_POLL = 1 / 30


class JobRun:
    """Brings one job to its end. Used on the event loop of the node.

    Args:
        jobs: those of the endpoint.
        job: the job, whose intent is in the job log.
        is_sent: whether it may have been sent, in an earlier process.
    """

    def __init__(self, jobs: EndpointState, job: Job, *, is_sent: bool) -> None:
        self._jobs = jobs
        self._node = jobs.node
        self._job_log = jobs.node.job_log
        self._adapter, self._http = jobs.place.adapter, jobs.place.http
        self._asking = Asking(jobs)
        self._finding = Finding(jobs, job.stored, self._asking)
        self._job = job
        self._sending = Sending(jobs, job, self._asking, self._finding)
        self._is_sent = is_sent
        self._is_seen = False

    @property
    def ends_soon(self) -> bool:
        """Whether something is under way that takes a moment, and should not be broken off."""
        return self._job.ends_soon

    async def run(self) -> None:
        """Do it. What makes the jobs of the node fail is told to its calls."""
        try:
            await self._run()
        except BatchError:
            pass  # every call has it
        except GoneError as error:
            self._node.fail(EndpointRefusedError(f"{self._jobs.label} knows no such thing: {error.__cause__}"))
        except Exception as error:  # noqa: BLE001 - a task of its own: nobody else would hear of it
            self._node.fail(error)

    async def _run(self) -> None:
        job = self._job.stored
        if job.state is BatchState.COLLECTED:
            await self._delete()
            return
        if job.state is BatchState.SENDING:
            self._is_seen = await (self._sending.seek() if self._is_sent else self._sending.send())
            if not self._is_seen:
                return
        try:
            status = await self._until_ended()
            if status is None:
                return
            self._job.is_out = False
            async with self._jobs.sending:
                await self._finding.cancel_others()
                await self._collect(status)
        except GoneError as error:
            if not self._is_seen:
                self._fail_as_unknown()
                return
            await drop(self._jobs, self._job, str(error) or UNKNOWN, LOST, state=BatchState.COLLECTED)
        await self._delete()

    # Waiting.

    async def _until_ended(self) -> JobStatus | None:
        """Return the status of the job when it has ended, or may have; None when it is given up."""
        job, node = self._job.stored, self._node
        assert job.job_id is not None
        job_id, seen, is_cancelled = job.job_id, (-1, -1), job.state is BatchState.CANCELLING
        began, cancelled_at = node.clock(), None if not is_cancelled else node.clock()
        has_asked, is_told = False, False
        while True:
            status = await self._asking.ask(lambda: self._adapter.status(self._http, job_id))
            self._is_seen = True
            if status.state is JobState.ENDED:
                return status
            self._job.is_out = True
            age = max(self._age(), node.clock() - began)
            is_given_up = self._job.given_up.is_set()
            if status.unknown and not is_told:
                is_told = True
                self._log(f"its state {self._http.safe(status.unknown)!r} is not known: it is taken to be running")
            wants_end = is_given_up or age > node.batch.max_age
            if is_cancelled:  # in an earlier process, or by hand: it may have ended meanwhile
                wants_end = bool(status.unknown) and not has_asked
            if wants_end:
                if await self._cancel("" if is_given_up else " as it does not end", is_told=has_asked):
                    is_cancelled, cancelled_at = True, None
                elif status.unknown:
                    return status
                has_asked, cancelled_at = True, node.clock() if cancelled_at is None else cancelled_at
            if cancelled_at is not None and node.clock() - cancelled_at > max(node.batch.max_age / 10, 1.0):
                if status.unknown:
                    return status
                what = "was" if is_cancelled else "cannot be"
                await drop(self._jobs, self._job, f"it {what} cancelled, and did not end", LOST)
                return None
            counts = (status.succeeded, status.failed)
            state = BatchState.CANCELLING if is_cancelled else BatchState.RUNNING
            if counts != seen or state is not job.state or job.expires_at != status.expires_at:
                await node.write(self._job_log.looked, job.number, state, *counts, status.expires_at)
                seen, job.state, job.expires_at = counts, state, status.expires_at
            self._job.is_cancelled = is_cancelled or has_asked
            most = node.batch.poll_wait
            pause = min(most, max(most * _FIRST_POLL, (node.clock() - began) / _POLLS_OF_AGE))
            await self._sleep(pause)

    async def _cancel(self, why: str, *, is_told: bool) -> bool:
        """Ask for the job to be cancelled; return False when the provider refuses, so that it may have ended.

        Args:
            why: for the log, behind that it was.
            is_told: whether the log has it that the provider refuses.
        """
        job_id = self._job.stored.job_id or ""
        try:
            await self._asking.ask(lambda: self._adapter.cancel(self._http, job_id))
        except EndpointRefusedError as error:
            if not isinstance(error.__cause__, CancelRefusedError):
                raise
            if not is_told:
                self._log("it cannot be cancelled", error)
            return False
        self._log(f"it was cancelled{why}")
        return True

    def _age(self) -> float:
        return time.time() - (self._job.stored.submitted_at or self._job.stored.made_at)

    async def _sleep(self, seconds: float) -> None:
        """Wait, less when the job is given up meanwhile."""
        if self._job.given_up.is_set():
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._job.given_up.wait(), seconds)

    # Collecting.

    async def _collect(self, status: JobStatus) -> None:
        """Bring in all that the provider has of the job."""
        job = self._job.stored
        why = self._http.safe(status.why)
        if why and not status.succeeded:
            await self._failed_as_a_whole(status, why)
            return
        assert job.job_id is not None
        job_id = job.job_id
        collecting = Collecting(self._jobs, self._job)

        async def bring_in() -> None:
            async for result in self._adapter.results(self._http, job_id):
                await collecting.add(result)

        try:
            await self._asking.ask(bring_in)
        except (GoneError, OutageError) as error:
            await collecting.keep()  # it is paid for
            if _is_damaged(error) and self._age() > self._node.batch.max_age:
                raise GoneError from error
            raise
        if status.unknown:
            await collecting.keep()
            if left := len(self._job.rows):
                state = self._http.safe(status.unknown)
                raise GoneError(f"its state {state!r} is not known, and it has no results of {rows_in_words(left)}")
        await collecting.end(why)
        self._jobs.ended(self._job)
        self._node.log(
            "batch job ended", job=job_id, rows=job.rows, answered=collecting.answered, endpoint=self._jobs.label
        )

    async def _failed_as_a_whole(self, status: JobStatus, why: str) -> None:
        why = f"job {status.job_id} at {self._jobs.label} failed as a whole: {why}"
        self._job.ends_soon = True
        if status.may_pass:
            self._jobs.not_before = self._node.clock() + self._node.batch.poll_wait
            await drop(self._jobs, self._job, why, DROPPED, state=BatchState.COLLECTED)
            self._log(f"{why}: its rows go into another one later")
        elif self._node.batch.fallback == "online":
            await drop(self._jobs, self._job, why, "none", state=BatchState.COLLECTED)
        else:
            error = EndpointRefusedError(f"{why}; correct that, then resume")
            await drop(self._jobs, self._job, why, DROPPED, error, state=BatchState.COLLECTED)

    async def _delete(self) -> None:
        """Delete what the provider still has of the job. What fails here costs nothing: a resume tries again."""
        job = self._job.stored
        self._job.ends_soon = True
        self._jobs.ended(self._job)
        for tries in range(_DELETES if job.job_id is not None else 0):
            try:
                await self._adapter.delete(self._http, job.job_id or "")
                break
            except LLMRequestError as error:
                if not error.may_pass or tries == _DELETES - 1:
                    self._log("its files could not be deleted at the provider: a resume tries again", error)
                    return
                await asyncio.sleep(self._asking.pause(tries))
        await self._node.write(self._job_log.done, job.number)

    def _fail_as_unknown(self) -> None:
        """A job of an earlier process is not there at the first look: it may well go on behind another key."""
        self._node.fail(
            EndpointRefusedError(
                f"{self._jobs.label} does not know job {self._job.stored.job_id} of this run, with "
                f"{self._job.stored.rows:,} rows: resume with a key of the account, or project, that it was sent by; "
                "or, if it is lost there, give it up (its rows count as paid for, and are sent again by a resume): "
                f"{self._node.cancel_command}",
                status=HTTPStatus.NOT_FOUND,
            )
        )

    def _log(self, what: str, error: BaseException | None = None) -> None:
        log_of_job(self._jobs, self._job, what, error)


def _is_damaged(error: BaseException) -> bool:
    """Return whether a provider serves what cannot be read, though it serves."""
    return isinstance(error.__cause__, LLMRequestError) and error.__cause__.status == HTTPStatus.OK
