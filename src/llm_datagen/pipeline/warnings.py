"""Operators that have changed data of their own between calls: told as a warning, too, when the run ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_datagen.errors import OperatorWarning
from llm_datagen.errors.warned import warn
from llm_datagen.messages import OperatorLogged


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
