"""The process between a driver and Ray: the only one that connects to it.

It passes on what the driver says, and what the shards answer. When the driver goes, it ends the actors, and the Ray
that it has started itself; when Ray goes, it says so and ends.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from typing import Any

from llm_datagen.executors.process.channel import Channel
from llm_datagen.executors.process.spawn import SIGNALS
from llm_datagen.shards.ray.actors import Actors
from llm_datagen.shards.ray.cluster import Cluster
from llm_datagen.shards.ray.options import RayOptions

HEALTH_SECONDS = 2.0
"""How often it is looked whether the cluster is still the one that was connected to."""

GONE_SECONDS = 60.0
"""How long the head may not answer: as long as Ray's own nodes wait for it."""

_GOODBYE_SECONDS = 10.0


def main() -> None:
    """Connect to Ray, and be between it and the driver, until one of them goes."""
    read_fd, write_fd, parent = map(int, sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the driver
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for fd in (read_fd, write_fd):
        os.set_inheritable(fd, False)
    channel = Channel(read_fd, write_fd)
    (options,) = channel.receive()
    Broker(channel, parent, options).serve()


class Broker:
    """What runs in the process. Its main thread looks after the shards.

    Args:
        channel: the way to the driver.
        parent: the driver's process.
        options: what the driver wants.
    """

    def __init__(self, channel: Channel, parent: int, options: RayOptions) -> None:
        self._channel = channel
        self._parent = parent
        self._sending = threading.Lock()
        self._cluster = Cluster(options)
        self._actors = Actors(self._cluster, options.lost_seconds, self._tell)
        self._said: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._is_over = threading.Event()
        self._healthy = time.monotonic()
        self._lost = ""

    def serve(self) -> None:
        """Connect; then look after shards until the driver has gone, or Ray."""
        try:
            self._cluster.connect()
            self._tell("connected", self._cluster.is_unfit())
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver says so
            kind = "not yet" if isinstance(error, ConnectionError) else "refused"
            self._tell(kind, f"{type(error).__name__}: {error}")
        else:
            for target in (self._listen, self._look_after_ray):
                threading.Thread(target=target, name=f"datagen{target.__name__}", daemon=True).start()
            self._look_after_shards()
        self._leave()

    def _look_after_shards(self) -> None:
        while not self._is_over.is_set() and os.getppid() == self._parent:
            try:
                while not self._said.empty():
                    self._actors.take(*self._said.get())
                self._actors.look()
            except Exception as error:  # noqa: BLE001 - there is no way to Ray any more
                self._lost = self._lost or f"{type(error).__name__}: {error}"
            if not self._lost and time.monotonic() - self._healthy > GONE_SECONDS:
                self._lost = f"its head has not answered for {GONE_SECONDS:.0f} s"
            if self._lost:
                self._tell("lost", self._lost)
                return

    def _leave(self) -> None:
        """End the actors, and the connection. It takes no longer than it may."""
        late = threading.Timer(_GOODBYE_SECONDS, os.killpg, [os.getpgid(0), signal.SIGKILL])  # all that was started
        late.daemon = True
        late.start()
        self._actors.kill_all()
        self._cluster.leave()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(0)  # threads may wait for Ray

    def _tell(self, *message: Any) -> None:
        with self._sending, contextlib.suppress(OSError):  # the driver has gone: `_listen` sees it
            self._channel.send(message)

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):  # the driver has gone
            while (message := self._channel.receive())[0] != "close":
                self._said.put(message)
        self._is_over.set()

    def _look_after_ray(self) -> None:
        """See whether this process is still known: a head that was started anew does not know it."""
        own = self._cluster.own_node()
        while not self._is_over.wait(HEALTH_SECONDS):
            try:
                is_known = own in self._cluster.nodes()
            except Exception:  # noqa: BLE001 - no answer, for the moment
                continue
            if not is_known:
                self._lost = "the node it went over has left the cluster, or the head was started anew"
                return
            self._healthy = time.monotonic()
