"""What a program is warned of: operators that changed data of their own, when the run ends; outages, at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from llm_datagen.actors.stage import Recipient, tell
from llm_datagen.errors import OperatorWarning
from llm_datagen.errors.warned import warn
from llm_datagen.messages import OperatorLogged, StatusChanged
from llm_datagen.runs.outage import OutageReport, endpoints_in_words, outage_in_words
from llm_datagen.runs.status import NodeReport, PipelineStatus, Status


class OwnStateWarnings:
    """Hears of operators that have changed data of their own between calls. Told by the pipeline's actor."""

    def __init__(self) -> None:
        self.parts: dict[str, Sequence[str]] = {}
        """What changed, by the id of the node."""
        self._texts: list[str] = []

    def tell(self, message: Any) -> None:
        """Note a message, if it is of such an operator."""
        if isinstance(message, OperatorLogged) and message.own_state:
            self.parts[message.node_id] = message.own_state
            self._texts.append(message.message)

    def warn(self) -> None:
        """Give a warning of each, once, in the caller's thread."""
        texts, self._texts = dict.fromkeys(self._texts), []  # of shards, there may be many of one operator
        for text in texts:
            warn(text, OperatorWarning)


class OutageWarnings:
    """Warns, for a run that nothing shows, that a node waits in an outage, and that it goes on: each once.

    Told by the pipeline's actor.

    Args:
        host: is told all that this is told.
    """

    def __init__(self, host: Recipient | None) -> None:
        self._host = host
        self._waiting: dict[str, OutageReport] = {}

    def tell(self, message: Any) -> None:
        """Look at the status of the run, and pass the message on."""
        if isinstance(message, StatusChanged):
            for node in message.status.nodes:
                self._look(node, message.status)
        tell(self._host, message)

    def _look(self, node: NodeReport, status: PipelineStatus) -> None:
        before = self._waiting.pop(node.node_id, None)
        if node.outage is not None:
            self._waiting[node.node_id] = node.outage
            if before is None:
                _warn(f"node {node.node_id} {outage_in_words(node.outage)}")
        elif before is not None and node.status is status.status is Status.RUNNING:  # else it ends
            _warn(f"node {node.node_id} goes on: {endpoints_in_words(before)} answers again")


def _warn(text: str) -> None:
    logging.getLogger("llm_datagen").warning(text)
