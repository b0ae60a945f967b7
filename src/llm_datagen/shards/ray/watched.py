"""An actor, as the process between the driver and Ray sees it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from llm_datagen.runs.status import Status
from llm_datagen.shards.executor import Command, ShardJob, ShardOutcome

WATCH_SECONDS = 0.5
"""How long an actor lets a question wait for the end of its shard, and so how old a status may be."""

QUESTIONS = 400.0
"""How many questions a second are asked of all actors, at most."""

_AGAIN_SECONDS = 0.5
_TROUBLE_CHARACTERS = 240  # of what Ray says when an actor is out of reach: which one, and how
_PATIENCE = 1.5
"""An actor ends by itself when it is unwatched for `lost_seconds`. It is given up after that, times this."""


class Order(NamedTuple):
    """A shard that is to be run.

    Attributes:
        key: what the driver calls this run of it.
        job: the shard.
    """

    key: int
    job: ShardJob


class WatchedActor:
    """One actor, which runs one shard at a time. One thread uses it.

    Args:
        actor: Ray's handle of it.
        order: its first shard.
        lost_seconds: how long it may be out of reach.

    Attributes:
        order: the shard that it runs; None when it may have another one.
        is_usable: whether it may be given another shard.
        idle_since: since when it runs none.
    """

    def __init__(self, actor: Any, order: Order, lost_seconds: float) -> None:
        self.order: Order | None = order
        self.is_usable = True
        self.idle_since = 0.0
        self._actor = actor
        self._lost_seconds = lost_seconds
        self._heard: float | None = None
        self._has_begun = False
        self._ask_at = 0.0
        self._watch: Any = None
        self._answers: dict[Any, int] = {}
        self._trouble = ""

    @property
    def has_a_place(self) -> bool:
        """Whether it is known to run on a node."""
        return self._heard is not None

    def refs(self) -> list[Any]:
        """Return what it has been asked, and has not answered."""
        return [*([] if self._watch is None else [self._watch]), *self._answers]

    def take(self, order: Order) -> None:
        """Have it run its next shard."""
        self.order = order
        self._heard, self._has_begun = time.monotonic(), False

    def keep_watched(self, actors: int) -> ShardOutcome | None:
        """Ask how its shard goes, unless it is being asked. Return the shard's end when the actor is out of reach.

        Args:
            actors: how many there are: the more, the less often each is asked.
        """
        assert self.order is not None
        now = time.monotonic()
        seconds = max(WATCH_SECONDS, min(actors / QUESTIONS, self._lost_seconds / 3))
        if self._heard is not None and now - self._heard > seconds + self._lost_seconds * _PATIENCE:
            return self._lost(f"has not answered for {now - self._heard:.0f} s{self._trouble}")
        if self._watch is None and now >= self._ask_at:
            job = None if self._has_begun else self.order.job
            self._watch = self._actor.watch.remote(self.order.key, job, seconds)
        return None

    def ask(self, number: int, command: Command) -> None:
        """Send its shard a command, which has a number."""
        assert self.order is not None
        self._answers[self._actor.command.remote(self.order.key, command)] = number

    def hear(self, ref: Any) -> Iterator[tuple[Any, ...]]:
        """Yield what an answer of it says, as messages to the driver, without the key."""
        import ray

        number = self._answers.pop(ref, None)
        if number is None:
            self._watch = None
        try:
            found = ray.get(ref)
        except ray.exceptions.ActorUnavailableError as error:  # perhaps for a moment
            self._ask_at = time.monotonic() + _AGAIN_SECONDS
            self._trouble = f": {str(error)[:_TROUBLE_CHARACTERS]}"
            if self._heard is None:
                self._heard = time.monotonic()
            if number is not None:
                yield "answer", number, None, (str(error), None)
            return
        except ray.exceptions.RayActorError as error:
            yield "ended", self._failed(error) if error.actor_init_failed else self._lost(f"has died: {error}")
            return
        except ray.exceptions.NodeDiedError as error:
            yield "ended", self._lost(f"has died: {error}")
            return
        except ray.exceptions.RayError as error:  # its environment cannot be set up, or it cannot be placed
            yield "ended", self._failed(error)
            return
        self._heard, self._has_begun, self._trouble = time.monotonic(), True, ""
        if number is not None:
            yield "answer", number, *found
            return
        status, events, outcome = found
        if status is not None:
            yield "status", status
        if events:
            yield "events", events
        if outcome is not None:
            self.is_usable = not outcome.is_lost
            yield "ended", outcome

    def rest(self) -> None:
        """Have no shard."""
        self.order = None
        self.idle_since = time.monotonic()
        self._answers.clear()

    def kill(self) -> None:
        """End it. It may have ended."""
        import ray

        with contextlib.suppress(Exception):
            ray.kill(self._actor)

    def _lost(self, what: str) -> ShardOutcome:
        assert self.order is not None
        self.is_usable = False
        return ShardOutcome(str(Status.FAILED), f"the Ray actor of shard {self.order.job.number} {what}", is_lost=True)

    def _failed(self, error: Exception) -> ShardOutcome:
        assert self.order is not None
        self.is_usable = False
        return cannot_run(self.order.job, error)


def was_killed(job: ShardJob) -> ShardOutcome:
    """Return the end of a shard that the driver has killed."""
    return ShardOutcome(str(Status.FAILED), f"shard {job.number} was killed", is_lost=True)


def cannot_run(job: ShardJob, error: Exception) -> ShardOutcome:
    """Return the end of a shard that cannot be run on this cluster."""
    return ShardOutcome(str(Status.FAILED), f"Ray cannot run shard {job.number}: {type(error).__name__}: {error}")
