"""How a node ends before its source does: it begins nothing more, and waits for its calls, but not for ever."""

from __future__ import annotations

from dataclasses import dataclass

from llm_datagen.actors.dispatcher import Dispatcher
from llm_datagen.actors.mailbox import Mailbox
from llm_datagen.actors.node_context import NodeContext
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog


@dataclass(frozen=True, slots=True)
class GraceOver:
    """Timer of a node: its calls in flight were waited for long enough."""


class WindDown:
    """Ends the work of a node early. Used by the node's own thread.

    Args:
        dispatcher: has the tasks.
        ctx: what the operator sees.
        mailbox: the node's, for the timer.
        grace: seconds to wait for calls in flight.
        log: the platform log.
        is_on: whether the node has nothing more to do from its start.

    Attributes:
        is_on: whether the node ends early.
        is_given_up: whether it does not wait for its calls any more: their rows are not done.
    """

    def __init__(
        self, dispatcher: Dispatcher, ctx: NodeContext, mailbox: Mailbox, *, grace: float, log: PlatformLog, is_on: bool
    ) -> None:
        self._dispatcher = dispatcher
        self._ctx = ctx
        self._mailbox = mailbox
        self._grace = grace
        self._log = log
        self.is_on = is_on
        self.is_given_up = False

    def begin(self, *, keep_jobs: bool) -> None:
        """Begin no call any more; those in flight have the grace to end.

        Args:
            keep_jobs: whether jobs of the operator that others do go on.
        """
        if not self.is_on:
            self._mailbox.wake_after(self._grace, GraceOver(), key="grace")
        self.is_on = True
        self._ctx.cancel(keep_jobs=keep_jobs)
        self._dispatcher.take_back()

    def give_up(self) -> None:
        """Leave the calls behind that are still in flight."""
        in_flight = self._dispatcher.in_flight
        self._log.warning(events.GRACE_OVER, grace_s=self._grace, ids=[str(i) for i in in_flight.ids_begun()])
        self.is_given_up = True
        in_flight.give_up()
