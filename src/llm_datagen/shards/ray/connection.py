"""A connection to a Ray cluster, as the driver has it: a process of its own, in which `broker` runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from llm_datagen.errors import RunError
from llm_datagen.executors.process.channel import Channel
from llm_datagen.executors.process.last_words import LastWords
from llm_datagen.executors.process.spawn import how_it_ended, start
from llm_datagen.shards.ray.options import RayOptions

CONNECT_SECONDS = 120.0
"""How long a connection may take. It includes the start of a Ray on this machine."""

_LAST_WORDS_SECONDS = 5.0
GOODBYE_SECONDS = 30.0
"""How long the process may take to end: as long as the start of a Ray that nobody wants any more."""

_POLL_SECONDS = 0.1


class NotYetError(RunError):
    """Raised when a cluster is there, and does not take a connection: it may, a little later."""


class Connection:
    """One connection, from its begin to its end; it is not made anew. Any thread may use it.

    Args:
        options: what it needs to know.
        hear: is given what comes from the cluster, on a thread of this connection.
        lost: is told, on that thread, why nothing more will come; not after `close`.
    """

    def __init__(self, options: RayOptions, hear: Callable[[Any], object], lost: Callable[[str], object]) -> None:
        self._options = options
        self._hear = hear
        self._tell_lost = lost
        self._sending = threading.Lock()
        self._is_closing = threading.Event()
        self._channel, theirs = Channel.pipes()
        out = None if options.shows_output else subprocess.DEVNULL
        # A session of its own: Ctrl+C in the terminal is for the driver, and must not end the Ray that it starts.
        self._process = start(
            "llm_datagen.shards.ray.broker", theirs, stdout=out, stderr=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stderr is not None
        self._last_words = LastWords(self._process.stderr, "datagen-ray-errors", are_passed_on=options.shows_output)
        self._listener = threading.Thread(target=self._listen, name="datagen-ray", daemon=True)

    def open(self, is_unwanted: threading.Event) -> bool:
        """Connect. Return whether no node of the cluster could run a shard, as it is now.

        Args:
            is_unwanted: when it is set, the attempt is given up.

        Raises:
            RunError: when there is no cluster, or it refuses, or the attempt was given up.
        """
        self.send(self._options)
        try:
            match self._answer(time.monotonic() + CONNECT_SECONDS, is_unwanted):
                case "connected", is_unfit:
                    return bool(is_unfit)
                case kind, text:
                    if kind == "not yet":
                        hint = "is RAY_AUTH_TOKEN the token of the cluster, and the version of Ray that of its nodes?"
                        raise NotYetError(f"cannot use Ray at {self._options.address}: {text}; {hint}")
                    raise RunError(f"cannot use Ray at {self._options.address}: {text}")
        except BaseException:
            self.close()
            raise
        raise AssertionError("not reached")

    def listen(self) -> None:
        """Begin to tell what comes from the cluster."""
        self._listener.start()

    def send(self, *message: Any) -> None:
        """Send a message. Of a connection that is lost, `lost` tells."""
        with self._sending, contextlib.suppress(OSError):
            self._channel.send(message)

    def close(self) -> None:
        """End what it has started, and the process. May be called more than once."""
        if self._is_closing.is_set():
            return
        self._is_closing.set()
        self.send("close")
        try:
            self._process.wait(GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # with the Ray that it has started
            self._process.wait()
        self._last_words.join(_LAST_WORDS_SECONDS)
        if self._listener.ident is not None and self._listener is not threading.current_thread():
            self._listener.join()
        with self._sending:
            self._channel.close()

    def _answer(self, deadline: float, is_unwanted: threading.Event) -> Any:
        while not self._channel.is_readable(_POLL_SECONDS):
            if is_unwanted.is_set():
                raise RunError("nobody wants to connect any more")
            if self._process.poll() is not None and not self._channel.is_readable(0):
                break
            if time.monotonic() > deadline:
                self._process.kill()
                raise RunError(
                    f"cannot use Ray at {self._options.address}: no answer in {CONNECT_SECONDS:.0f} s{self._said()}"
                )
        try:
            return self._channel.receive()
        except EOFError:
            how = how_it_ended(self._process)
            raise RunError(
                f"cannot use Ray at {self._options.address}: the process that connects {how}{self._said()}"
            ) from None

    def _listen(self) -> None:
        reason = ""
        try:
            while not reason and not self._is_closing.is_set():
                if not self._channel.is_readable(_POLL_SECONDS):
                    if self._process.poll() is None or self._channel.is_readable(0):
                        continue
                    break
                match self._channel.receive():
                    case "lost", reason:
                        pass
                    case message:
                        self._hear(message)
        except EOFError:
            pass
        if not self._is_closing.is_set():
            self._tell_lost(reason or f"the process that is connected {how_it_ended(self._process)}{self._said()}")

    def _said(self) -> str:
        """Return what the process said last, without the stack of Ray's own code."""
        return self._last_words.told(until=" *** StackTrace")
