"""Requests to an object store that are cut off, as those of a process that is killed, or come in turns."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import obstore
import pytest


class CutOffError(BaseException):
    """The process is dead. No `except Exception` catches it."""


class Wire:
    """Counts the requests of this process to stores, and cuts them off.

    Args:
        at: the number of the request that is the last one, from 0; None: all are answered.
        is_sent: whether that one is carried out, and only its answer is lost.
    """

    NAMES = ("head", "get", "put", "delete")

    def __init__(self, at: int | None = None, *, is_sent: bool = False) -> None:
        self.count = 0
        self._at = at
        self._is_sent = is_sent

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Have all requests go through it."""
        for name in self.NAMES:
            patch.setattr(obstore, name, self._through(getattr(obstore, name)))

    def _through(self, request: Any) -> Any:
        def ask(*args: Any, **kwargs: Any) -> Any:
            number, self.count = self.count, self.count + 1
            if self._at is not None and number >= self._at:
                if number == self._at and self._is_sent:
                    request(*args, **kwargs)
                raise CutOffError
            return request(*args, **kwargs)

        return ask


class Turns:
    """Has some programs make their requests one at a time, in an order that is drawn by lot.

    Args:
        chance: draws.
        programs: what they are; each runs in a thread of its own.
    """

    def __init__(self, chance: random.Random, programs: list[Callable[[], None]]) -> None:
        self._chance = chance
        self._programs = programs
        self._is_on = [threading.Semaphore(0) for _ in programs]
        self._has_stopped = threading.Semaphore(0)
        self._is_over = [False] * len(programs)
        self._own = threading.local()

    def run(self, patch: pytest.MonkeyPatch) -> None:
        """Run all of them to their ends."""
        for name in Wire.NAMES:
            patch.setattr(obstore, name, self._through(getattr(obstore, name)))
        threads = [threading.Thread(target=self._run, args=(number,)) for number in range(len(self._programs))]
        for thread in threads:
            thread.start()
        while not all(self._is_over):
            left = [number for number, is_over in enumerate(self._is_over) if not is_over]
            self._is_on[self._chance.choice(left)].release()
            self._has_stopped.acquire()
        for thread in threads:
            thread.join()

    def _run(self, number: int) -> None:
        self._own.number = number
        self._is_on[number].acquire()
        try:
            self._programs[number]()
        finally:
            self._is_over[number] = True
            self._has_stopped.release()

    def _through(self, request: Any) -> Any:
        def ask(*args: Any, **kwargs: Any) -> Any:
            number = getattr(self._own, "number", None)
            if number is None:  # a thread that reads for a program
                return request(*args, **kwargs)
            self._has_stopped.release()
            self._is_on[number].acquire()
            return request(*args, **kwargs)

        return ask
