"""The mailbox under many threads, against a model: what was put is got once, in order, and nobody is stuck (H3, H4)."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pykka
import pytest
from pykka._envelope import Envelope

from llm_datagen.actors.mailbox import Mailbox

from ..kit.actors import Load, aside, result_of

pytestmark = pytest.mark.usefixtures("restless")

PRODUCERS = 4
LARGEST = 7


@dataclass(frozen=True, slots=True)
class Note:
    """A control message."""

    name: Any
    rows: int = 0


def produce(mailbox: Mailbox, producer: int, seed: int, count: int) -> list[Any]:
    """Put messages of all kinds; return those whose put came back. Ends when the mailbox closes."""
    rng = random.Random(seed)
    accepted: list[Any] = []
    for number in range(count):
        message: Any = Note((producer, number))
        if rng.random() < 0.8:
            message = Load(rng.randint(0, LARGEST), (producer, number))
        try:
            is_offered = isinstance(message, Load) and rng.random() < 0.3
            if not (is_offered and mailbox.offer(Envelope(message))):
                mailbox.put(Envelope(message))
        except pykka.ActorDeadError:
            return accepted
        accepted.append(message)
    return accepted


def consume(mailbox: Mailbox, seed: int, messages: int, capacity: int) -> list[Any]:
    """Get messages and release their rows, some at a time, as a writer does."""
    rng = random.Random(seed)
    found: list[Any] = []
    unreleased = 0
    for _ in range(messages):
        message = mailbox.get().message
        assert mailbox.outstanding <= max(capacity, LARGEST)
        found.append(message)
        unreleased += message.rows
        if rng.random() < 0.4 or not mailbox.has_data:
            mailbox.release(unreleased)
            unreleased = 0
    mailbox.release(unreleased)
    return found


def check_order(found: list[Any], accepted: list[list[Any]]) -> None:
    """Each lane of each producer came through whole, once, and in order."""
    lanes: dict[tuple[int, type], list[Any]] = defaultdict(list)
    for message in found:
        lanes[message.name[0], type(message)].append(message)
    for producer, messages in enumerate(accepted):
        for kind in (Load, Note):
            assert lanes[producer, kind] == [message for message in messages if type(message) is kind]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("seed", range(12))
def test_everything_that_was_put_is_got_once_in_the_order_of_its_producer(seed: int) -> None:
    """H2, H3: over tiny mailboxes; in the end nothing is held."""
    capacity, count = 1 + seed % 5, 150
    mailbox = Mailbox()
    mailbox.bound(capacity)
    consumer = aside(consume, mailbox, seed, PRODUCERS * count, capacity)
    producers = [aside(produce, mailbox, number, seed * 100 + number, count) for number in range(PRODUCERS)]

    accepted = [result_of(producer) for producer in producers]
    found = result_of(consumer)
    assert [len(messages) for messages in accepted] == [count] * PRODUCERS
    check_order(found, accepted)
    assert mailbox.outstanding == 0
    assert mailbox.empty()


@pytest.mark.sampled(8)
@pytest.mark.parametrize("seed", range(24))
def test_a_put_that_came_back_is_in_the_mailbox_and_one_that_raised_is_not(seed: int) -> None:
    """H3, H4: whenever the mailbox closes: nobody hangs, and nothing "succeeds" into a dead queue."""
    rng = random.Random(seed)
    capacity = rng.randint(1, 5)
    mailbox = Mailbox()
    mailbox.bound(capacity)
    producers = [aside(produce, mailbox, number, seed * 100 + number, 10_000) for number in range(PRODUCERS)]
    found = consume(mailbox, seed, rng.randint(0, 200), capacity)
    mailbox.close()
    while not mailbox.empty():
        found.append(mailbox.get().message)

    accepted = [result_of(producer) for producer in producers]
    check_order(found, accepted)
    assert mailbox.empty()


def test_asks_that_race_with_the_close_are_all_answered() -> None:
    """H3: each is either in the mailbox or answered with an error; none is forgotten."""
    for _ in range(100):
        mailbox = Mailbox()
        start = threading.Barrier(3)

        def ask_many(mailbox: Mailbox = mailbox, start: threading.Barrier = start) -> list[pykka.Future[Any]]:
            replies: list[pykka.Future[Any]] = [pykka.ThreadingFuture() for _ in range(5)]
            start.wait()
            for reply in replies:
                mailbox.put(Envelope("ask", reply))
            return replies

        askers = [aside(ask_many), aside(ask_many)]
        start.wait()
        mailbox.close()
        replies = [reply for asker in askers for reply in result_of(asker)]
        while not mailbox.empty():
            reply = mailbox.get().reply_to
            assert reply is not None
            reply.set("drained")
        for reply in replies:
            with contextlib.suppress(pykka.ActorDeadError):
                assert reply.get(timeout=0) == "drained"
