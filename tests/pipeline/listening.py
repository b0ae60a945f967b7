"""An actor of a user's, for tests."""

from __future__ import annotations

from typing import Any

import pykka


class Listener(pykka.ThreadingActor):
    """Keeps what it is told."""

    def __init__(self, heard: list[Any]) -> None:
        super().__init__()
        self.heard = heard

    def on_receive(self, message: Any) -> Any:
        self.heard.append(message)
