"""What is known of the jobs at one endpoint: where they go, what they cost, and which there are."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from llm_datagen.llm.batch.away import Away
from llm_datagen.llm.batch.money import RowMoney
from llm_datagen.llm.batch.node_jobs import NodeJobs
from llm_datagen.llm.batch.rows import Job
from llm_datagen.llm.http.answering import Answering
from llm_datagen.llm.http.batch.base import BatchAdapter, BatchHttp

_SENDING_AT_ONCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where jobs of an endpoint go, and by what.

    Attributes:
        label: the endpoint, as the job log and messages name it.
        model: the model of all rows.
        adapter: speaks its batch API.
        http: calls it.
        answering: reads answers.
        outage_after: seconds that it may not answer before the run fails.
    """

    label: str
    model: str
    adapter: BatchAdapter
    http: BatchHttp
    answering: Answering
    outage_after: float


class EndpointState:
    """The jobs at one endpoint. Used on the event loop of the node.

    Args:
        node: the jobs of the node.
        place: where they go.
        money: what they cost.

    Attributes:
        label: the endpoint, as the job log names it.
        jobs: those that are under way, by their numbers.
        not_before: a monotonic time before which nothing is sent, as the endpoint turned a job away.
        failing_since: when it first turned one away, with none taken since; None: it does not.
        away: tells the node while it answers nothing but errors.
        sending: limits how many jobs are sent, and collected, at once.
        room: has the one that waits for room among the tokens that may wait at the provider.
    """

    def __init__(self, node: NodeJobs, place: Place, money: RowMoney) -> None:
        self.node = node
        self.place = place
        self.money = money
        self.label = place.label
        self.jobs: dict[int, Job] = {}
        self.not_before = -math.inf
        self.failing_since: float | None = None
        self.away = Away(node, place.label)
        self.sending = asyncio.Semaphore(_SENDING_AT_ONCE)
        self.room = asyncio.Lock()

    def enqueued(self, without: Job) -> int:
        """Return about how many tokens wait in other jobs."""
        return sum(job.tokens for job in self.jobs.values() if job.is_enqueued and job is not without)

    def ended(self, job: Job) -> None:
        """A job is done with."""
        self.jobs.pop(job.stored.number, None)
