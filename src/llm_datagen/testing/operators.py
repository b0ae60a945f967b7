"""Operators that crash, and operators whose calls are counted, across the deaths of processes."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_datagen.config import check_count
from llm_datagen.operators import BaseOperator, Call, INodeContext, as_operator, operator_name, take_nature
from llm_datagen.operators.fingerprint import fingerprint_of
from llm_datagen.streams.ids import ID_FIELD


def crash_at(
    *calls: int, file: str | os.PathLike[str], error: Callable[[], BaseException] | None = None
) -> Callable[[Any], BaseOperator]:
    """Return a wrapper, usable as a decorator, that lets an operator crash at some of its calls.

    The wrapped operator has the same identity and the same `setup` and `teardown`, so a run that crashed can be
    resumed with it, or without. Calls are counted in a file, so that a resume goes on counting: ``crash_at(10, 25)``
    crashes twice in all, however often the process is started.

    Args:
        calls: at which calls, from 1, before the operator gets to see the item.
        file: where calls are counted; it is made when it is not there.
        error: makes what is raised; None kills the process (SIGKILL), with executor="process" the worker process: what
            the operating system was given to write survives that, as it does any death of a process, but not a loss
            of power. A batch that `error` is raised for fails as a whole: it is not called again in halves.

    Raises:
        ConfigError: on a number below 1, or when what is wrapped is no operator.
    """
    for call in calls:
        check_count("crash_at", call)
    due = frozenset(calls)

    def before(_items: Sequence[Any]) -> None:
        if _append(file, b".") in due:
            if error is not None:
                raise error()
            os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait()

    return lambda operator: _watched(operator, before, bisect=False)


class CallCounter:
    """Counts what operators are given, by row id, in a file: how often was each row paid for?

    A count is one short write to a file opened for appending, made before the call: it survives any death of the
    process, and several processes may share the file.

    Args:
        path: the file; it is made when it is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __call__(self, operator: Any) -> BaseOperator:
        """Return `operator` with its calls counted; usable as a decorator."""
        return _watched(operator, self.note)

    def note(self, items: Sequence[Any]) -> None:
        """Count items. Those without an id (bare values) count by their value."""
        _append(self.path, b"".join(json.dumps(_key(item)).encode() + b"\n" for item in items))

    def counts(self) -> Counter[Any]:
        """Return how often each row, by its id, was given to the operator."""
        if not self.path.exists():
            return Counter()
        return Counter(json.loads(line) for line in self.path.read_bytes().splitlines())

    def total(self) -> int:
        """Return how many rows were given to the operator, repeats included."""
        return self.counts().total()


def _key(item: Any) -> Any:
    if isinstance(item, dict) and ID_FIELD in item:
        return item[ID_FIELD]
    return f"value {json.dumps(item, sort_keys=True, default=str)}"


def _append(path: str | os.PathLike[str], data: bytes) -> int:
    """Append to a file; return how long it was then. Any thread of any process may call it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(fd, data)
        return os.lseek(fd, 0, os.SEEK_CUR)
    finally:
        os.close(fd)


def _watched(operator: Any, before: Callable[[Sequence[Any]], None], *, bisect: bool = True) -> BaseOperator:
    """Return an operator of the same kind and name that calls `before` with the items of each call."""
    inner = as_operator(operator)
    call = Call(inner)
    kind = {
        (False, False): _WatchedItem,
        (False, True): _WatchedAsyncItem,
        (True, False): _WatchedBatch,
        (True, True): _WatchedAsyncBatch,
    }[call.batch, call.is_async]
    watched = kind(inner, call, before)
    watched.bisect = call.bisect and bisect
    if call.finish is not None:
        vars(watched)["finish"] = call.finish
    return watched


class _Watched(BaseOperator):
    def __init__(self, inner: Any, func: Callable[..., Any], before: Callable[[Sequence[Any]], None]) -> None:
        take_nature(self, inner)
        self.name = operator_name(inner)
        self.operator = inner
        self._func = func
        self._before = before

    def __repr__(self) -> str:
        return repr(self.operator)

    def fingerprint(self) -> Mapping[str, Any]:
        """Return that of the wrapped operator: with the wrapper and without it, the rows are the same."""
        return fingerprint_of(self.operator)


class _WatchedItem(_Watched):
    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        self._before((item,))
        return self._func(item, ctx)


class _WatchedAsyncItem(_Watched):
    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        self._before((item,))
        return await self._func(item, ctx)


class _WatchedBatch(_Watched):
    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        self._before(items)
        return self._func(items, ctx)


class _WatchedAsyncBatch(_Watched):
    async def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        self._before(items)
        return await self._func(items, ctx)
