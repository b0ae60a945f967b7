"""What is told in Python's own way, too: warnings, at the line of the user's program that called the engine."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

from llm_datagen.errors import OperatorWarning
from llm_datagen.messages import OperatorLogged

_PACKAGE = __name__.partition(".")[0]


def warn(text: str, category: type[Warning]) -> None:
    """Give a warning at the nearest line that is none of this package. In the caller's thread."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


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
        texts, self._texts = self._texts, []
        for text in texts:
            warn(text, OperatorWarning)
