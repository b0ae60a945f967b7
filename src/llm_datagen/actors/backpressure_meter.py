"""What the log says of workers that wait for a writer."""

from __future__ import annotations

import threading

from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog

BACKPRESSURE_LOG_SECONDS = 1.0
"""How often the log speaks of workers that wait, at most."""


class BackpressureMeter:
    """Says in the log when workers wait for the writer, at most once per second, and when none waits any more.

    Called by the threads that wait, several at once.
    """

    def __init__(self, log: PlatformLog, capacity: int) -> None:
        self._log = log
        self._capacity = capacity
        self._lock = threading.Lock()
        self._next_line = float("-inf")
        self._is_open = False
        self._waiting = 0
        self._waits = 0
        self._waited = 0.0

    def note(self, waited: float | None, queued: int, now: float) -> None:
        """Log that a wait begins (`waited` None) or is over, with `queued` rows in the queue."""
        with self._lock:
            self._waiting += 1 if waited is None else -1
            self._waited += waited or 0.0
            told = {"queue_rows": queued, "waited_total_s": round(self._waited, 6)}
            if waited is None:
                self._waits += 1
                if now >= self._next_line:
                    self._is_open, self._next_line = True, now + BACKPRESSURE_LOG_SECONDS
                    self._log.warning(events.BACKPRESSURE, queue_size=self._capacity, waits=self._waits, **told)
            elif self._is_open and not self._waiting:
                self._is_open = False
                self._log.info(events.BACKPRESSURE_OVER, waited_s=round(waited, 6), waits=self._waits, **told)
