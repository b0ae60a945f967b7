"""Control: what the supervisor does with commands that change a run while it runs. All in the supervisor's thread.

An answer never waits for an operator, nor for the disk: nodes say at once, or after `PAUSE_SECONDS`, that no call
begins any more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.actors.change_check import check_change
from llm_datagen.actors.deferred_reply import when_all
from llm_datagen.actors.mailbox import Mailbox
from llm_datagen.actors.node_stages import NodeStages
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.running_nodes import RunningNodes
from llm_datagen.actors.stage import tell
from llm_datagen.errors import ConfigError, NotRunningError
from llm_datagen.messages import (
    EndSooner,
    GiveAway,
    Pause,
    PauseCalls,
    Reconfigure,
    Reconfigured,
    Resize,
    Unpause,
    UnpauseCalls,
)
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.runs.state_file import change_settings
from llm_datagen.runs.status import PipelineStatus

ANSWER_SECONDS = 0.75
"""When a pause is answered at the latest: a node that has not answered by then is in its operator's `setup`, and
gets it before any rows."""


@dataclass(frozen=True, slots=True)
class PauseAnswer:
    """Timer: a pause must be answered now."""

    answer: Future[Any] = field(repr=False)
    status: PipelineStatus

    def give(self) -> None:
        """Answer, unless that was done. Any thread."""
        with contextlib.suppress(InvalidStateError):
            self.answer.set_result(self.status)


class PauseControl:
    """Whether a run is paused, and how its nodes are changed.

    Args:
        opened_nodes: all nodes.
        nodes: those of them that have begun.
        saved_state: the saved run state; changes are written into it, and saved by the supervisor.
        mailbox: the supervisor's, for timers.
        log: the platform log.
    """

    def __init__(
        self,
        opened_nodes: list[OpenedNode],
        nodes: RunningNodes,
        saved_state: dict[str, Any],
        mailbox: Mailbox,
        log: PlatformLog,
    ) -> None:
        self._nodes = nodes
        self._mailbox = mailbox
        self._opened_nodes = {opened.node_id: opened for opened in opened_nodes}
        self._entries = {entry["node_id"]: entry for entry in saved_state.get("nodes", [])}
        self._log = log
        self.is_paused = False

    def begin(self, stages: NodeStages) -> None:
        """Pause a node that begins while the run is paused."""
        if self.is_paused:
            tell(stages.node, PauseCalls())
            tell(stages.reader, PauseCalls())

    def do(
        self,
        command: Pause | Unpause | Reconfigure | GiveAway,
        answer: Future[Any],
        *,
        is_running: bool,
        told: Callable[[], PipelineStatus],
    ) -> None:
        """Carry out a command, and resolve its answer: at once, or when all nodes are paused.

        Args:
            command: the command.
            answer: gets the status, what was changed, or whether rows were given away.
            is_running: whether the run goes on; else it ends, and no call begins.
            told: tells how things are, and returns that. Who gets the answer of a command may ask for the status next.

        Raises:
            ConfigError: when a node cannot be changed so; nothing is changed then.
        """
        match command:
            case Pause() if is_running:
                self._pause(told, answer)
            case Unpause() if is_running:
                self._unpause()
                answer.set_result(told())
            case GiveAway():
                # The reader of the input answers, if there is one; when it may end sooner, after that is saved.
                reader = self._nodes.reader_of_part() if is_running else None
                if not tell(reader, EndSooner(command.row, command.at, answer)):
                    answer.set_result(False)
            case Reconfigure():
                answer.set_result(self._reconfigure(command, is_running=is_running))
            case _:
                answer.set_result(told())

    def _pause(self, told: Callable[[], PipelineStatus], answer: Future[Any]) -> None:
        """Let no call begin; answer with the status when that is so."""
        if not self.is_paused:
            self._log.info(events.PAUSED)
        self.is_paused = True
        status = told()
        self._mailbox.wake_after(ANSWER_SECONDS, PauseAnswer(answer, status), key=f"answer {id(answer)}")
        paused: list[Future[None]] = []
        for stages in self._nodes:
            tell(stages.reader, PauseCalls())
            command = PauseCalls()
            if tell(stages.node, command):
                paused.append(command.paused)
        when_all(paused, PauseAnswer(answer, status).give)

    def _unpause(self) -> None:
        """Let calls begin again."""
        if self.is_paused:
            self._log.info(events.UNPAUSED)
        self.is_paused = False
        for stages in self._nodes:
            tell(stages.node, UnpauseCalls())
            tell(stages.reader, UnpauseCalls())

    def _reconfigure(self, command: Reconfigure, *, is_running: bool) -> Reconfigured:
        """Change a node, and tell it if it has begun."""
        stages = self._nodes.get(command.node_id)
        is_over = not is_running or (stages is not None and "node" in stages.ended)
        try:
            opened = self._checked(command, is_over=is_over)
        except ConfigError as error:
            self._log.warning(events.REFUSED, node_id=command.node_id, error=str(error))
            raise
        opened.parallel_size = command.parallel_size or opened.parallel_size
        opened.batch_size = command.batch_size or opened.batch_size
        if command.rate is not None:
            opened.rate = command.rate or None
        changed = {"parallel_size": opened.parallel_size, "batch_size": opened.batch_size, "rate": opened.rate}
        opened.config = {**opened.config, **changed}
        if command.node_id in self._entries:
            change_settings(self._entries[command.node_id], changed)
        self._log.info(events.RECONFIGURED, node_id=command.node_id, **changed)
        if stages is not None:
            tell(stages.node, Resize())
        return Reconfigured(command.node_id, opened.parallel_size, opened.batch_size, opened.rate)

    def _checked(self, command: Reconfigure, *, is_over: bool) -> OpenedNode:
        nodes = self._opened_nodes
        batched = {node_id for node_id, opened in nodes.items() if opened.call.batch}
        check_change(command, {node_id: opened.batch_size for node_id, opened in nodes.items()}, batched)
        opened = nodes[command.node_id]
        if is_over or opened.sink is None:
            raise NotRunningError(f"{command.node_id} does not run any more: there is nothing to change")
        return opened
