"""The workers of one model. All nodes of a process that name the same engine and model share them."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from llm_datagen.errors import ConfigError
from llm_datagen.llm.engines.backends.base import ModelSettings
from llm_datagen.llm.engines.call_queue import CallQueue
from llm_datagen.llm.engines.calls import EngineCall
from llm_datagen.llm.engines.embedded import MODEL
from llm_datagen.llm.engines.options import Engine
from llm_datagen.llm.engines.worker import EngineWorker
from llm_datagen.streams.formats.json_text import dumps

_AHEAD = 2
"""A worker has as many calls as it computes at once, and as many again, so that it need not wait for the next ones."""

_pools: dict[str, EnginePool] = {}
_lock = threading.Lock()


class EnginePool:
    """Workers that have the same model loaded. Any thread may use it.

    Args:
        engine: which library, and how.
        model: the model's name.
        path: where it is; empty: it is the embedded one, which is fetched if it is not there.
    """

    def __init__(self, engine: Engine, model: str, path: str) -> None:
        self.users = 0
        self._engine = engine
        self._news: deque[tuple[str, dict[str, str]]] = deque(maxlen=100)
        self._started = time.monotonic()
        self._is_loaded = False
        self._loading = threading.Lock()
        self._model = model
        self._path = path
        self._queue = CallQueue(range(engine.workers), _AHEAD * engine.calls_at_once, max_deaths=engine.max_restarts)
        self._workers: list[EngineWorker] = []

    def _make_workers(self) -> list[EngineWorker]:
        engine = self._engine
        settings = ModelSettings(
            model=self._model,
            path=self._path or str(_embedded()),
            calls_at_once=engine.calls_at_once,
            context=engine.context,
            threads=engine.threads_of_worker,
            chat_template=engine.chat_template,
            options=engine.options,
        )
        return [
            EngineWorker(
                number,
                f"worker {number} of the engine {engine.name!r}",
                engine.known.backend,
                settings,
                self._queue,
                devices=None if engine.devices is None else engine.devices[number],
                start_timeout=engine.start_timeout,
                tell=self._warn,
            )
            for number in range(engine.workers)
        ]

    def load(self) -> None:
        """Start the workers, and wait until each has the model loaded. Blocks.

        Raises:
            ConfigError: when it cannot be loaded, or the library is not installed.
            LocalModelError: when the embedded model cannot be fetched.
        """
        with self._loading:
            if self._is_loaded:
                return
            _check_installed(self._engine)
            self._workers = self._make_workers()
            for worker in self._workers:
                worker.start()
            refusals = [why for why in [each.wait_until_loaded() for each in self._workers] if why]
            if refusals:
                self.close()
                raise ConfigError(f"engine {self._engine.name!r}: {refusals[0]}")
            self._is_loaded = True
            seconds, workers = time.monotonic() - self._started, len(self._workers)
            text = f"the engine {self._engine.name!r} was loaded in {seconds:.1f} s, workers: {workers}"
            self._news.append((text, {}))

    def submit(self, call: EngineCall) -> None:
        """Have a call made; its future gets what comes of it.

        Raises:
            EngineStoppedError: when no call is made any more.
        """
        self._queue.put(call)

    def news(self) -> list[tuple[str, dict[str, str]]]:
        """Return what has happened since it was last asked: texts for the log, with its fields."""
        return [self._news.popleft() for _ in range(len(self._news))]

    def _warn(self, text: str) -> None:
        self._news.append((text, {"level": "warning"}))

    def close(self) -> None:
        """End the workers, and wait until nothing is left of them. Blocks. May be called more than once."""
        self._queue.stop("the engine is closed")
        for worker in self._workers:
            worker.ask_to_end()
        for worker in self._workers:
            worker.close()


def join(engine: Engine, model: str) -> EnginePool:
    """Return the pool of a model, made now or by another node, and count this user. `leave` must follow."""
    path = "" if is_embedded(engine, model) else engine.model_path(model)
    key = dumps([asdict(engine), path]).decode()
    with _lock:
        pool = _pools.get(key)
        if pool is None:
            pool = _pools[key] = EnginePool(engine, model, path)
        pool.users += 1
        return pool


def is_embedded(engine: Engine, model: str) -> bool:
    """Return whether the model is the one that this package fetches by itself."""
    return engine.kind == "llama" and engine.path is None and model == MODEL and not Path(model).exists()


def leave(pool: EnginePool) -> None:
    """Give up a pool: the last one who does ends its workers. Blocks."""
    with _lock:
        pool.users -= 1
        if pool.users:
            return
        for key in [key for key, each in _pools.items() if each is pool]:
            del _pools[key]
    pool.close()


def _embedded() -> Path:
    from llm_datagen.llm.engines.embedded.weights import fetch_weights

    return fetch_weights()


def _check_installed(engine: Engine) -> None:
    package, extra = engine.known.package, engine.known.extra
    if package and find_spec(package) is None:
        raise ConfigError(
            f"engine {engine.kind!r} needs the extra {extra!r} ({package} is missing): "
            f"pip install 'llm-datagen[{extra}]'"
        )
