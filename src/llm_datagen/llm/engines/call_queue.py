"""The calls of an engine that wait for a worker, and who gets which: any thread may use it.

A worker that dies takes nobody with it. Its calls are suspects then: each is made once more, by a worker that has
nothing else to do meanwhile. One that kills its worker again has failed, once that worker, started again, has answered
a tiny call: so the fault is not the worker's. One that cannot even do that is given up, and what it had goes to others;
when all are, no call is made any more, and no row is to blame.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import InvalidStateError
from dataclasses import dataclass, field

from llm_datagen.errors import WorkerDiedError
from llm_datagen.llm.engines.calls import EngineCall, EngineStoppedError, Outcome

PROBE = {"messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}
"""The tiny call."""
_PROBE_SECONDS = 600.0


@dataclass(eq=False, slots=True)
class _WorkerState:
    """What a worker has to do.

    Attributes:
        taken: the calls that it has, by their numbers.
        given_up: numbers of calls that it has, and nobody waits for any more.
        convicted: calls that killed it while it had no other, and how it ended.
        probe: the tiny call that it has to make first; None for none.
        deaths: how often in a row it died, without an answer in between.
        is_gone: whether it is not started again.
    """

    taken: dict[int, EngineCall] = field(default_factory=dict)
    given_up: set[int] = field(default_factory=set)
    convicted: list[tuple[EngineCall, str]] = field(default_factory=list)
    probe: EngineCall | None = None
    deaths: int = 0
    is_gone: bool = False

    @property
    def is_busy(self) -> bool:
        return bool(self.taken or self.given_up)


class CallQueue:
    """Hands calls to workers.

    Args:
        workers: the workers, by whatever stands for them.
        room: calls that a worker may have at once: those that it computes, and those that it takes next.
        max_deaths: deaths in a row, without an answer in between, after which a worker is given up.
        clock: returns monotonic seconds.

    Attributes:
        stopped: why no call is made any more; empty: they are made.
    """

    def __init__(
        self,
        workers: Iterable[Hashable],
        room: int,
        *,
        max_deaths: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._states = {worker: _WorkerState() for worker in workers}
        self._room = room
        self._max_deaths = max_deaths
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[EngineCall] = deque()
        self._suspects: deque[EngineCall] = deque()
        self._numbers = 0
        self.stopped = ""

    def put(self, call: EngineCall) -> None:
        """Add a call; its future gets what comes of it.

        Raises:
            EngineStoppedError: when no call is made any more.
        """
        with self._changed:
            if self.stopped:
                raise EngineStoppedError(self.stopped)
            self._waiting.append(call)
            self._changed.notify_all()

    def take(
        self, worker: Hashable, is_over: Callable[[], bool], *, waits: bool = True
    ) -> tuple[int, EngineCall] | None:
        """Return a call for a worker, with a number that stands for it; wait for one.

        Args:
            worker: the worker; it must be ready.
            is_over: whether it takes no calls any more: then None is returned. Looked at when something `changed`.
            waits: whether it waits for a call; else None is returned when there is none.
        """
        with self._changed:
            state = self._states[worker]
            while not is_over() and not self.stopped:
                call = self._next(state)
                # Once it runs, a future cannot be cancelled: then `is_wanted` tells.
                if call is not None and (call.is_wanted if call.deaths else call.future.set_running_or_notify_cancel()):
                    self._numbers += 1
                    call.sent = self._clock()
                    state.taken[self._numbers] = call
                    return self._numbers, call
                if call is None and not waits:
                    return None
                if call is None:
                    self._changed.wait()
        return None

    def _next(self, state: _WorkerState) -> EngineCall | None:
        if state.probe is not None or self._suspects:
            if state.is_busy:
                return None
            probe, state.probe = state.probe, None
            return probe or self._suspects.popleft()
        is_alone = any(each.deaths for each in state.taken.values())
        has_room = len(state.taken) + len(state.given_up) < self._room and not is_alone
        return self._waiting.popleft() if self._waiting and has_room else None

    def answered(self, worker: Hashable, number: int, content: bytes | None) -> None:
        """Take what a worker answered; None: it has dropped the call."""
        with self._changed:
            state = self._states[worker]
            state.deaths = 0
            state.given_up.discard(number)
            call = state.taken.pop(number, None)
            convicted, state.convicted = state.convicted, []
            self._changed.notify_all()
        for each, how in convicted:
            each.future.set_exception(WorkerDiedError(how))
        if call is not None and content is not None:
            call.future.set_result(Outcome(content, self._clock() - call.sent))

    def overdue(self, worker: Hashable) -> list[int]:
        """Return the calls that a worker has had for too long, or nobody waits for; they have failed.

        They count for its room until it has answered or dropped them.
        """
        now = self._clock()
        with self._changed:
            state = self._states[worker]
            late = {
                number: call
                for number, call in state.taken.items()
                if now - call.sent > call.timeout or not call.is_wanted
            }
            for number in late:
                del state.taken[number]
            state.given_up.update(late)
        for call in late.values():
            call.future.set_exception(TimeoutError())
        return list(late)

    def has_given_up(self, worker: Hashable) -> bool:
        """Return whether a worker still has calls that nobody waits for any more."""
        return bool(self._states[worker].given_up)

    def died(self, worker: Hashable, how: str) -> bool:
        """Take back the calls of a worker that died, and return whether it is to be started again.

        Args:
            worker: the worker; started again, it is the same one.
            how: what is said of its end.
        """
        with self._changed:
            state = self._states[worker]
            calls = [each for each in state.taken.values() if each.is_wanted]
            state.taken.clear()
            state.given_up.clear()
            state.deaths += 1
            for call in calls:
                call.deaths += 1
                if call.deaths == 1:
                    self._suspects.append(call)
                elif call.body is not PROBE:
                    state.convicted.append((call, how))
            if state.deaths > self._max_deaths:
                state.is_gone = True
                self._suspects += [each for each, _ in state.convicted]
                state.convicted.clear()
            elif state.convicted:
                state.probe = EngineCall(PROBE, _PROBE_SECONDS, deaths=1)
            is_gone = state.is_gone
            are_all_gone = all(each.is_gone for each in self._states.values())
            self._changed.notify_all()
        if are_all_gone:
            self.stop(how)
        return not is_gone

    def stop(self, why: str) -> None:
        """Make no call any more: those that wait, and that workers have, fail. May be called more than once."""
        with self._changed:
            self.stopped = self.stopped or why
            calls = [*self._waiting, *self._suspects]
            for state in self._states.values():
                calls += [*state.taken.values(), *(each for each, _ in state.convicted)]
                state.taken.clear()
                state.convicted.clear()
            self._waiting.clear()
            self._suspects.clear()
            self._changed.notify_all()
        for call in calls:
            with contextlib.suppress(InvalidStateError):  # it was cancelled, perhaps just now
                call.future.set_exception(EngineStoppedError(self.stopped))

    def changed(self) -> None:
        """Have every `take` look again."""
        with self._changed:
            self._changed.notify_all()
