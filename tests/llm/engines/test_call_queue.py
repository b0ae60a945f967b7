"""Who gets which call, and what becomes of the calls of a worker that dies: without any worker."""

from __future__ import annotations

import pytest

from llm_datagen.errors import WorkerDiedError
from llm_datagen.llm.engines.call_queue import PROBE, CallQueue
from llm_datagen.llm.engines.calls import EngineCall, EngineStoppedError


class Clock:
    """Stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def filled(
    count: int, *, room: int = 4, max_deaths: int = 9, clock: Clock | None = None
) -> tuple[CallQueue, list[EngineCall]]:
    """Return a queue with so many calls."""
    queue = CallQueue(("one", "two"), room, max_deaths=max_deaths, clock=clock or Clock())
    calls = [EngineCall({"number": number}, timeout=10.0) for number in range(count)]
    for call in calls:
        queue.put(call)
    return queue, calls


def taken(queue: CallQueue, worker: str) -> dict[int, EngineCall]:
    """Return all calls that a worker can have now."""
    found: dict[int, EngineCall] = {}
    while pair := queue.take(worker, lambda: False, waits=False):
        found[pair[0]] = pair[1]
    return found


def bodies(calls: dict[int, EngineCall]) -> list[int]:
    return [call.body["number"] for call in calls.values()]


def test_a_worker_has_as_many_calls_as_there_is_room_for_and_workers_share_the_rest() -> None:
    queue, calls = filled(7)
    one = taken(queue, "one")
    assert (bodies(one), bodies(taken(queue, "two"))) == ([0, 1, 2, 3], [4, 5, 6])
    queue.answered("one", next(iter(one)), b"{}")
    assert calls[0].future.result(0) == (b"{}", 0.0)
    late = EngineCall({"number": 7}, timeout=10.0)
    queue.put(late)
    assert bodies(taken(queue, "one")) == [7]


def test_calls_of_a_worker_that_died_are_made_alone_and_only_the_one_that_kills_again_has_failed() -> None:
    queue, calls = filled(5, room=3)
    taken(queue, "one")
    queue.died("one", "it was killed")
    for expected in (0, 1, 2):  # each alone, though there is room
        (number, call) = next(iter(taken(queue, "one").items()))
        assert (call.body["number"], bodies(taken(queue, "one"))) == (expected, [])
        if expected == 1:
            queue.died("one", "it was killed again")
            assert not call.future.done()  # not before it is shown that a worker can make a call at all
            ((number, probe),) = taken(queue, "one").items()
            assert probe.body == PROBE
            queue.answered("one", number, b"{}")
            assert call.future.done()
        else:
            queue.answered("one", number, b"{}")
    assert bodies(taken(queue, "one")) == [3, 4]
    assert [call.future.done() for call in calls] == [True, True, True, False, False]
    with pytest.raises(WorkerDiedError, match="it was killed again"):
        calls[1].future.result(0)


def test_a_worker_that_has_calls_takes_no_others_while_there_are_suspects() -> None:
    queue, _ = filled(5, room=2)
    taken(queue, "one")
    two = taken(queue, "two")
    queue.died("one", "killed")
    assert bodies(taken(queue, "two")) == []  # it finishes what it has; what kills may take nothing with it
    for number in two:
        queue.answered("two", number, b"{}")
    assert (bodies(taken(queue, "two")), bodies(taken(queue, "one"))) == ([0], [1])


def test_a_worker_that_dies_too_often_in_a_row_is_given_up_and_the_last_one_stops_all_calls() -> None:
    queue, calls = filled(8, room=1, max_deaths=2)
    assert queue.died("one", "killed")
    assert queue.died("one", "killed")
    number, _ = next(iter(taken(queue, "one").items()))
    queue.answered("one", number, b"{}")  # an answer begins a new row
    for _ in range(2):
        taken(queue, "one")
        assert queue.died("one", "killed")
    assert not queue.died("one", "killed for good")
    assert queue.stopped == ""  # there is another
    for goes_on in (True, True, False):
        taken(queue, "two")
        assert queue.died("two", "killed, too") is goes_on
    assert queue.stopped == "killed, too"
    assert queue.take("two", lambda: False) is None
    with pytest.raises(EngineStoppedError, match="killed, too"):
        queue.put(calls[0])
    assert calls[0].future.result(0).content == b"{}"
    assert all(isinstance(call.future.exception(0), EngineStoppedError) for call in calls[1:])


def test_a_late_call_has_failed_and_counts_for_the_room_until_the_worker_lets_it_go() -> None:
    clock = Clock()
    queue, calls = filled(3, room=1, clock=clock)
    (number,) = taken(queue, "one")
    clock.now += 10.0
    assert queue.overdue("one") == []
    clock.now += 0.1
    assert queue.overdue("one") == [number]
    assert isinstance(calls[0].future.exception(0), TimeoutError)
    assert queue.has_given_up("one")
    assert bodies(taken(queue, "one")) == []
    queue.answered("one", number, b"too late")
    assert not queue.has_given_up("one")
    assert bodies(taken(queue, "one")) == [1]
    calls[1].is_wanted = False
    assert len(queue.overdue("one")) == 1
    queue.died("one", "killed")  # what nobody waits for is no suspect
    assert bodies(taken(queue, "one")) == [2]


def test_what_was_cancelled_while_it_waited_is_never_handed_out() -> None:
    queue, calls = filled(2)
    assert calls[0].future.cancel()
    number, call = queue.take("one", lambda: False) or (0, calls[0])
    assert (number, call.body) == (1, {"number": 1})


def test_what_killed_a_worker_that_cannot_even_make_the_tiny_call_goes_to_another() -> None:
    queue, calls = filled(1, max_deaths=2)
    for goes_on in (True, True, False):
        taken(queue, "one")
        assert queue.died("one", "killed") is goes_on
    (number,) = taken(queue, "two")
    queue.answered("two", number, b"{}")
    assert calls[0].future.result(0).content == b"{}"
