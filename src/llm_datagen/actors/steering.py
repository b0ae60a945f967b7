"""Steering: what the supervisor does with orders that change a run while it runs. All in the supervisor's thread.

An answer never waits for an operator, nor for the disk: nodes say at once, or after `HOLD_SECONDS`, that no call
begins any more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.actors.deferred_reply import when_all
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.stage import Recipient, tell
from llm_datagen.config import check_count, check_rate
from llm_datagen.errors import ConfigError
from llm_datagen.messages import PauseCalls, Reconfigure, Reconfigured, Resize, UnpauseCalls
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.runs.status import PipelineStatus

Stages = Iterable[tuple[Recipient, Recipient]]
"""The node and the reader of each node that has begun."""


ANSWER_SECONDS = 0.75
"""When a pause is answered at the latest: a node that has not heard of it by then is in its operator's `setup`, and
hears of it before it gets rows."""


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
        plans: all nodes.
        image: the image; what is changed is written into it, to be saved by the supervisor.
        log: the platform log.
    """

    def __init__(self, plans: list[OpenedNode], image: dict[str, Any], log: PlatformLog) -> None:
        self._plans = {plan.node_id: plan for plan in plans}
        self._entries = {entry["node_id"]: entry for entry in image.get("nodes", [])}
        self._log = log
        self.is_paused = False

    def begin(self, node: Recipient, reader: Recipient) -> None:
        """See to it that a node that begins while the run is paused makes no call."""
        if self.is_paused:
            tell(node, PauseCalls())
            tell(reader, PauseCalls())

    def pause(self, stages: Stages, status: PipelineStatus, answer: Future[Any]) -> None:
        """Let no call begin; answer with `status` when that is so."""
        if not self.is_paused:
            self._log.info(events.PAUSED)
        self.is_paused = True
        held: list[Future[None]] = []
        for node, reader in stages:
            tell(reader, PauseCalls())
            order = PauseCalls()
            if tell(node, order):
                held.append(order.held)
        when_all(held, PauseAnswer(answer, status).give)

    def unpause(self, stages: Stages) -> None:
        """Let calls begin again."""
        if self.is_paused:
            self._log.info(events.UNPAUSED)
        self.is_paused = False
        for node, reader in stages:
            tell(node, UnpauseCalls())
            tell(reader, UnpauseCalls())

    def reconfigure(self, order: Reconfigure, node: Recipient | None, *, is_over: bool) -> Reconfigured:
        """Change a node, and tell it if it has begun.

        Raises:
            ConfigError: when that cannot be; nothing is changed then.
        """
        try:
            plan = self._checked(order, is_over=is_over)
        except ConfigError as error:
            self._log.warning(events.REFUSED, node_id=order.node_id, error=str(error))
            raise
        plan.parallel_size = order.parallel_size or plan.parallel_size
        plan.batch_size = order.batch_size or plan.batch_size
        if order.rate is not None:
            plan.rate = order.rate or None
        changed = {"parallel_size": plan.parallel_size, "batch_size": plan.batch_size, "rate": plan.rate}
        plan.config = {**plan.config, **changed}
        if order.node_id in self._entries:
            self._entries[order.node_id].update(changed)
        self._log.info(events.RECONFIGURED, node_id=order.node_id, **changed)
        tell(node, Resize())
        return Reconfigured(order.node_id, plan.parallel_size, plan.batch_size, plan.rate)

    def _checked(self, order: Reconfigure, *, is_over: bool) -> OpenedNode:
        plan = self._plans.get(order.node_id)
        if plan is None:
            raise ConfigError(f"there is no node {order.node_id!r}; the nodes are {', '.join(self._plans)}")
        if order.parallel_size is None and order.batch_size is None and order.rate is None:
            raise ConfigError("nothing to change: say parallel_size, batch_size or rate")
        if order.parallel_size is not None:
            check_count("parallel_size", order.parallel_size)
        if order.rate:
            check_rate("rate", order.rate)
        if order.batch_size is not None:
            check_count("batch_size", order.batch_size)
            if plan.call.batch and order.batch_size != plan.batch_size:
                raise ConfigError(
                    f"the operator of {order.node_id} takes batches: which rows share a call, and the ids of what it "
                    f"makes of them, depend on batch_size={plan.batch_size}, which stays as it is for the whole run"
                )
        if is_over or plan.sink is None:
            raise ConfigError(f"{order.node_id} does not run any more: there is nothing to change")
        return plan
