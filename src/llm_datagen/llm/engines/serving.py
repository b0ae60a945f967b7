"""What runs in a worker process: it loads a model and completes chats. Its other end is `worker.EngineWorker`.

What passes between the two: first the settings; then ``ready``, or ``failed`` and why. After that ``call`` with a
number and a request, ``drop`` with the number of one that nobody waits for any more, and ``end``; back come ``answer``
with the number and a JSON body, and ``dropped``. A second thread listens: it ends this process at once when the
other end has gone, or has had enough while the model was being loaded.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
from typing import Any

import orjson

from llm_datagen.executors.process.channel import Channel
from llm_datagen.executors.process.spawn import channel_of_this_process
from llm_datagen.llm.engines.backends.base import Backend, CallError, LoadError
from llm_datagen.llm.import_string import imported

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve, until the other end says that it is enough, or goes."""
    channel = channel_of_this_process()
    _guard_group()
    os.dup2(2, 1)  # what a library prints must not pass for this program's output
    try:
        asyncio.run(_Serving(channel).run())
    except BrokenPipeError:
        os._exit(1)  # nobody is there any more
    sys.stderr.flush()
    os._exit(0)  # threads of a library may run for ever


def _guard_group() -> None:
    """On Linux, end what a library has started when this process dies, however that happens.

    A process of this group, forked before there are threads, waits for that and kills the group.
    """
    if sys.platform != "linux":
        return
    worker = os.getpid()
    if os.fork():
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() == worker:
        signal.sigwait({signal.SIGUSR1})
    os.killpg(0, signal.SIGKILL)


class _Serving:
    """The calls of this process.

    Args:
        channel: the way to the other end.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._is_loaded = False
        self._enough = asyncio.Event()

    async def run(self) -> None:
        """Load the model, and complete chats until it is enough."""
        sys_path, backend_name, settings = self._channel.receive()
        sys.path[:] = sys_path
        threading.Thread(target=self._listen, args=(asyncio.get_running_loop(),), daemon=True).start()
        try:
            backend: Backend = imported(backend_name, what="engine")(settings)
            await backend.open()
        except LoadError as error:
            self._channel.send(("failed", str(error)))
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the other end hears of it
            self._channel.send(("failed", f"{settings.path} cannot be loaded: {type(error).__name__}: {error}"))
            return
        self._backend = backend
        self._is_loaded = True
        self._channel.send(("ready",))
        await self._enough.wait()
        await backend.close()
        self._channel.send(("ended",))

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while True:
                message = self._channel.receive()
                if message == ("end",) and not self._is_loaded:
                    os._exit(0)
                loop.call_soon_threadsafe(self._take, message)
        except (EOFError, OSError, RuntimeError):
            os._exit(1)

    def _take(self, message: tuple[Any, ...]) -> None:
        match message:
            case "call", number, body:
                task = asyncio.create_task(self._answer(number, body))
                self._tasks[number] = task
                task.add_done_callback(lambda _: self._tasks.pop(number, None))
            case "drop", number:
                if number in self._tasks:
                    self._tasks[number].cancel()
            case _:
                self._enough.set()

    async def _answer(self, number: int, body: dict[str, Any]) -> None:
        data: Any
        try:
            data = await self._backend.complete(body)
        except asyncio.CancelledError:
            self._channel.send(("dropped", number))
            return
        except CallError as error:
            data = {"error": {"code": error.status, "message": str(error)}}
        except Exception as error:  # noqa: BLE001 - a failure of the library fails this call alone
            data = {"error": {"code": 500, "message": f"{type(error).__name__}: {error}"}}
        self._channel.send(("answer", number, orjson.dumps(data, default=str)))
