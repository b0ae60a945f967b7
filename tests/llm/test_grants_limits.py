"""A limit over several processes, in simulated time: no minute of the endpoint's own holds more than it allows."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from llm_datagen.llm.grants import account_file
from llm_datagen.llm.grants.account_file import AccountFile, Accounts
from llm_datagen.llm.grants.client import GrantsClient
from llm_datagen.llm.grants.limit_account import LimitAccount
from llm_datagen.llm.grants.messages import LimitAsk
from llm_datagen.llm.grants.units import Caps, Units
from llm_datagen.llm.limits import shared
from llm_datagen.llm.limits.limiter import Limits
from llm_datagen.llm.limits.permit import CallOutcome, Permit, Waiter
from llm_datagen.llm.limits.sliding_window import WINDOW_SECONDS

LONGEST_CALL = 5.0


@dataclass
class World:
    """Time, the endpoint's account, and the service with its file."""

    dice: random.Random
    loses: float = 0.0  # the share of messages, and of answers, that are lost
    now: float = 0.0
    booked: list[tuple[float, int]] = field(default_factory=list)
    messages: int = 0

    def __post_init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()
        self._clock_of_service = self.dice.uniform(0, 1e6)
        self._file: list[bytes] = []
        self.account = LimitAccount(window=WINDOW_SECONDS)
        self.is_up = True

    def at(self, when: float, do: Callable[[], object]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), do))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, do = heapq.heappop(self._events)
            do()

    def exchange(self, ask: LimitAsk) -> Any:
        """Be the service: what is granted is in the file before it is answered."""
        self.messages += 1
        now = self.now + self._clock_of_service
        answer = self.account.exchange(ask, now)
        news = self.account.silenced() + [ask.holder] * (answer.granted != ask.known)
        self._file += [orjson.dumps([name, now, self.account.state(name)], default=list) for name in news]
        return answer

    def kill_service(self, seconds: float) -> None:
        self.is_up = False

        def start() -> None:
            self.account = LimitAccount(window=WINDOW_SECONDS)
            for holder, then, state in map(orjson.loads, self._file):
                self.account.restore(holder, state, then, self.now + self._clock_of_service)
            self.is_up = True

        self.at(self.now + seconds, start)

    def fullest_minute(self) -> tuple[int, int]:
        booked = sorted(self.booked)
        requests = tokens = most_requests = most_tokens = first = 0
        for when, used in booked:
            requests, tokens = requests + 1, tokens + used
            while booked[first][0] <= when - 60.0:
                requests, tokens, first = requests - 1, tokens - booked[first][1], first + 1
            most_requests, most_tokens = max(most_requests, requests), max(most_tokens, tokens)
        return most_requests, most_tokens


class Process:
    """Makes calls, as many as wait; and does what `GrantsClient` does with its thread."""

    def __init__(self, world: World, limits: Limits, *, calls: Callable[[], tuple[int, int]]) -> None:
        self.world = world
        self._offset = world.dice.uniform(0, 1e6)
        self.shared = shared.SharedLimiter("scope", cast(GrantsClient, self), clock=self.clock)
        self.shared.join(limits, LONGEST_CALL)
        self._calls = calls
        self._looks = 0
        self._is_woken = self._is_asking = False
        self._backoff = 0.0
        self.is_alive = True
        self.waiting = 0

    def clock(self) -> float:
        return self.world.now + self._offset

    def add(self, _source: object) -> None: ...

    def remove(self, _source: object) -> None: ...

    def wake(self) -> None:
        if not self._is_woken and not self._is_asking:
            self._is_woken = True
            self._look_at(self.world.now)

    def _look_at(self, when: float) -> None:
        """Look then, and not when else was said."""
        self._looks += 1
        looks = self._looks

        def look() -> None:
            if looks == self._looks:
                self._look()

        self.world.at(when, look)

    def arrive(self, number: int = 1) -> None:
        for _ in range(number):
            reserves, uses = self._calls()
            permit = self.shared.limiter.enter(reserves)
            if permit is not None:
                self._send(permit, uses)
            else:
                self._queue(reserves, uses)

    def _queue(self, reserves: int, uses: int) -> None:
        is_sent = False
        self.waiting += 1

        def look() -> None:
            nonlocal is_sent
            if is_sent or not self.is_alive:
                return
            turn = self.shared.limiter.turn(waiter)
            if isinstance(turn, Permit):
                is_sent = True
                self.waiting -= 1
                self._send(turn, uses)
            elif turn < math.inf:
                self.world.at(self.world.now + turn, look)

        waiter = Waiter(reserves, lambda: self.world.at(self.world.now, look))
        self.shared.limiter.queue(waiter)
        look()

    def _send(self, permit: Permit, uses: int) -> None:
        takes = self.world.dice.uniform(0.1, 2.0)
        self.world.booked.append((self.world.now + self.world.dice.random() * takes, uses))

        def end() -> None:
            if self.is_alive:
                self.shared.limiter.leave(permit, CallOutcome(used=uses, is_answered=True))

        self.world.at(self.world.now + takes, end)

    def _look(self) -> None:
        self._is_woken = False
        if not self.is_alive or self._is_asking:
            return
        due = self.shared.due(self.clock())
        if due > self.clock():
            if due < math.inf:
                self._look_at(self.world.now + due - self.clock() + 1e-6)
            return
        self._is_asking = True
        sent_at = self.clock()
        ask = self.shared.ask(sent_at)
        dice, world = self.world.dice, self.world
        arrives, goes_back = dice.uniform(0.001, 0.05), dice.uniform(0.001, 0.05)

        def heard() -> None:
            if not world.is_up or dice.random() < world.loses:
                world.at(world.now + goes_back, lost)
                return
            answer = world.exchange(ask)
            account = world.account
            if dice.random() < world.loses:  # and heard a second time, late
                world.at(world.now + dice.uniform(0, 5), lambda: world.account is account and world.exchange(ask))
                world.at(world.now + goes_back, lost)
            else:
                world.at(world.now + goes_back, lambda: done(answer))

        def lost() -> None:
            self._is_asking = False
            if self.is_alive:
                self._backoff = min(5.0, max(0.1, self._backoff * 2))
                self.shared.failed()
                self._look_at(world.now + self._backoff)

        def done(answer: Any) -> None:
            self._is_asking = False
            if self.is_alive:
                self._backoff = 0.0
                self.shared.answered(answer, sent_at)
                self._look_at(world.now + 0.02)

        self.world.at(self.world.now + arrives, heard)


