"""The error allowance: how many more rows may fail. With it, workers go on after failures without asking the node."""

from __future__ import annotations

import threading
from typing import Protocol

from llm_datagen.config import SHARE_ROWS, FailurePolicy


class Allowance(Protocol):
    """What a worker asks before it goes on after a failure. Any thread."""

    def take(self, rows: int, settled: int) -> bool:
        """Return whether a worker may go on after `rows` that failed, behind `settled` others of its task."""


class ErrorAllowance:
    """What `max_errors` leaves of rows that may fail, with those whose tasks are not back yet. Any thread may use it.

    Never more rows than a number allows are taken. Of a share, no more are taken than are surely allowed: what other
    tasks have done meanwhile is not known, so what is refused here is for the node to decide.

    Args:
        policy: the node's.
        done: rows that are done, with those that failed.
        failed: rows that failed.
    """

    def __init__(self, policy: FailurePolicy, *, done: int, failed: int) -> None:
        self._policy = policy
        self._failed = failed
        self._lock = threading.Lock()
        self.done = done

    def take(self, rows: int, settled: int) -> bool:
        """Return whether `rows` may fail, and count them if so."""
        if self._policy.max_errors is None:
            return True
        with self._lock:
            failed, done = self._failed + rows, self.done + settled + rows
            is_share = isinstance(self._policy.max_errors, float)
            if is_share and done < SHARE_ROWS:
                is_allowed = failed < SHARE_ROWS
            else:
                is_allowed = not self._policy.is_exceeded(failed, done)
            if is_allowed:
                self._failed = failed
            return is_allowed

    def count(self, rows: int) -> int:
        """Count rows that failed, allowed or not; return how many there are now."""
        with self._lock:
            self._failed += rows
            return self._failed

    def give_back(self, rows: int) -> None:
        """Take back that rows failed: the process that they failed in died, and they are done again."""
        with self._lock:
            self._failed -= rows
