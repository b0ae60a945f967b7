"""Looks for jobs in a provider's listing: one that may have been registered, and others that have the same rows."""

from __future__ import annotations

import time

from llm_datagen.llm.batch.asking import Asking
from llm_datagen.llm.batch.endpoint_state import EndpointState
from llm_datagen.llm.batch.records import StoredJob
from llm_datagen.llm.errors import EndpointRefusedError
from llm_datagen.llm.http.batch.base import CancelRefusedError, JobState, JobStatus

_UNSEEN_SECONDS = 2 * 86400.0
"""How long a job that nobody has seen is looked for again before another one is collected."""


class Finding:
    """Finds one job, and those that were registered beside it. Used on the event loop of the node.

    Args:
        jobs: those of the endpoint.
        job: the job.
        asking: asks the provider.
    """

    def __init__(self, jobs: EndpointState, job: StoredJob, asking: Asking) -> None:
        self._jobs = jobs
        self._job = job
        self._asking = asking

    async def find(self) -> list[JobStatus]:
        """Return the jobs at the provider that are this one, or may be it, see `BatchAdapter.find`; the oldest first.

        Raises:
            EndpointRefusedError, OutageError: see `Asking.ask`.
        """
        return await self._found(self._job)

    async def cancel_others(self) -> None:
        """Cancel jobs with the same rows: one with the same key, and those that nobody had seen before.

        Raises:
            EndpointRefusedError, OutageError: see `Asking.ask`.
        """
        if self._jobs.place.adapter.is_keyed:
            for other in await self._found(self._job):
                if other.key == self._job.key and other.job_id != self._job.job_id:
                    await self._cancel(other)
        for unseen in self._jobs.node.job_log.unseen(time.time() - _UNSEEN_SECONDS):
            if unseen.endpoint != self._jobs.label:
                continue
            for other in await self._found(unseen):
                if other.key == unseen.key:
                    await self._cancel(other)

    async def _found(self, job: StoredJob) -> list[JobStatus]:
        place = self._jobs.place
        others = self._jobs.node.job_log.ids(self._jobs.label, self._job.number)
        return await self._asking.ask(lambda: place.adapter.find(place.http, job.sought(others)))

    async def _cancel(self, other: JobStatus) -> None:
        if other.state not in (JobState.WAITING, JobState.RUNNING):
            return
        place = self._jobs.place
        try:
            await self._asking.ask(lambda: place.adapter.cancel(place.http, other.job_id))
        except EndpointRefusedError as error:
            if not isinstance(error.__cause__, CancelRefusedError):
                raise
            return  # it has ended, in a state that is not known
        self._jobs.node.log(
            f"job {other.job_id} at {self._jobs.label} is cancelled: it has the rows of another one, as the provider "
            "has registered it twice, or late; its answers until now are paid for twice (see late_s)",
            level="warning",
        )