def uneven(world: World, limits: Limits, processes: int, calls: Callable[[], tuple[int, int]]) -> list[Process]:
    """Return processes of which some have much to do, some little, some now and then; together more than is allowed."""
    found = [Process(world, limits, calls=calls) for _ in range(processes)]
    for number, process in enumerate(found):
        if number % 4 == 0:  # as much as it gets
            process.arrive(60)

            def more(process: Process = process) -> None:
                process.arrive(max(0, 60 - process.waiting))
                if process.is_alive:
                    world.at(world.now + 0.2, more)

            world.at(0.2, more)
        elif number % 4 == 1:  # a call now and then

            def one(process: Process = process) -> None:
                process.arrive(process.waiting < 20)
                if process.is_alive:
                    world.at(world.now + world.dice.expovariate(0.5), one)

            world.at(world.dice.random(), one)
        elif number % 4 == 2:  # many at once, then none for long

            def burst(process: Process = process) -> None:
                process.arrive(max(0, world.dice.randint(5, 40) - process.waiting))
                if process.is_alive:
                    world.at(world.now + world.dice.uniform(5, 40), burst)

            world.at(world.dice.uniform(0, 20), burst)
    return found


@pytest.mark.sampled(1)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("requests", "tokens"), [(40, None), (300, None), (1500, None), (300, 7_500), (400, 4_000), (1500, 37_500)]
)
def test_sixteen_processes_of_uneven_load_use_90_percent_of_a_limit_and_never_more(
    requests: int, tokens: int | None, seed: int
) -> None:
    minutes = 4
    world = World(random.Random(seed))

    def calls() -> tuple[int, int]:
        return (40, world.dice.randint(20, 40)) if tokens else (0, 0)

    uneven(world, Limits(requests_per_minute=requests, tokens_per_minute=tokens), 16, calls)
    world.run(minutes * 60.0)
    most_requests, most_tokens = world.fullest_minute()
    assert most_requests <= requests
    assert most_tokens <= (tokens or math.inf)
    used = [each for each in world.booked if each[0] < minutes * 60.0]
    share = max(len(used) / requests, sum(used for _, used in used) / (tokens or math.inf)) / minutes
    assert share >= 0.9


@pytest.mark.sampled(2)
@pytest.mark.parametrize("seed", range(30))
def test_no_minute_holds_more_though_processes_and_the_service_are_killed_and_messages_are_lost(
    seed: int,
) -> None:
    world = World(random.Random(seed), loses=0.1)
    requests, has_tokens = world.dice.randint(1, 60), world.dice.random() < 0.5
    tokens = requests * 25 if has_tokens else None

    def calls() -> tuple[int, int]:
        reserves = world.dice.randint(1, 60) if has_tokens else 0
        return min(reserves, tokens or 0), world.dice.randint(0, min(reserves, tokens or 0))

    limits = Limits(requests_per_minute=requests, tokens_per_minute=tokens)
    processes = uneven(world, limits, 6, calls)
    for when in range(10, 240, 20):
        world.run(float(when))
        dies = world.dice.choice(processes)
        dies.is_alive = False
        processes.remove(dies)
        processes += uneven(world, limits, 1, calls)
        if world.dice.random() < 0.4:
            world.kill_service(world.dice.uniform(0, 8))
    world.run(300.0)
    most_requests, most_tokens = world.fullest_minute()
    assert most_requests <= requests
    assert most_tokens <= (tokens or math.inf)
    assert len(world.booked) > requests, "it goes on"


