"""A worker process: it runs one shard after the other. Its other end is `worker_process.WorkerProcess`.

The main thread runs the shards. A second thread listens to the driver: it passes commands on to the run, and ends this
process at once when the driver has gone. A third one tells how the run goes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import queue
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pykka

from llm_datagen.errors import NotRunningError
from llm_datagen.executors.process.channel import Channel
from llm_datagen.executors.process.pickling import pack_error
from llm_datagen.executors.process.spawn import channel_of_this_process
from llm_datagen.messages import Cancel, GetStatus
from llm_datagen.shards.executor import Command, PassEventsOn, ShardOutcome
from llm_datagen.shards.passed_events import EventBox
from llm_datagen.shards.shard_run import run_job

STATUS_SECONDS = 0.25
"""How often the driver hears how a shard goes."""

_ANSWER_SECONDS = 10.0


def main() -> None:
    """Be a worker, until the driver says that it is enough, or goes."""
    channel = channel_of_this_process()
    faulthandler.enable()  # the last words of a process that crashes say where
    try:
        _Worker(channel).serve()
    except BrokenPipeError:
        os._exit(1)  # the driver has gone


class _Worker:
    """What runs in the process. Shards are run by the main thread."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._changing = threading.Lock()
        self._run: pykka.ActorRef[Any] | None = None
        self._early: list[Callable[[], object]] = []  # commands that came before the run
        self._is_over = threading.Event()
        self._box = EventBox()  # of the shard

    def serve(self) -> None:
        """Run shards, as they come."""
        folder = Path.cwd()
        threading.Thread(target=self._listen, name="datagen-listener", daemon=True).start()
        while (message := self._jobs.get())[0] == "job":
            _, sys.path[:], job = message
            os.chdir(folder)  # an operator of the shard before may have left it: paths count from there
            box = self._box = EventBox(is_open=job.is_watched)
            outcome = run_job(job, partial(self._begun, job.number), box)
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()  # the process may be killed when it has nothing more to do
                sys.stderr.flush()
            self._pass_events_on(job.number, box)
            self._ended(outcome)

    def _tell(self, *message: Any) -> None:
        with self._sending:
            self._channel.send(message)

    def _begun(self, number: int, run: pykka.ActorRef[Any]) -> None:
        """Let commands through to a run, and tell how it goes."""
        with self._changing:
            self._run = run
            early, self._early = self._early, []
        for command in early:
            command()
        threading.Thread(target=self._watch, args=(run, number), name="datagen-watch", daemon=True).start()

    def _ended(self, outcome: ShardOutcome) -> None:
        with self._changing:
            self._run, early, self._early = None, self._early, []
            self._is_over.set()
        for command in early:  # nobody is left to hear them
            command()
        self._tell("ended", outcome)

    def _watch(self, run: pykka.ActorRef[Any], number: int) -> None:
        before: Any = None
        box = self._box
        with contextlib.suppress(pykka.ActorDeadError, OSError):
            while not self._is_over.is_set():
                with contextlib.suppress(pykka.Timeout):
                    status = run.ask(GetStatus(), timeout=_ANSWER_SECONDS)
                    if status != before:
                        self._tell("status", number, status)
                        before = status
                self._pass_events_on(number, box)
                self._is_over.wait(STATUS_SECONDS)

    def _pass_events_on(self, number: int, box: EventBox) -> None:
        if events := box.take():
            self._tell("events", number, events)

    def _listen(self) -> None:
        try:
            while True:
                message = self._channel.receive()
                if message[0] == "command":
                    self._command(*message[1:])
                else:
                    self._is_over.clear()
                    self._jobs.put(message)
        except (EOFError, OSError):
            os._exit(1)  # the driver has gone: nobody would start the next shard; what is committed is there

    def _command(self, number: int, command: Command) -> None:
        """Pass a command on, and send the answer: on a thread of its own, as others may come meanwhile."""

        def run() -> None:
            threading.Thread(
                target=self._carry_out, args=(number, command), name="datagen-command", daemon=True
            ).start()

        with self._changing:
            if self._run is None and not self._is_over.is_set():
                self._early.append(run)
                return
        run()

    def _carry_out(self, number: int, command: Command) -> None:
        with self._changing:
            ref = self._run
        answer: Any = None
        error: BaseException | None = None
        try:
            if ref is None:
                raise NotRunningError("the shard has ended")
            if isinstance(command, PassEventsOn):
                self._box.is_open = True
            elif isinstance(command, Cancel):
                ref.tell(command)
            else:
                answer = ref.ask(command, timeout=_ANSWER_SECONDS)
        except pykka.ActorDeadError:
            error = NotRunningError("the shard has ended")
        except Exception as failure:  # noqa: BLE001 - whatever it is, who has asked hears of it
            error = failure
        with contextlib.suppress(OSError):
            self._tell("answer", number, answer, None if error is None else (str(error), pack_error(error)))
