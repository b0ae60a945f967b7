"""A worker process, as the driver sees it: it runs one shard after the other. What runs in it is `worker`."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from llm_datagen.errors import FailureRecord, NotRunningError, RemoteError, RunError
from llm_datagen.executors.process.channel import Channel
from llm_datagen.executors.process.last_words import LastWords
from llm_datagen.executors.process.pickling import unpack_error
from llm_datagen.executors.process.spawn import how_it_ended, start
from llm_datagen.runs.status import PipelineStatus, Status
from llm_datagen.shards.executor import Command, ShardJob, ShardOutcome
from llm_datagen.shards.passed_events import EventBox, PackedEvent

POLL_SECONDS = 0.05
"""How often it is looked whether a process is alive."""

ANSWER_SECONDS = 15.0


class WorkerProcess:
    """A process that runs one shard at a time. Any thread may use it.

    It is killed by the system when the thread that made it ends: that thread must outlive it.
    """

    def __init__(self) -> None:
        self._channel, theirs = Channel.pipes()
        try:
            self._process = start("llm_datagen.shards.worker", theirs, stderr=subprocess.PIPE)
        except BaseException:
            self._channel.close()
            raise
        self._sending = threading.Lock()
        self._shard: RunningShard | None = None
        assert self._process.stderr is not None
        self._last_words = LastWords(self._process.stderr, "datagen-worker-errors", are_passed_on=True)

    def is_alive(self) -> bool:
        """Return whether the process lives."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def run(self, job: ShardJob, at_end: Callable[[WorkerProcess], object]) -> RunningShard:
        """Begin to run a shard; return at once.

        Args:
            job: the shard.
            at_end: is given this process when the shard has ended, on a thread of its own.
        """
        self._last_words.clear()
        shard = self._shard = RunningShard(self, job.number)
        self.send("job", [str(Path(entry).absolute()) for entry in sys.path], job)

        def listen() -> None:
            outcome = self._outcome(shard)
            at_end(self)
            shard.end(outcome)

        threading.Thread(target=listen, name=f"datagen-shard-{job.number}", daemon=True).start()
        return shard

    def send(self, *message: Any) -> None:
        """Send a message. Of one that has died, others tell."""
        with self._sending, contextlib.suppress(OSError):
            self._channel.send(message)

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def close(self) -> None:
        """Leave nothing of it: neither process nor pipes."""
        self._process.kill()
        self._process.wait()
        self._last_words.join(POLL_SECONDS * 10)
        with self._sending:
            self._channel.close()

    def _outcome(self, shard: RunningShard) -> ShardOutcome:
        """Listen until the shard has ended, or the process; return how."""
        while True:
            # Not left to the end of the pipe: a process that an operator has forked may hold it open.
            if not self._channel.is_readable(POLL_SECONDS):
                if self.is_alive() or self._channel.is_readable(0):
                    continue
                return self._death(shard)
            try:
                message = self._channel.receive()
            except Exception:  # noqa: BLE001 - its end; or what it sends cannot be read
                self._process.kill()
                return self._death(shard)
            match message:
                case "status", number, status if number == shard.number:
                    shard.now = status
                case "events", number, events if number == shard.number:
                    shard.box.put(events)
                case "answer", number, answer, error:
                    shard.answered(number, answer, error)
                case "ended", outcome:
                    return outcome  # type: ignore[no-any-return]

    def _death(self, shard: RunningShard) -> ShardOutcome:
        how = how_it_ended(self._process)
        self._last_words.join(POLL_SECONDS * 10)
        words = self._last_words.told()
        return ShardOutcome(
            str(Status.FAILED), f"the worker process of shard {shard.number} {how}{words}", is_lost=True
        )


class Runner(Protocol):
    """What runs a shard somewhere else. Any thread may use it."""

    def send(self, *message: Any) -> None:
        """Send it a message; of one that has died, others tell."""

    def kill(self) -> None:
        """End it at once."""


class RunningShard:
    """A shard that is run somewhere else: a `ShardHandle`. Any thread may use it.

    Args:
        worker: what runs it: a worker process, say.
        number: the number of the shard.

    Attributes:
        now: what is known of its run.
        box: what its run has told.
    """

    def __init__(self, worker: Runner, number: int) -> None:
        self._worker = worker
        self._number = number
        self._outcome: Future[ShardOutcome] = Future()
        self._changing = threading.Lock()
        self._asked = 0
        self._answers: dict[int, Future[Any]] = {}
        self.now: PipelineStatus | None = None
        self.box = EventBox()

    @property
    def number(self) -> int:
        """The number of the shard."""
        return self._number

    def status(self) -> Mapping[str, Any] | None:
        """Return what is known of its run; None while nothing is."""
        now = self.now
        return None if now is None else status_as_dict(now)

    def events(self) -> list[PackedEvent]:
        """Return what its run has told since the last time."""
        return self.box.take()

    def send(self, command: Command) -> Any:
        """Tell its run a command; return the answer.

        Raises:
            NotRunningError: when it has ended.
            ConfigError: when the run refuses it.
            RunError: when there is no answer.
        """
        with self._changing:
            if self._outcome.done():
                raise NotRunningError(f"shard {self._number} has ended")
            self._asked += 1
            asked = self._asked
            answer = self._answers[asked] = Future()
        self._worker.send("command", asked, command)
        try:
            return answer.result(ANSWER_SECONDS)
        except TimeoutError:
            raise RunError(f"shard {self._number} has not answered in {ANSWER_SECONDS:g} s") from None

    def wait(self, seconds: float | None = None) -> ShardOutcome | None:
        """Wait until it has ended; None when it has not, after so many seconds."""
        try:
            return self._outcome.result(seconds)
        except TimeoutError:
            return None

    def kill(self) -> None:
        """End it at once, without a word."""
        if not self._outcome.done():
            self._worker.kill()

    def answered(self, number: int, answer: Any, error: tuple[str, bytes | None] | None) -> None:
        """Take the answer to a command."""
        with self._changing:
            asked = self._answers.pop(number, None)
        if asked is None:
            return
        if error is None:
            asked.set_result(answer)
        else:
            text, packed = error
            asked.set_exception(unpack_error(packed, FailureRecord.of(RemoteError(text))))

    def end(self, outcome: ShardOutcome) -> None:
        """Note how it has ended: nobody waits for an answer any more."""
        with self._changing:
            left, self._answers = list(self._answers.values()), {}
            self._outcome.set_result(outcome)
        for each in left:
            each.set_exception(NotRunningError(f"shard {self._number} has ended"))


def status_as_dict(status: PipelineStatus) -> dict[str, Any]:
    """Return a status as plain data, as `ShardHandle.status` does."""
    return {
        "status": str(status.status),
        "nodes": [node.as_dict() for node in status.nodes],
        "reason": status.reason,
        "error": status.error,
        "failed_row": status.failed_row,
        "paused": status.paused,
    }
