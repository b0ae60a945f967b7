"""A worker of an engine, as this process sees it: started, watched, and started again when it dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_datagen.executors.process.channel import Channel
from llm_datagen.executors.process.last_words import LastWords
from llm_datagen.executors.process.spawn import PATIENCE_SECONDS, how_it_ended, start
from llm_datagen.llm.engines.backends.base import ModelSettings
from llm_datagen.llm.engines.call_queue import CallQueue

LOOK_SECONDS = 0.2
"""How often a worker that says nothing is looked at."""
HANG_SECONDS = 60.0
"""A worker that says nothing for so long, although it was told to drop a call, is killed."""
_LAST_WORDS_SECONDS = 1.0
_PAUSE_SECONDS = 2.0


class EngineWorker:
    """A process that has a model loaded, and makes calls of a queue until it is closed. Two threads belong to it.

    Args:
        number: stands for the worker in the queue.
        name: of the worker, for messages and threads.
        backend: the class that speaks to the library, as ``module:Name``.
        settings: what is loaded.
        queue: where its calls come from.
        devices: the GPUs that it sees; None: those that this process sees.
        start_timeout: seconds that loading may take.
        tell: called with what happens to it, from its threads.
    """

    def __init__(
        self,
        number: int,
        name: str,
        backend: str,
        settings: ModelSettings,
        queue: CallQueue,
        *,
        devices: str | None,
        start_timeout: float,
        tell: Callable[[str], None],
    ) -> None:
        self.number = number
        self.name = name
        self._backend = backend
        self._settings = settings
        self._queue = queue
        self._devices = devices
        self._start_timeout = start_timeout
        self._tell = tell
        self._sending = threading.Lock()
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = self._was_ready = False
        self._closed = threading.Event()
        self._loaded = threading.Event()
        self._refusal = ""
        self._threads = [
            threading.Thread(target=run, name=f"datagen-{name}", daemon=True) for run in (self._watch, self._send_calls)
        ]

    def start(self) -> None:
        """Start the process, and return at once."""
        for thread in self._threads:
            thread.start()

    def wait_until_loaded(self) -> str:
        """Wait until the model is loaded, or cannot be; return why not, or an empty text."""
        self._loaded.wait()
        return "" if self._is_ready else self._refusal

    def ask_to_end(self) -> None:
        """Tell the process that there is nothing more to do."""
        self._closed.set()
        self._queue.changed()
        self._send(("end",))

    def close(self) -> None:
        """End the process, after `ask_to_end`, and wait until nothing is left of it. May be called more than once."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        started = [thread for thread in self._threads if thread.ident is not None]
        for thread in started:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._kill()
        for thread in started:
            thread.join()

    def _watch(self) -> None:
        """Run the process, again and again. On Linux it dies with this thread."""
        while True:
            self._refusal = ""
            try:
                how = self._run()
            except OSError as error:  # no process, or no pipes
                how = f"cannot be started: {error}"
            self._refusal = self._refusal or f"{self.name} {how}"
            if self._closed.is_set() or not self._loaded.is_set():  # what cannot be loaded once is not tried again
                break
            if not self._queue.died(self.number, self._refusal):
                self._tell(f"{self._refusal}; it is not started again")
                break
            self._tell(f"{self._refusal}; it is started again")
            if not self._was_ready:
                self._closed.wait(_PAUSE_SECONDS)  # the memory of the one before may not be free yet
        self._loaded.set()
        self._queue.changed()

    def _run(self) -> str:
        """Run the process once, and return how it ended."""
        channel, theirs = Channel.pipes()
        environment = dict(os.environ)
        if self._devices is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices
        try:
            # Out of the terminal's process group: Ctrl+C does not reach it. What it starts itself is in its own.
            process = start(
                "llm_datagen.llm.engines.serving",
                theirs,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except BaseException:
            channel.close()
            raise
        assert process.stderr is not None
        said = LastWords(process.stderr, f"datagen-{self.name}-said", are_passed_on=False)
        self._was_ready = False
        with self._sending:
            self._channel, self._process = channel, process
        try:
            self._send(([str(Path(entry).absolute()) for entry in sys.path], self._backend, self._settings))
            if self._closed.is_set():
                self._send(("end",))
            self._listen(channel, process)
            self._is_ready = False
            how = how_it_ended(process)
        finally:
            self._is_ready = False
            self._kill()
            process.wait()
            with self._sending:
                self._channel = self._process = None
                channel.close()
            said.join(_LAST_WORDS_SECONDS)
        if self._refusal:
            self._refusal += said.told()
        return how + said.told()

    def _listen(self, channel: Channel, process: subprocess.Popen[bytes]) -> None:
        """Take what the process says, until it ends."""
        heard = time.monotonic()
        while True:
            for number in self._queue.overdue(self.number):
                self._send(("drop", number))
            if not channel.is_readable(LOOK_SECONDS):
                silence = time.monotonic() - heard
                if not self._is_ready and silence > self._start_timeout:
                    self._refusal = f"{self.name} was not loaded within {self._start_timeout:g} s: raise start_timeout"
                    self._kill()
                    return
                if silence > HANG_SECONDS and self._queue.has_given_up(self.number):
                    self._refusal = f"{self.name} hung: it said nothing for {silence:.0f} s, and was killed"
                    self._kill()
                    return
                # Not left to the end of the pipe: what the process has started may hold it open.
                if process.poll() is None or channel.is_readable(0):
                    continue
                return
            try:
                message = channel.receive()
            except EOFError:
                return
            heard = time.monotonic()
            self._take(message)

    def _take(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("ready",):
                self._is_ready = self._was_ready = True
                self._loaded.set()
                self._queue.changed()
            case "failed", why:
                self._refusal = why
            case "answer", number, content:
                self._queue.answered(self.number, number, content)
            case "dropped", number:
                self._queue.answered(self.number, number, None)

    def _send_calls(self) -> None:
        self._loaded.wait()
        while not self._closed.is_set() and not self._queue.stopped:
            found = self._queue.take(self.number, lambda: self._closed.is_set() or not self._is_ready)
            if found is not None:
                number, call = found
                self._send(("call", number, dict(call.body)))
            else:
                self._closed.wait(LOOK_SECONDS)  # it is being started again

    def _send(self, message: Any) -> bool:
        """Send a message, and return whether there is anybody to send it to."""
        with self._sending:
            if self._channel is None:
                return False
            try:
                self._channel.send(message)
            except BrokenPipeError:  # it has died: `_listen` finds out
                return False
        return True

    def _kill(self) -> None:
        """Kill the process, and what it has started."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
