"""Runs in shards for tests: an executor that has no start-up, and what lies in the shards."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import pykka

from llm_datagen.errors import NotRunningError
from llm_datagen.messages import Cancel, GetStatus, GiveAway
from llm_datagen.pipeline.base import BasePipeline
from llm_datagen.runs import RunFolder
from llm_datagen.shards.claim import latest
from llm_datagen.shards.executor import Command, PassEventsOn, ShardJob, ShardOutcome
from llm_datagen.shards.passed_events import EventBox, PackedEvent
from llm_datagen.shards.pipeline import ShardedPipeline
from llm_datagen.shards.plan_file import PlanFile
from llm_datagen.shards.shard_run import run_job
from llm_datagen.shards.spec import shards_folder
from llm_datagen.shards.worker_process import status_as_dict

from .support import PATIENCE_SECONDS, Bench, stored


class InThreads:
    """Runs shards in threads of this process: no process is started.

    Args:
        workers: how many at once.
        gives_away: whether a slow shard gives rows away: then how many shards there are depends on the machine.

    Attributes:
        jobs: the numbers of all shards that were begun, in order.
        are_watched: for each, whether somebody watched the whole when it was begun.
    """

    def __init__(self, workers: int | None = 2, *, gives_away: bool = False) -> None:
        self.workers = workers
        self._gives_away = gives_away
        self.jobs: list[int] = []
        self.are_watched: list[bool] = []
        self._threads: list[threading.Thread] = []

    @property
    def host(self) -> None:
        """None: they run here."""

    def start(self, job: ShardJob) -> _Shard:
        """Begin to run a shard."""
        self.jobs.append(job.number)
        self.are_watched.append(job.is_watched)
        shard = _Shard(job.number, gives_away=self._gives_away)
        thread = threading.Thread(target=shard.run, args=(job,))
        thread.start()
        self._threads.append(thread)
        return shard

    def close(self) -> None:
        """Wait for the threads."""
        for thread in self._threads:
            thread.join()
        self._threads.clear()


class _Shard:
    def __init__(self, number: int, *, gives_away: bool) -> None:
        self.number = number
        self._gives_away = gives_away
        self._ref: Future[pykka.ActorRef[Any]] = Future()
        self._outcome: Future[ShardOutcome] = Future()
        self._box = EventBox()

    def run(self, job: ShardJob) -> None:
        self._box.is_open = self._box.is_open or job.is_watched
        outcome = run_job(job, self._ref.set_result, self._box)
        if not self._ref.done():
            self._ref.set_exception(NotRunningError("the shard has ended"))
        self._outcome.set_result(outcome)

    def status(self) -> Mapping[str, Any] | None:
        try:
            found: Any = self._ref.result(0).ask(GetStatus(), timeout=PATIENCE_SECONDS)
            return status_as_dict(found)
        except (TimeoutError, NotRunningError, pykka.ActorDeadError):
            return None

    def events(self) -> list[PackedEvent]:
        return self._box.take()

    def send(self, command: Command) -> Any:
        if isinstance(command, PassEventsOn):
            self._box.is_open = True
            return None
        if isinstance(command, GiveAway) and not self._gives_away:
            return False
        ref = self._ref.result(PATIENCE_SECONDS)
        try:
            if isinstance(command, Cancel):
                return ref.tell(command)
            return ref.ask(command, timeout=PATIENCE_SECONDS)
        except pykka.ActorDeadError:
            raise NotRunningError("the shard has ended") from None

    def wait(self, seconds: float | None = None) -> ShardOutcome | None:
        try:
            return self._outcome.result(seconds)
        except TimeoutError:
            return None

    def kill(self) -> None:
        raise AssertionError("a thread cannot be killed")


def in_shards(pipeline: BasePipeline, **options: Any) -> ShardedPipeline:
    """Return a pipeline that is run in four shards, in threads."""
    return ShardedPipeline(pipeline, **{"shards": 4, "executor": InThreads(), **options})


def shard_states(bench: Bench, pipeline_id: str) -> list[dict[str, Any]]:
    """Return the run states of all shards, in the order of the input."""
    shards = shards_folder(RunFolder(bench.results, pipeline_id))
    numbers = [each.number for each in PlanFile(shards.location).load().ranges]
    runs = [latest(shards.location, number) for number in numbers]
    return [RunFolder(shards.location, run).load() for run in runs if run is not None]


def rows_in_shards(bench: Bench, pipeline_id: str, node_id: str) -> list[dict[str, Any]]:
    """Return the rows that a node has written in all shards, in the order of the input, with their ids."""
    found: list[dict[str, Any]] = []
    for run_state in shard_states(bench, pipeline_id):
        entry = next(entry for entry in run_state["nodes"] if entry["node_id"] == node_id)
        found += stored(entry["output_uri"])
    return found
