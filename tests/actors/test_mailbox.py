"""The mailbox: two lanes, a bound in rows, timers, closing (H1, H2, H3, H5, H6)."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pykka
import pytest
from pykka._envelope import Envelope

from llm_datagen import messages
from llm_datagen.actors.mailbox import Mailbox
from llm_datagen.actors.refs import ActorEndedError
from llm_datagen.messages import Bulk, Drain, EndOfSource, Finish
from llm_datagen.testing import ManualClock

from ..kit.actors import Load, SteppingClock, aside, error_of, got, put, result_of
from ..kit.support import PATIENCE_SECONDS


class Waits:
    """Takes note of who waits: a put that has said so is queued."""

    def __init__(self) -> None:
        self.began: queue.Queue[int] = queue.Queue()
        self.ended: queue.Queue[tuple[float, int]] = queue.Queue()

    def __call__(self, waited: float | None, outstanding: int) -> None:
        if waited is None:
            self.began.put(outstanding)
        else:
            self.ended.put((waited, outstanding))

    def one_waits(self) -> int:
        """Wait until one more put is blocked; return the rows that were held then."""
        return self.began.get(timeout=PATIENCE_SECONDS)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def mailbox(waits: Waits) -> Mailbox:
    """A mailbox for ten rows."""
    box = Mailbox()
    box.bound(10, waits)
    return box


def blocked_put(mailbox: Mailbox, waits: Waits, message: Any) -> Future[None]:
    """Put from the side what there is no room for; it is queued when this returns."""
    future = aside(put, mailbox, message)
    waits.one_waits()
    return future


# --- lanes ---------------------------------------------------------------------------------------------------------


def test_control_overtakes_any_amount_of_data(mailbox: Mailbox) -> None:
    """H2: Cancel is heard at once, however much data waits."""
    for number in range(10):
        put(mailbox, Load(1, number))
    put(mailbox, "cancel")
    put(mailbox, "and this")

    assert [got(mailbox), got(mailbox)] == ["cancel", "and this"]
    assert [got(mailbox).name for _ in range(10)] == list(range(10))
    assert mailbox.empty()


@pytest.mark.parametrize("end", [EndOfSource(3, 30), Finish(3, 30), Drain()])
def test_the_end_of_data_does_not_overtake_data(mailbox: Mailbox, end: Any) -> None:
    """H2: the end of data is in-band: it travels in the data lane, behind the rows."""
    put(mailbox, Load(1))
    put(mailbox, end)
    put(mailbox, "control")

    assert got(mailbox) == "control"
    assert isinstance(got(mailbox), Load)
    assert got(mailbox) is end


def test_the_end_of_data_is_never_blocked(mailbox: Mailbox, waits: Waits) -> None:
    """H5: it counts for no rows, so that an actor may put it into a full mailbox."""
    put(mailbox, Load(10))
    put(mailbox, Drain())

    assert mailbox.outstanding == 10
    assert waits.began.empty()


def test_a_mailbox_without_a_bound_takes_everything() -> None:
    """H2: nothing blocks where nobody has asked for it."""
    mailbox = Mailbox()
    for _ in range(100):
        put(mailbox, Load(1_000_000))

    assert mailbox.outstanding == 100_000_000
    assert not mailbox.empty()
    assert mailbox.has_data


# --- the bound -----------------------------------------------------------------------------------------------------


def test_rows_count_as_held_until_they_are_released(mailbox: Mailbox, waits: Waits) -> None:
    """H2, H4: rows that were taken out, and are not yet on disk, still count."""
    put(mailbox, Load(10))
    blocked = blocked_put(mailbox, waits, Load(1))
    got(mailbox)
    assert not blocked.done()
    assert mailbox.outstanding == 10

    mailbox.release(9)
    result_of(blocked)
    assert mailbox.outstanding == 2
    mailbox.release(2)
    assert mailbox.outstanding == 0


def test_a_message_that_is_larger_than_the_bound_is_admitted_alone(mailbox: Mailbox, waits: Waits) -> None:
    """H2: a batch may give more rows than the queue holds; it must not wait for ever."""
    put(mailbox, Load(1))
    large = blocked_put(mailbox, waits, Load(50, "large"))
    mailbox.release(1)
    result_of(large)
    assert mailbox.outstanding == 50

    small = blocked_put(mailbox, waits, Load(1, "small"))
    mailbox.release(50)
    result_of(small)
    assert mailbox.outstanding == 1


@dataclass(frozen=True, slots=True)
class Heavy(Bulk):
    """A row of many bytes."""

    size: int
    rows: int = 1

    @property
    def load(self) -> messages.Load:
        """What it counts for."""
        return messages.Load(self.rows, self.size)


def test_bytes_are_bounded_however_few_rows_they_are(waits: Waits) -> None:
    """M29: by what was put and not yet released; rows and bytes each by themselves."""
    box = Mailbox()
    box.bound(10, waits, size=100)
    put(box, Heavy(60))
    put(box, Heavy(40))
    blocked = blocked_put(box, waits, Heavy(1))
    got(box)
    assert not blocked.done(), "what was taken out is still in memory"
    box.release(1, 0)
    assert not blocked.done()
    assert not box.offer(Envelope(Heavy(1)))
    box.release(0, 60)
    result_of(blocked)
    assert box.offer(Envelope(Heavy(59)))
    assert not box.offer(Envelope(Heavy(1)))
    assert box.outstanding == 3


def test_a_row_of_more_bytes_than_the_bound_is_admitted_alone(waits: Waits) -> None:
    """H2: it must not wait for ever; and whoever comes behind it waits."""
    box = Mailbox()
    box.bound(10, waits, size=100)
    put(box, Heavy(1))
    large = blocked_put(box, waits, Heavy(1000))
    box.release(1, 1)
    result_of(large)
    small = blocked_put(box, waits, Heavy(1))
    box.release(1, 1000)
    result_of(small)


def test_whoever_waits_longest_goes_first_and_a_large_one_is_not_starved(mailbox: Mailbox, waits: Waits) -> None:
    """H3: puts are served in the order in which they began to wait; small ones do not slip past a large one."""
    put(mailbox, Load(10))
    large = blocked_put(mailbox, waits, Load(8, "large"))
    small = blocked_put(mailbox, waits, Load(1, "small"))
    late = blocked_put(mailbox, waits, Load(1, "late"))

    mailbox.release(5)  # room enough for the small ones
    assert not mailbox.offer(Envelope(Load(1, "pushy")))
    pushy = blocked_put(mailbox, waits, Load(1, "pushy"))
    assert mailbox.outstanding == 5
    assert not any(future.done() for future in (large, small, late, pushy))

    mailbox.release(3)
    for future in (large,):
        result_of(future)
    mailbox.release(2)
    for future in (small, late):
        result_of(future)
    mailbox.release(8)
    result_of(pushy)
    order = [got(mailbox).name for _ in range(5)]
    assert order[:2] == [None, "large"]
    assert order[2:] == ["small", "late", "pushy"]


def test_offer_takes_what_there_is_room_for_and_refuses_the_rest_without_waiting(
    mailbox: Mailbox, waits: Waits
) -> None:
    """H5: a thread that must not be blocked, such as an event loop, can try."""
    assert mailbox.offer(Envelope(Load(9, "first")))
    assert not mailbox.offer(Envelope(Load(2, "too much")))
    assert mailbox.offer(Envelope(Load(1, "last")))
    assert mailbox.outstanding == 10
    mailbox.release(10)
    assert mailbox.offer(Envelope(Load(11, "large")))

    assert [got(mailbox).name for _ in range(3)] == ["first", "last", "large"]
    assert waits.began.empty()


def test_an_offer_does_not_slip_past_those_who_wait(mailbox: Mailbox, waits: Waits) -> None:
    """H3: else a busy event loop would starve the threads."""
    put(mailbox, Load(10))
    blocked = blocked_put(mailbox, waits, Load(9, "waits"))
    mailbox.release(5)
    assert not mailbox.offer(Envelope(Load(1, "offered")))
    mailbox.release(5)
    result_of(blocked)


def test_an_offer_wakes_the_actor(mailbox: Mailbox) -> None:
    """H6: a get that waits sees it at once."""
    waiting = aside(got, mailbox)
    assert mailbox.offer(Envelope(Load(1, "here")))
    assert result_of(waiting).name == "here"


# --- waiting is told -----------------------------------------------------------------------------------------------


def test_a_wait_is_told_when_it_begins_and_when_it_is_over() -> None:
    """M28: once each, with the rows held; the seconds are those of the clock."""
    told: list[tuple[float | None, int]] = []
    clock = ManualClock()
    mailbox = Mailbox()
    mailbox.clock = clock
    began = threading.Event()

    def on_wait(waited: float | None, outstanding: int) -> None:
        told.append((waited, outstanding))
        began.set()

    mailbox.bound(2, on_wait)
    put(mailbox, Load(2))
    assert told == []
    blocked = aside(put, mailbox, Load(1))
    assert began.wait(PATIENCE_SECONDS)
    clock.advance(1.5)
    mailbox.release(2)
    result_of(blocked)
    assert told == [(None, 2), (1.5, 1)]


def test_a_wait_is_told_outside_of_the_lock() -> None:
    """H3: a slow disk under the log must not stop the actor and all its peers."""
    mailbox = Mailbox()
    seen: list[int] = []

    def on_wait(waited: float | None, outstanding: int) -> None:
        put(mailbox, "from the listener")  # would deadlock with the lock held
        assert not mailbox.offer(Envelope(Load(1))) or waited is not None
        seen.append(outstanding)
        if waited is None:
            mailbox.release(1)

    mailbox.bound(1, on_wait)
    put(mailbox, Load(1))
    result_of(aside(put, mailbox, Load(1)))
    assert len(seen) == 2


def test_a_listener_that_fails_blocks_nobody_else() -> None:
    """H3: a put that raises has let go of its place in the queue."""
    mailbox = Mailbox()
    fails = [True]

    def on_wait(waited: float | None, outstanding: int) -> None:
        if fails[0]:
            fails[0] = False
            raise OSError("the log's disk is full")

    mailbox.bound(1, on_wait)
    put(mailbox, Load(1))
    assert isinstance(error_of(aside(put, mailbox, Load(1, "lost"))), OSError)
    next_one = aside(put, mailbox, Load(1, "next"))
    mailbox.release(1)
    result_of(next_one)
    assert [got(mailbox).name, got(mailbox).name] == [None, "next"]


# --- closing -------------------------------------------------------------------------------------------------------


def test_closing_frees_everyone_who_is_blocked(mailbox: Mailbox, waits: Waits) -> None:
    """H3: with a plain bounded queue, six of eight blocked producers hung for ever."""
    put(mailbox, Load(10))
    blocked = [blocked_put(mailbox, waits, Load(1, number)) for number in range(8)]
    mailbox.close()

    assert [type(error_of(future)) for future in blocked] == [ActorEndedError] * 8
    assert mailbox.outstanding == 10
    got(mailbox)
    assert mailbox.empty()


def test_a_blocked_ask_is_answered_when_the_mailbox_closes(mailbox: Mailbox, waits: Waits) -> None:
    """H3: whoever asked with data, and was blocked, gets an error as the answer; the put itself returns."""
    put(mailbox, Load(10))
    reply: pykka.Future[Any] = pykka.ThreadingFuture()
    blocked = aside(put, mailbox, Load(1), reply)
    waits.one_waits()
    mailbox.close()
    result_of(blocked)
    with pytest.raises(pykka.ActorDeadError):
        reply.get(timeout=0)


def test_a_closed_mailbox_refuses_a_tell_and_answers_an_ask(mailbox: Mailbox) -> None:
    """H3, H4: no message vanishes without a word."""
    mailbox.close()
    for message in ("control", Load(1), Load(0)):
        with pytest.raises(pykka.ActorDeadError):
            put(mailbox, message)
        reply: pykka.Future[Any] = pykka.ThreadingFuture()
        put(mailbox, message, reply)
        with pytest.raises(pykka.ActorDeadError):
            reply.get(timeout=0)
    with pytest.raises(pykka.ActorDeadError):
        mailbox.offer(Envelope(Load(1)))
    offered: pykka.Future[Any] = pykka.ThreadingFuture()
    mailbox.offer(Envelope(Load(1), offered))
    with pytest.raises(pykka.ActorDeadError):
        offered.get(timeout=0)
    assert mailbox.empty()
    assert mailbox.outstanding == 0


def test_what_is_in_a_closed_mailbox_can_still_be_got(mailbox: Mailbox) -> None:
    """H3: the drain answers the asks and takes note of the rest."""
    put(mailbox, Load(1, "data"))
    put(mailbox, "control")
    mailbox.close()
    mailbox.close()
    assert got(mailbox) == "control"
    assert got(mailbox).name == "data"
    assert mailbox.empty()


def test_a_closed_mailbox_has_no_timers(mailbox: Mailbox) -> None:
    """H6: the drain gets messages, not wakes."""
    mailbox.wake_after(0, "wake")
    put(mailbox, Load(1, "data"))
    mailbox.close()
    assert got(mailbox).name == "data"


# --- timers --------------------------------------------------------------------------------------------------------


@pytest.fixture
def timed() -> tuple[Mailbox, SteppingClock]:
    mailbox, clock = Mailbox(), SteppingClock()
    mailbox.clock = clock
    return mailbox, clock


def test_timers_are_served_when_they_are_due_in_the_order_in_which_they_are(
    timed: tuple[Mailbox, SteppingClock],
) -> None:
    """H6: an actor can wait for time and for messages at once."""
    mailbox, clock = timed
    mailbox.wake_after(3, "third", "c")
    mailbox.wake_after(1, "first", "a")
    mailbox.wake_after(2, "second", "b")
    clock.advance(3)
    assert [got(mailbox) for _ in range(3)] == ["first", "second", "third"]


def test_a_get_sleeps_until_the_next_timer(timed: tuple[Mailbox, SteppingClock]) -> None:
    """H6: without a thread, and without looking again and again."""
    mailbox, clock = timed
    mailbox.wake_after(5, "later", "b")
    mailbox.wake_after(1, "soon", "a")
    waiting = aside(got, mailbox)
    clock.advance(0.5)
    assert not waiting.done()
    clock.advance(0.5)
    assert result_of(waiting) == "soon"
    clock.advance(4)
    assert got(mailbox) == "later"


def test_a_message_wakes_a_get_that_waits_for_a_timer(timed: tuple[Mailbox, SteppingClock]) -> None:
    """H6: an actor with a timer is not deaf."""
    mailbox, _ = timed
    mailbox.wake_after(1000, "wake")
    waiting = aside(got, mailbox)
    put(mailbox, "cancel")
    assert result_of(waiting) == "cancel"


def test_a_timer_replaces_the_one_of_the_same_key(timed: tuple[Mailbox, SteppingClock]) -> None:
    """H6: no stale wake is ever seen."""
    mailbox, clock = timed
    mailbox.wake_after(1, "stale", "flush")
    mailbox.wake_after(2, "fresh", "flush")
    mailbox.wake_after(1.5, "other", "report")
    clock.advance(10)
    put(mailbox, Load(0, "data"))
    assert [got(mailbox), got(mailbox), got(mailbox).name] == ["other", "fresh", "data"]


def test_a_timer_that_was_due_and_replaced_is_not_seen(timed: tuple[Mailbox, SteppingClock]) -> None:
    """H6: also when its time had come, but nobody had looked."""
    mailbox, clock = timed
    mailbox.wake_after(1, "stale")
    clock.advance(5)
    mailbox.wake_after(1, "fresh")
    put(mailbox, Load(0, "data"))
    assert got(mailbox).name == "data"
    clock.advance(1)
    assert got(mailbox) == "fresh"


def test_a_timer_that_was_cancelled_is_not_seen(timed: tuple[Mailbox, SteppingClock]) -> None:
    """H6: cancelling one that is not there is nothing."""
    mailbox, clock = timed
    mailbox.wake_after(1, "stale", "flush")
    clock.advance(2)
    mailbox.cancel_wake("flush")
    mailbox.cancel_wake("flush")
    put(mailbox, Load(0, "data"))
    assert got(mailbox).name == "data"
    assert mailbox.empty()


def test_a_timer_that_is_due_is_served_before_data_and_after_control(timed: tuple[Mailbox, SteppingClock]) -> None:
    """H6: data that never ends must not hold up a flush."""
    mailbox, clock = timed
    put(mailbox, Load(1, "data"))
    put(mailbox, "control")
    mailbox.wake_after(0, "wake")
    assert [got(mailbox), got(mailbox), got(mailbox).name] == ["control", "wake", "data"]
    assert clock.monotonic() == 0


# --- with an actor -------------------------------------------------------------------------------------------------


class Deaf(pykka.ThreadingActor):
    """A plain Pykka actor with our mailbox, which is busy until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.inbox = self.actor_inbox
        assert isinstance(self.inbox, Mailbox)
        self.inbox.bound(1)
        self.is_busy = threading.Event()
        self.let_go = threading.Event()

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        return Mailbox()

    def on_receive(self, message: Any) -> Any:
        if message == "be busy":
            self.is_busy.set()
            self.let_go.wait(PATIENCE_SECONDS)
        return message


