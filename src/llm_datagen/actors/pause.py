"""The pause gate: how a node is paused, and who waits until it is."""

from __future__ import annotations

from concurrent.futures import Future

from llm_datagen.actors.node_context import NodeContext
from llm_datagen.executors.processing import CallGate

PAUSE_SECONDS = 0.25
"""How long a node that is paused waits for its tasks to come back. Those that have not come by then are in a call, or
wait for the writer: what they had not begun was taken from them, and they begin nothing more."""


class PauseGate:
    """Whether a node is paused. Used by the node's own thread.

    Args:
        gate: what its workers check before each call.
        ctx: what its operator sees.
    """

    def __init__(self, gate: CallGate, ctx: NodeContext) -> None:
        self._gate = gate
        self._ctx = ctx
        self._waiting: list[Future[None]] = []
        self.is_on = False

    def begin(self, paused: Future[None]) -> None:
        """Let no worker begin a call; `paused` is resolved by the next `answer`."""
        self.is_on = self._gate.is_paused = True
        self._ctx.pause(True)
        self._waiting.append(paused)

    def answer(self) -> None:
        """Say to all who wait that no call begins any more."""
        waiting, self._waiting = self._waiting, []
        for paused in waiting:
            paused.set_result(None)

    def end(self) -> None:
        """Let workers begin calls again."""
        self.is_on = self._gate.is_paused = False
        self._ctx.pause(False)
        self.answer()
