"""Operators that fork: their children have the handlers that were there before the run, and a pool can be left."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any

import pytest

from llm_datagen.executors import signals

from ..kit.support import Bench, lines, numbered

_FORK = multiprocessing.get_context("fork")


def in_a_pool(row: dict[str, Any]) -> dict[str, Any]:
    """Leave the pool by `terminate()`, as its context manager does."""
    with _FORK.Pool(2) as pool:
        return {**row, "square": pool.starmap(pow, [(row["n"], 2)])[0]}


def handlers_of_a_child(row: dict[str, Any]) -> dict[str, Any]:
    """Return the handlers that a forked child has."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        found = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        # Who is started in the background ignores SIGINT from its first moment on.
        is_before = found[0] in (signal.default_int_handler, signal.SIG_IGN) and found[1] is signal.SIG_DFL
        os.write(write, b"before" if is_before else repr(found).encode())
        os._exit(0)
    os.close(write)
    text = os.read(read, 1000).decode()
    os.close(read)
    os.waitpid(child, 0)
    return {**row, "found": text}


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["thread", "process"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_has_the_handlers_that_were_there_before_the_run(bench: Bench, executor: str) -> None:
    bench.give(numbered(2))
    bench.pipeline([handlers_of_a_child], executor=executor).run()
    assert [row["found"] for row in lines(bench.output)] == ["before", "before"]


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["thread", "process"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_pool_in_an_operator_is_left_without_hanging(bench: Bench, executor: str) -> None:
    bench.give(numbered(3))
    bench.pipeline([in_a_pool], executor=executor).run()
    assert [row["square"] for row in lines(bench.output)] == [0, 1, 4]


def _child_has(handlers: dict[int, Any]) -> bool:
    """Fork; return whether the child has these handlers."""
    child = os.fork()
    if not child:
        os._exit(int({number: signal.getsignal(number) for number in handlers} != handlers))
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_who_is_forked_while_handlers_change_has_those_that_were_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after each handler that is installed or put back, a fork is made."""
    numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    change, parent, found = signal.signal, os.getpid(), []

    def forking(number: int, handler: Any) -> Any:
        if os.getpid() != parent:
            return change(number, handler)
        found.append(_child_has(before))
        changed = change(number, handler)
        found.append(_child_has(before))
        return changed

    monkeypatch.setattr(signal, "signal", forking)
    try:
        for number in numbers:
            signals.install(number, lambda number, frame: None)
        signals.put_back()
    finally:
        for changed, handler in before.items():
            change(changed, handler)
    assert found == [True] * 8
