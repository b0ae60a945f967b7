"""What is done when all nodes of a run are completed, before the run is: on a thread, so that actors still answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

AtEnd = Callable[[Callable[[], bool]], Sequence[str]]
"""Does the work, given what tells whether to stop; returns what is to be told. When stopped, it raises StopRun."""


@dataclass(frozen=True, slots=True)
class EndWorkDone:
    """Fact: the work has ended."""

    notes: Sequence[str] = ()
    """What is to be told, as warnings."""
    error: BaseException | None = None
    """What it failed of."""


class EndWork:
    """The work, once. Used by the supervisor's thread.

    Args:
        work: what does it; None: there is none.

    Attributes:
        is_under_way: whether it was begun, and has not ended.
        is_done: whether nothing of it is left to do.
    """

    def __init__(self, work: AtEnd | None) -> None:
        self._work = work
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_under_way = False
        self.is_done = work is None

    def begin(self, done: Callable[[EndWorkDone], object]) -> None:
        """Begin it, unless it was begun; `done` is called at its end, on its thread."""
        work = self._work
        if work is None or self._thread is not None:
            return

        def run() -> None:
            try:
                ended = EndWorkDone(work(self._stop.is_set))
            except BaseException as error:  # noqa: BLE001 - the supervisor says what the run failed of
                ended = EndWorkDone(error=error)
            done(ended)

        self.is_under_way = True
        self._thread = threading.Thread(target=run, name="datagen-exports", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end soon."""
        self._stop.set()

    def join(self, ended: EndWorkDone) -> None:
        """Wait for its thread, which has told how it ended."""
        assert self._thread is not None
        self._thread.join()
        self.is_under_way, self.is_done = False, ended.error is None