def ask(holder: str, number: int, **said: Any) -> LimitAsk:
    nothing = dict.fromkeys(("known", "ended", "freed", "want", "least"), Units())
    return LimitAsk(
        scope="s", holder=holder, caps=Caps(10, None), call_seconds=5.0, number=number, **{**nothing, **said}
    )


def test_an_answer_that_was_lost_is_made_up_for_and_a_message_that_comes_twice_changes_nothing() -> None:
    account = LimitAccount(window=60.0)
    first = ask("a", 1, want=Units(4, 0), least=Units(1, 0))
    assert account.exchange(first, 0.0).granted == Units(4, 0)
    assert account.exchange(first, 0.1).granted == Units(4, 0)
    assert account.exchange(ask("a", 2, want=Units(5, 0), least=Units(1, 0)), 0.2).granted == Units(5, 0)
    assert account.counted(0.2) == Units(5, 0)


def test_what_a_silent_process_holds_counts_until_its_calls_must_have_ended_and_a_minute_more() -> None:
    account = LimitAccount(window=60.0, slice_seconds=2.0)
    account.exchange(ask("a", 1, want=Units(10, 0), least=Units(1, 0)), 0.0)
    other = [0]

    def room(now: float) -> int:
        other[0] += 1
        answer = account.exchange(ask("b", other[0], want=Units(10, 0), least=Units(1, 0)), now)
        return answer.granted.main

    assert room(7.0) == 0
    assert room(7.5) == 0, "silent from now on"
    assert room(67.4) == 0
    assert room(67.5) == 10
    back = ask("a", 2, known=Units(10, 0), ended=Units(3, 0), freed=Units(0, 0))
    account.exchange(back, 67.6)
    assert account.counted(67.6) == Units(20, 0), "it was only away: what it has in flight counts again"


def test_the_first_that_waits_is_not_overtaken_by_small_ones() -> None:
    account = LimitAccount(window=60.0)
    held = account.exchange(ask("a", 1, want=Units(9, 0), least=Units(1, 0)), 0.0).granted
    assert account.exchange(ask("large", 1, want=Units(3, 0), least=Units(3, 0)), 0.1).granted == Units(0, 0)
    assert account.exchange(ask("small", 1, want=Units(1, 0), least=Units(1, 0)), 0.2).granted == Units(0, 0)
    account.exchange(ask("a", 2, known=held, freed=Units(2, 0)), 0.3)
    assert account.exchange(ask("small", 2, want=Units(1, 0), least=Units(1, 0)), 0.4).granted == Units(0, 0)
    assert account.exchange(ask("large", 2, want=Units(3, 0), least=Units(3, 0)), 0.5).granted == Units(3, 0)


def test_the_lowest_of_the_limits_that_processes_have_holds() -> None:
    account = LimitAccount(window=60.0)
    account.exchange(ask("a", 1), 0.0)
    answer = account.exchange(
        ask("b", 1, want=Units(40, 0), least=Units(1, 0)).model_copy(update={"caps": Caps(40, None)}), 0.1
    )
    assert answer.granted == Units(10, 0)


@pytest.mark.parametrize("is_same_machine", [True, False])
def test_the_file_says_what_was_granted_and_used_and_on_another_machine_nothing_is_granted_for_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_same_machine: bool
) -> None:
    accounts = Accounts(window=60.0, slice_seconds=2.0)
    file = AccountFile(tmp_path)
    file.rewrite(accounts, 100.0)
    account = accounts.limit("s")

    def grant(said: LimitAsk, now: float) -> Units:
        granted = account.exchange(said, now).granted
        file.note("limit", "s", said.holder, now, account.state(said.holder))
        file.write(sync=False)
        return granted

    assert grant(ask("a", 1, want=Units(6, 0), least=Units(1, 0)), 101.0) == Units(6, 0)
    known = ask("a", 2, known=Units(6, 0), ended=Units(4, 0), freed=Units(1, 0), want=Units(1, 0))
    assert grant(known, 110.0) == Units(7, 0)
    file.close()
    if not is_same_machine:
        monkeypatch.setattr(account_file, "machine", lambda: "another")
    for _ in range(2):  # also when its first line sums it up
        read = Accounts(window=60.0, slice_seconds=2.0)
        again = AccountFile(tmp_path)
        again.read(read, 120.0)
        again.rewrite(read, 120.0)
        again.close()
        account = read.limit("s")
        assert account.counted(120.0) == Units(6, 0), "4 used, 2 held"
    assert account.counted(170.0) == Units(2 if is_same_machine else 6, 0)
    other = account.exchange(ask("b", 1, want=Units(3, 0), least=Units(1, 0)), 120.0).granted
    assert other == Units(3 if is_same_machine else 0, 0)


def test_a_process_whose_grants_the_service_has_forgotten_says_what_it_holds() -> None:
    account = LimitAccount(window=60.0)
    said = ask("a", 7, known=Units(9, 0), ended=Units(2, 0), freed=Units(3, 0), want=Units(9, 0), least=Units(1, 0))
    assert account.exchange(said, 0.0).granted == Units(13, 0), "4 in flight, 2 used: 4 more"
