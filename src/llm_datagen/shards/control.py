"""Commands that change a run in shards while it runs: they are passed on to all shards that run.

Shards may be slow to answer: threads of a pool ask them. All else is done in the supervisor's thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pykka

from llm_datagen.actors.control import ANSWER_SECONDS, PauseAnswer
from llm_datagen.actors.deferred_reply import when_all
from llm_datagen.actors.mailbox import Mailbox
from llm_datagen.actors.refs import ActorEndedError
from llm_datagen.errors import DatagenError, NotRunningError
from llm_datagen.messages import GiveAway, Pause, Reconfigure, Unpause
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.runs.status import PipelineStatus
from llm_datagen.shards.executor import Command, ShardHandle
from llm_datagen.shards.limits import Limits

_THREADS = 16
"""How many shards are told something at once."""


@dataclass(frozen=True, slots=True)
class Changed:
    """From a thread of the pool: the shards that run have taken a change of a node over."""

    command: Reconfigure
    answer: Future[Any] = field(repr=False)


class ShardControl:
    """Whether a run in shards is paused, and what its shards are told.

    Args:
        limits: what may be changed while they run.
        supervisor: is told `Changed`.
        mailbox: the supervisor's, for timers.
        log: the platform log.

    Attributes:
        is_paused: whether no shard may be begun, as the run is paused.
    """

    def __init__(self, limits: Limits, supervisor: pykka.ActorRef[Any], mailbox: Mailbox, log: PlatformLog) -> None:
        self._limits, self._supervisor, self._mailbox, self._log = limits, supervisor, mailbox, log
        self._pool = ThreadPoolExecutor(_THREADS, "datagen-shard-commands")
        self.is_paused = False

    def do(
        self,
        command: Pause | Unpause | Reconfigure | GiveAway,
        answer: Future[Any],
        handles: Collection[ShardHandle],
        *,
        is_running: bool,
        told: Callable[[], PipelineStatus],
    ) -> None:
        """Carry out a command, and resolve its answer: at once, or when all shards have answered.

        Args:
            command: the command.
            answer: gets the status, or what was changed.
            handles: the shards that run.
            is_running: whether the run goes on; else it ends, and no shard is begun.
            told: tells how things are, and returns that. Who gets the answer of a command may ask for the status next.
        """
        match command:
            case Pause() if is_running:
                self._pause(told, answer, handles)
            case Unpause() if is_running:
                if self.is_paused:
                    self._log.info(events.UNPAUSED)
                self.is_paused = False
                self.send(command, handles)
                answer.set_result(told())
            case Reconfigure():
                self._reconfigure(command, answer, handles, is_running=is_running)
            case GiveAway():  # it is for a shard
                answer.set_result(False)
            case _:
                answer.set_result(told())

    def changed(self, message: Changed) -> None:
        """Change a node for the shards that begin from now on."""
        try:
            message.answer.set_result(self._limits.change(message.command))
        except BaseException as error:  # the disk is full, say: the caller hears of it, too
            message.answer.set_exception(error)
            raise

    def send(self, command: Command, handles: Collection[ShardHandle]) -> list[Future[None]]:
        """Pass a command on to shards; what they answer is not waited for."""
        return [self._pool.submit(_told, handle, command) for handle in handles]

    def close(self) -> None:
        """Wait until nothing is passed on any more."""
        self._pool.shutdown()

    def _pause(self, told: Callable[[], PipelineStatus], answer: Future[Any], handles: Collection[ShardHandle]) -> None:
        """Have no call begin; answer with the status when that is so, or at the latest after `ANSWER_SECONDS`."""
        if not self.is_paused:
            self._log.info(events.PAUSED)
        self.is_paused = True
        status = told()
        self._mailbox.wake_after(ANSWER_SECONDS, PauseAnswer(answer, status), key=f"answer {id(answer)}")
        when_all(self.send(Pause(), handles), PauseAnswer(answer, status).give)

    def _reconfigure(
        self, command: Reconfigure, answer: Future[Any], handles: Collection[ShardHandle], *, is_running: bool
    ) -> None:
        try:
            self._limits.check(command, is_running=is_running)
        except DatagenError as error:
            self._log.warning(events.REFUSED, node_id=command.node_id, error=str(error))
            answer.set_exception(error)
            return
        self._pool.submit(self._pass_change_on, command, list(handles), answer)

    def _pass_change_on(self, command: Reconfigure, handles: Collection[ShardHandle], answer: Future[Any]) -> None:
        """Change a node in all shards that run. On a thread of the pool."""
        for handle in handles:
            try:
                handle.send(self._limits.of_shard(command))
            except NotRunningError:  # it has ended
                continue
            except Exception as error:  # noqa: BLE001 - of any executor: the caller gets it
                answer.set_exception(error)
                return
        try:
            self._supervisor.tell(Changed(command, answer))
        except pykka.ActorDeadError:
            answer.set_exception(ActorEndedError("the run has ended"))


def _told(handle: ShardHandle, command: Command) -> None:
    """Tell a shard a command. One that has ended, or does not answer, does what it does."""
    with contextlib.suppress(DatagenError):
        handle.send(command)
