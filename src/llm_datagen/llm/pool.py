"""The pool: a call goes to one of several endpoints, and to another one when that fails in passing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from llm_datagen.errors import ConfigError
from llm_datagen.llm.chat import ChatAnswer, ChatRequest
from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.health import Kind, kind_of
from llm_datagen.llm.member import Member
from llm_datagen.llm.outage import Outage

Strategy = Literal["weighted", "ordered"]
"""How a pool chooses: by the members' weights, or the first that is healthy."""


class PoolCaller:
    """Makes one try of a call, at one member after the other until one answers. A single endpoint is a pool of one.

    A member that is down gets no call but probes. While all are down, calls wait.

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
            member = self._next(request, tried)
            if member is None:
                if error is not None and not self._outage.is_on:
                    error.follows_outage = has_waited
                    raise error
                await self._outage.wait(request)
                tried, error, has_waited = [], None, True
                continue
            try:
                answer = await (member.probe(request) if member.health.is_down else member.complete(request))
            except LLMRequestError as failure:
                await member.blame(request, failure)
                if not _may_succeed_elsewhere(failure) and not member.health.is_down:
                    raise
                error = _sooner(error, failure)
                tried.append(member)
                continue
            if answer is not None:
                return answer

    async def is_down(self, request: ChatRequest, error: LLMRequestError) -> bool:
        """Return whether all members are down: asked when a call has used up its tries, and is to be given up."""
        if kind_of(error) is Kind.FAILS:
            await asyncio.gather(*(each.examine(request, error) for each in self._members if not each.health.is_down))
        return self._outage.is_on

    async def close(self) -> None:
        """Close every member. May be called more than once."""
        await self._outage.close()
        for member in self._members:
            await member.close()

    def _next(self, request: ChatRequest, tried: Sequence[Member]) -> Member | None:
        """Return the member that the call goes to: one that is due for a probe, or one of those that are up."""
        for member in self._members:
            if member.health.is_due and member not in tried:
                return member
        members = [member for member in self._members if not member.health.is_down and member not in tried]
        if not members:
            return None
        if len(members) > 1:
            members = [member for member in members if member.takes(request)] or members
            members = [member for member in members if not member.is_avoided] or members
        if len(members) == 1 or self._strategy == "ordered":
            return members[0]
        return self._by_weight([member for member in members if member.has_room(request)] or members)

    def _by_weight(self, members: Sequence[Member]) -> Member:
        """Return the member whose turn it is (smooth weighted round robin): each one's turns are spread evenly."""
        turns = self._turns
        for member in members:
            turns[member] += member.spec.weight
        chosen = max(members, key=turns.__getitem__)
        turns[chosen] -= sum(member.spec.weight for member in members)
        return chosen


def check_outage_after(value: Any) -> float:
    """Return `value` if it is a number of seconds, 0 or more; else raise a ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ConfigError(f"outage_after must be a number of seconds, 0 or more, not {value!r}")
    return float(value)


def _may_succeed_elsewhere(error: LLMRequestError) -> bool:
    return error.may_pass or kind_of(error) is Kind.FAILS


def _sooner(first: LLMRequestError | None, second: LLMRequestError) -> LLMRequestError:
    """Return the error after which the call may be tried again sooner."""
    return second if first is None or (second.retry_after or 0.0) <= (first.retry_after or 0.0) else first