def test_stop_and_ask_with_a_timeout_do_not_block_on_a_full_mailbox() -> None:
    """H2: with a bounded queue they block in `put`, which no timeout covers."""
    ref = Deaf.start()
    actor = ref._actor_weakref()
    assert actor is not None
    ref.tell("be busy")
    assert actor.is_busy.wait(PATIENCE_SECONDS)
    ref.tell(Load(1))

    def impatient() -> str:
        with pytest.raises(pykka.Timeout):
            ref.ask("status", timeout=0.001)
        later = ref.ask("status", block=False)
        with pytest.raises(pykka.Timeout):
            ref.stop(timeout=0.001)
        stopped = ref.stop(block=False)
        actor.let_go.set()
        assert later.get(timeout=PATIENCE_SECONDS) == "status"
        assert stopped.get(timeout=PATIENCE_SECONDS)
        return "came back"

    assert result_of(aside(impatient)) == "came back"
    assert not ref.is_alive()


def test_a_mailbox_may_be_bounded_after_the_ref_was_made() -> None:
    """H1: the ref copies the inbox in `__init__`; ours is bounded in place, so actor and ref share it."""
    ref = Deaf.start()
    actor = ref._actor_weakref()
    assert actor is not None
    assert ref.actor_inbox is actor.actor_inbox
    ref.stop()
