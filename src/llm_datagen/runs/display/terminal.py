"""Whether a stream of text is a terminal that can be drawn on."""

from __future__ import annotations

import os
from typing import TextIO


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a table can be drawn, and drawn again, on a stream; None: it was closed before we began."""
    return stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}
