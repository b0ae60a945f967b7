"""Hooks that record their calls."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

from llm_datagen.runs.hooks import HOOK_NAMES, DefaultPipelineHooks


class HookCall(NamedTuple):
    """A hook that was called."""

    name: str
    """Such as ``on_node_progress``."""
    args: tuple[Any, ...]


class RecordingHooks(DefaultPipelineHooks):
    """Hooks that record every call, in order. Any thread may read them."""

    def __init__(self) -> None:
        self._calls: list[HookCall] = []
        self._changed = threading.Condition()

    def __getattribute__(self, name: str) -> Any:
        if name not in HOOK_NAMES:
            return super().__getattribute__(name)

        def note(*args: Any) -> None:
            with self._changed:
                self._calls.append(HookCall(name, args))
                self._changed.notify_all()

        return note

    @property
    def calls(self) -> list[HookCall]:
        """All calls so far."""
        with self._changed:
            return list(self._calls)

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of all calls of one hook, such as ``"on_node_error"``."""
        return [args for called, args in self.calls if called == name]

    def wait_for(self, name: str, *, count: int = 1, timeout: float = 10.0) -> list[tuple[Any, ...]]:
        """Wait until a hook was called `count` times; return the arguments of its calls.

        Raises:
            TimeoutError: when it was not within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while sum(call.name == name for call in self._calls) < count:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise TimeoutError(f"{name} was not called {count} times within {timeout} s")
        return self.of(name)
