"""What can go wrong with an answer that is streamed."""

from __future__ import annotations


class BrokenStreamError(Exception):
    """Raised when a stream is no whole answer, or cannot be read. Its text says why."""


class LateTokenError(TimeoutError):
    """Raised when a token did not come in time.

    Args:
        which: ``first`` or ``further``.
        seconds: that it had.
        option: the name of the attribute of `Stream` that says so.
    """

    def __init__(self, which: str, seconds: float, option: str) -> None:
        super().__init__(f"no {which} token within {seconds:g} s")
        self.which = which
        self.seconds = seconds
        self.option = option
