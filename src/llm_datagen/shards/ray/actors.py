"""All actors of a driver: which shard each runs, and which shards wait for one.

An actor is made for each shard that is to be run, and Ray finds a place for it. When a shard has ended, its actor is
given one whose own actor has no place yet, which is not needed then: a new actor takes a second.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from llm_datagen.shards.executor import Command, ShardOutcome
from llm_datagen.shards.ray.cluster import Cluster
from llm_datagen.shards.ray.watched import Order, WatchedActor, cannot_run, was_killed

TICK_SECONDS = 0.1
"""How long a new shard or command waits, at most, before it is looked after."""

IDLE_SECONDS = 3.0
"""How long an actor without a shard is kept."""


class Actors:
    """The actors. One thread uses them; another one has them made, as the head may let it wait.

    Args:
        cluster: where they are made.
        lost_seconds: how long one may be out of reach.
        tell: sends a message to the driver, from any thread.
    """

    def __init__(self, cluster: Cluster, lost_seconds: float, tell: Callable[..., object]) -> None:
        self._cluster = cluster
        self._lost_seconds = lost_seconds
        self._idle_seconds = min(IDLE_SECONDS, lost_seconds / 2)
        self._tell = tell
        self._all: list[WatchedActor] = []  # the oldest first
        self._unmade: dict[int, Order] = {}  # whose actors are being made
        self._early: dict[int, list[tuple[int, Command]]] = {}  # commands for those
        self._to_make: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._made: queue.SimpleQueue[tuple[Order, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._make, name="datagen-make-actors", daemon=True).start()

    def take(self, kind: str, key: int, *rest: Any) -> None:
        """Do what the driver says of a shard: "start" it, "kill" it, send it a "command"."""
        actor = next((each for each in self._all if each.order is not None and each.order.key == key), None)
        match kind, *rest:
            case "start", job:
                self._start(Order(key, job))
            case ("kill",):
                if actor is not None and actor.order is not None:
                    actor.is_usable = False
                    self._end(actor, was_killed(actor.order.job))
                elif order := self._unmade.pop(key, None):
                    self._early.pop(key, None)
                    self._tell("ended", key, was_killed(order.job))
            case "command", number, command:
                if actor is not None:
                    actor.ask(number, command)
                elif key in self._unmade:
                    self._early.setdefault(key, []).append((number, command))

    def look(self) -> None:
        """Look after all of them once; wait a moment for what they say.

        Raises:
            Exception: when there is no way to Ray.
        """
        import ray

        self._take_made()
        for actor in list(self._all):
            if actor not in self._all:
                continue  # its shard was given to one before it
            if actor.order is None:
                if time.monotonic() - actor.idle_since > self._idle_seconds:
                    self._drop(actor)
            elif outcome := actor.keep_watched(len(self._all)):
                self._end(actor, outcome)
        asked = {ref: actor for actor in self._all for ref in actor.refs()}
        if not asked:
            time.sleep(TICK_SECONDS)
            return
        ready, _ = ray.wait(list(asked), num_returns=1, timeout=TICK_SECONDS)
        if ready:
            ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=0)
        for ref in ready:
            self._hear(asked[ref], ref)

    def kill_all(self) -> None:
        """End all actors."""
        for actor in self._all:
            actor.kill()

    def _start(self, order: Order) -> None:
        idle = next((each for each in self._all if each.order is None), None)
        if idle is not None:
            idle.take(order)
        else:
            self._unmade[order.key] = order
            self._to_make.put(order)

    def _make(self) -> None:
        while True:
            order = self._to_make.get()
            if order.key in self._unmade:
                try:
                    self._made.put((order, self._cluster.make_actor(order.job)))
                except Exception as error:  # noqa: BLE001 - whatever it is, the driver says so
                    self._made.put((order, error))

    def _take_made(self) -> None:
        while not self._made.empty():
            order, handle = self._made.get()
            is_wanted = self._unmade.pop(order.key, None) is not None
            if isinstance(handle, Exception):
                if is_wanted:
                    self._tell("ended", order.key, cannot_run(order.job, handle))
                continue
            actor = WatchedActor(handle, order, self._lost_seconds)
            if is_wanted:
                self._all.append(actor)
                self._send_early(actor)
            else:
                actor.kill()

    def _send_early(self, actor: WatchedActor) -> None:
        if actor.order is not None:
            for number, command in self._early.pop(actor.order.key, ()):
                actor.ask(number, command)

    def _hear(self, actor: WatchedActor, ref: Any) -> None:
        if actor.order is None:
            return  # an answer that nobody waits for
        for kind, *rest in actor.hear(ref):
            if kind == "ended":
                self._end(actor, *rest)
                return
            self._tell(kind, actor.order.key, *rest)

    def _end(self, actor: WatchedActor, outcome: ShardOutcome) -> None:
        """Tell that a shard has ended; have its actor run another one."""
        assert actor.order is not None
        self._tell("ended", actor.order.key, outcome)
        if actor.is_usable:
            actor.rest()
            if order := self._next():
                actor.take(order)
                self._send_early(actor)
        else:
            self._drop(actor)

    def _next(self) -> Order | None:
        """Return a shard whose actor has no place; it needs none then."""
        for key in self._unmade:
            return self._unmade.pop(key)
        for actor in self._all:
            if (order := actor.order) and not actor.has_a_place:
                self._drop(actor)
                return order
        return None

    def _drop(self, actor: WatchedActor) -> None:
        self._all.remove(actor)
        actor.order = None
        actor.kill()
