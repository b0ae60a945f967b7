"""Which rows the engine has given to the call that is running, for what an operator notes of its own work."""

from __future__ import annotations

from contextvars import ContextVar

current_rows: ContextVar[tuple[int | str, ...]] = ContextVar("current_rows", default=())
"""Their ids, in an async operator's call and in the tasks that it makes; empty elsewhere."""
