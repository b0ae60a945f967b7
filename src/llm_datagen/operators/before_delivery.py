"""What is done before the results of calls go on: an operator's own files are written once for many rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

Step = Callable[[], Awaitable[None]]
"""What is done. It is called on the event loop of the calls, once for all of them; it must not raise."""

before_delivery: ContextVar[Callable[[Step], None] | None] = ContextVar("before_delivery", default=None)
"""Takes a step that is done before the result of the call that is running is delivered, and so before it is committed.

None where nobody does it: then the call does it itself.
"""
