"""The pool: a call goes to one of several endpoints, and to another one after a transient error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from llm_datagen.config import LONGEST, check_most, is_number, shown
from llm_datagen.errors import ConfigError
from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.pool.circuit_breaker import FailureKind, failure_kind
from llm_datagen.llm.pool.member import Member
from llm_datagen.llm.pool.outage import Outage
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.llm.waits import Waits

Strategy = Literal["weighted", "ordered"]
"""How a pool chooses: by the members' weights, or the first that is healthy."""

_MIN_POLL_SECONDS = 0.02
_POLL_SECONDS_PER_CALL = 0.001


class Pool:
    """Makes one try of a call, at one member after the other until one answers. A single endpoint is a pool of one.

    A member that is down gets no call but probes. Calls wait while all are down, or while the limits of none have room.

    Args:
        members: the endpoints, the preferred one first.
        strategy: ``weighted``: each gets its share of the calls; ``ordered``: the first one that is healthy.
        outage_after: seconds that all members may be down before the run fails; 0: it fails at once.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        strategy: Strategy,
        outage_after: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._members = list(members)
        self._strategy = strategy
        self._turns = dict.fromkeys(self._members, 0.0)
        self._outage = Outage(self._members, outage_after, clock=clock)
        self._waits = Waits()
        self._waiting_for_room = 0

    async def open(self) -> None:
        """Open every member."""
        for member in self._members:
            await member.open()

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call at a member that answers. Waits, however often, while all are down.

        Raises:
            LLMRequestError: when every member that is up has failed, or the request cannot succeed anywhere.
            OutageError: when all members were down for too long.
            EndpointRefusedError: when all of them refuse every call.
            LLMCancelledError: when the run was cancelled while the call waited.
        """
        tried: list[Member] = []
        error: LLMRequestError | None = None
        has_waited = False
        while True:
            members = self._candidates(tried)
            if not members:
                if error is not None and not self._outage.is_on:
                    error.follows_outage |= has_waited
                    raise error
                await self._outage.wait(request)
                tried, error, has_waited = [], None, True
                continue
            member = self._choose(members, request)
            if member is None:
                await self._wait_for_room(request)
                continue
            sent_at = member.breaker.openings
            try:
                answer = await (member.probe(request) if member.is_down else member.complete(request))
            except LLMRequestError as failure:
                await member.record_failure(request, failure, sent_at)
                if not _may_succeed_elsewhere(failure) and not member.is_down:
                    raise
                error = _earlier_retry(error, failure)
                tried.append(member)
                continue
            self._outage.answered(request)
            if answer is not None:
                return answer

    async def is_down(self, request: ChatRequest, error: LLMRequestError) -> bool:
        """Return whether all members are down: asked when a call has used up its tries, and is to be given up."""
        if failure_kind(error) is FailureKind.FAILS:
            await asyncio.gather(*(each.ping_after(request, error) for each in self._members if not each.is_down))
        return self._outage.is_on

    async def close(self) -> None:
        """Close every member. May be called more than once."""
        await self._outage.close()
        for member in self._members:
            await member.close()

    def _candidates(self, tried: Sequence[Member]) -> Sequence[Member]:
        """Return the members that the call may go to: one that is due for a probe, or else those that are up."""
        up = []
        for member in self._members:
            if member in tried:
                continue
            if not member.is_down:
                up.append(member)
            elif member.breaker.is_probe_due:
                return [member]
        return up

    def _choose(self, members: Sequence[Member], request: ChatRequest) -> Member | None:
        """Return the member whose turn it is; None when the limits of none of several have room now."""
        if len(members) == 1:
            return members[0]
        for member in members:
            if member.holds(request):
                return member
        members = [member for member in members if member.takes(request)] or members
        members = [member for member in members if not member.is_avoided] or members
        members = [member for member in members if member.has_room(request)]
        if not members:
            return None
        return members[0] if self._strategy == "ordered" else self._by_weight(members)

    async def _wait_for_room(self, request: ChatRequest) -> None:
        # Not in the queue of one member: another one may have room earlier. The more wait, the more rarely each polls.
        self._waiting_for_room += 1
        try:
            await self._waits.sleep(max(_MIN_POLL_SECONDS, self._waiting_for_room * _POLL_SECONDS_PER_CALL), request)
        finally:
            self._waiting_for_room -= 1

    def _by_weight(self, members: Sequence[Member]) -> Member:
        """Return the member whose turn it is (smooth weighted round robin): each one's turns are spread evenly."""
        turns = self._turns
        for member in members:
            turns[member] += member.endpoint.weight
        chosen = max(members, key=turns.__getitem__)
        turns[chosen] -= sum(member.endpoint.weight for member in members)
        return chosen


def check_outage_after(value: Any) -> float:
    """Return `value` if it is a number of seconds, 0 or more; else raise a ConfigError."""
    if not is_number(value) or not 0 <= value < float("inf"):
        raise ConfigError(f"outage_after must be a number of seconds, 0 or more, not {shown(value)}")
    return float(check_most("outage_after", value, LONGEST))


def _may_succeed_elsewhere(error: LLMRequestError) -> bool:
    return error.may_pass or failure_kind(error) is FailureKind.FAILS


def _earlier_retry(first: LLMRequestError | None, second: LLMRequestError) -> LLMRequestError:
    """Return the error after which the call may be tried again sooner."""
    return second if first is None or (second.retry_after or 0.0) <= (first.retry_after or 0.0) else first
