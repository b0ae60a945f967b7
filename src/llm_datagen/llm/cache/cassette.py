"""Cassettes: calls are recorded, and played again without a network. For tests of pipelines.

Switched on from outside, by two environment variables: ``LLM_DATAGEN_CASSETTE`` names the file,
``LLM_DATAGEN_RECORD_MODE`` says what is recorded, "none" unless given. All nodes of a process share the cassette; other
processes, which inherit the variables, play it from its beginning.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import cast

from llm_datagen.config import check_local_path
from llm_datagen.errors import ConfigError
from llm_datagen.llm.cache.cassette_file import RECORD_MODES, Cassette, RecordMode
from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.transport import Layer, Transport
from llm_datagen.llm.types import ChatAnswer, ChatRequest

CASSETTE_VARIABLE = "LLM_DATAGEN_CASSETTE"
MODE_VARIABLE = "LLM_DATAGEN_RECORD_MODE"

_cassettes: dict[str, Cassette] = {}
_lock = threading.Lock()


class CassetteLayer(Layer):
    """Answers from the cassette; makes and records the calls that are not on it, if they may be recorded.

    Args:
        inner: makes one try. Not opened when nothing may be recorded.
        path: the file.
        mode: what is recorded.
        pool: what calls are found by in place of the model: when they are played, it may be another model's turn.
        own: the params that an endpoint of the pool has for itself; nothing is found by them.
    """

    def __init__(self, inner: Transport, path: Path, mode: RecordMode, *, pool: str, own: Collection[str] = ()) -> None:
        super().__init__(inner)
        self._path = path
        self._mode: RecordMode = mode
        self._pool = pool
        self._own = frozenset(own)
        self._cassette: Cassette | None = None

    async def open(self) -> None:
        """Put the cassette in.

        Raises:
            CassetteError: when it is not there, or is none.
        """
        with _lock:
            name = os.path.realpath(self._path)
            if name not in _cassettes:
                _cassettes[name] = Cassette(self._path, self._mode)
            self._cassette = _cassettes[name]
        if self._cassette.is_recording:
            await super().open()

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Play the call, or make and record it.

        Raises:
            LLMRequestError: when it fails, or did when it was recorded.
            CassetteError: when it is not on the cassette and nothing may be recorded, or cannot be written.
        """
        assert self._cassette is not None, "the layer was called before open()"
        recorded_as = self._recorded_as(request)
        known = self._cassette.play(recorded_as)
        if known is not None:
            return known
        try:
            answer = await self._inner.complete(request)
        except LLMRequestError as error:
            self._cassette.record(recorded_as, error)
            raise
        self._cassette.record(recorded_as, answer)
        return answer

    def _recorded_as(self, request: ChatRequest) -> ChatRequest:
        params = {name: value for name, value in request.params.items() if name not in self._own}
        return replace(request, model=self._pool, params=params)


def with_cassette(inner: Transport, *, pool: str, own: Collection[str] = ()) -> Transport:
    """Return `inner`; with the cassette that the environment names around it, if it names one.

    Args:
        inner: makes one try.
        pool: see `CassetteLayer`, also for the next one.
        own: names of params.

    Raises:
        ConfigError: on a record mode that is none, or a path that is a URI.
    """
    path = os.environ.get(CASSETTE_VARIABLE)
    if not path:
        return inner
    mode = checked_mode(os.environ.get(MODE_VARIABLE) or "none")
    return CassetteLayer(inner, Path(check_local_path(CASSETTE_VARIABLE, path)).absolute(), mode, pool=pool, own=own)


def has_cassette() -> bool:
    """Return whether the environment names a cassette."""
    return bool(os.environ.get(CASSETTE_VARIABLE))


def plays_only() -> bool:
    """Return whether no call can reach an endpoint, so that its limits do not matter."""
    path, mode = os.environ.get(CASSETTE_VARIABLE), os.environ.get(MODE_VARIABLE) or "none"
    if not path:
        return False
    with _lock:
        known = _cassettes.get(os.path.realpath(path))
    return not known.is_recording if known else mode == "none" or (mode == "once" and Path(path).exists())


def checked_mode(mode: str) -> RecordMode:
    """Return the record mode.

    Raises:
        ConfigError: when there is no such mode.
    """
    if mode not in RECORD_MODES:
        raise ConfigError(f"a record mode ({MODE_VARIABLE}) is one of {', '.join(RECORD_MODES)}, not {mode!r}")
    return cast(RecordMode, mode)


def eject(path: Path) -> None:
    """Forget how far a cassette was played: who puts it in next plays it from its beginning."""
    with _lock:
        _cassettes.pop(os.path.realpath(path), None)
