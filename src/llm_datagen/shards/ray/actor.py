"""What runs on a node of a Ray cluster: an actor that has shards run, one after the other, in a process of its own.

The process is the actor's, as Ray reuses its workers, and owns their main thread and their signals. It dies with the
actor. The actor ends by itself when nobody has asked how the shard goes for a while: its driver has gone, or has
started the shard elsewhere.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_datagen.errors import NotRunningError
from llm_datagen.executors.process.pickling import pack_error
from llm_datagen.shards.executor import Command, ShardJob, ShardOutcome
from llm_datagen.shards.passed_events import PackedEvent
from llm_datagen.shards.worker_process import RunningShard, WorkerProcess

_CHECKS = 10
"""How often an actor looks whether it is watched, while it may be unwatched."""


class ShardActor:
    """Runs one shard at a time. Ray's threads use it, several at once.

    It is made by the main thread of its process, which outlives the worker process that it starts.

    Args:
        paths: where the driver finds modules, besides its own Python. Those that are not here are left out.
        lost_seconds: how long it may be unwatched before it ends.
    """

    def __init__(self, paths: Sequence[str], lost_seconds: float) -> None:
        sys.path.extend(path for path in paths if path not in sys.path and Path(path).exists())
        self._lost_seconds = lost_seconds
        self._watched = time.monotonic()
        self._process = WorkerProcess()
        self._changing = threading.Lock()
        self._running: tuple[int, RunningShard] | None = None
        threading.Thread(target=self._end_when_unwatched, name="datagen-watched", daemon=True).start()

    def watch(
        self, key: int, job: ShardJob | None, seconds: float
    ) -> tuple[Any, list[PackedEvent], ShardOutcome | None]:
        """Return how a shard goes, what it has told since the last time, and how it has ended.

        The answer comes at once when it has ended, else after so many seconds.

        Args:
            key: the shard.
            job: what it is, as long as it may not have begun: a question that is asked again does not begin it twice.
            seconds: how long an answer may take.
        """
        self._watched = time.monotonic()
        shard = self._shard(key, job)
        outcome = shard.wait(seconds)
        self._watched = time.monotonic()
        return shard.now, shard.events(), outcome

    def command(self, key: int, command: Command) -> tuple[Any, tuple[str, bytes | None] | None]:
        """Tell a shard a command; return the answer, or the error that it gave: its text, and itself."""
        try:
            return self._shard(key).send(command), None
        except Exception as error:  # noqa: BLE001 - whatever it is, who has asked hears of it
            return None, (str(error), pack_error(error))

    def _shard(self, key: int, job: ShardJob | None = None) -> RunningShard:
        with self._changing:
            if self._running is None or self._running[0] != key:
                if job is None:
                    raise NotRunningError("the shard has ended, or has not begun")
                self._running = key, self._process.run(job, lambda _: None)
            return self._running[1]

    def _end_when_unwatched(self) -> None:
        while time.monotonic() - self._watched < self._lost_seconds:
            time.sleep(self._lost_seconds / _CHECKS)
        print("nobody has asked how the shard goes: it ends here", file=sys.stderr, flush=True)
        self._process.close()
        os._exit(1)
