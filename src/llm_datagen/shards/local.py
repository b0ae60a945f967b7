"""Shards in processes of this machine: as many at once as there are cores, each process one after the other."""

from __future__ import annotations

import os
import threading

from llm_datagen.config import check_count
from llm_datagen.shards.executor import ShardHandle, ShardJob
from llm_datagen.shards.worker_process import WorkerProcess


def cores() -> int:
    """Return how many cores this process may use."""
    with_mask = getattr(os, "sched_getaffinity", None)
    return len(with_mask(0)) if with_mask is not None else os.cpu_count() or 1


class LocalExecutor:
    """Runs shards in worker processes of this machine. A process is used for shard after shard: a start takes time.

    When the driver dies, the processes end: on Linux the kernel kills them, elsewhere a thread of theirs sees it.

    Args:
        workers: how many shards are run at once; None: as many as this process may use cores.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._count = cores() if workers is None else check_count("workers", workers)
        self._changing = threading.Lock()
        self._all: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []

    @property
    def workers(self) -> int:
        """How many shards it runs at once, at most."""
        return self._count

    @property
    def host(self) -> None:
        """None: shards run on this machine."""

    def start(self, job: ShardJob) -> ShardHandle:
        """Begin to run a shard; return at once. The thread must outlive the shards that it starts."""
        return self._worker().run(job, self._is_free)

    def close(self) -> None:
        """End all processes. What still runs is killed."""
        with self._changing:
            workers, self._all, self._idle = list(self._all), set(), []
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.close()

    def _worker(self) -> WorkerProcess:
        with self._changing:
            while self._idle:
                if (worker := self._idle.pop()).is_alive():
                    return worker
                self._all.discard(worker)
                worker.close()
            worker = WorkerProcess()
            self._all.add(worker)
            return worker

    def _is_free(self, worker: WorkerProcess) -> None:
        with self._changing:
            if worker not in self._all:
                return
            if worker.is_alive():
                self._idle.append(worker)
                return
            self._all.discard(worker)
        worker.close()
