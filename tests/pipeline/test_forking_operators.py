"""Operators that fork: their children have the handlers that were there before the run, and a pool can be left."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any

import pytest

from ..support import Bench, lines, numbered

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
        is_before = found == [signal.default_int_handler, signal.SIG_DFL]
        os.write(write, b"before" if is_before else repr(found).encode())
        os._exit(0)
    os.close(write)
    text = os.read(read, 1000).decode()
    os.close(read)
    os.waitpid(child, 0)
    return {**row, "found": text}


@pytest.mark.parametrize("executor", ["thread", "process"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_has_the_handlers_that_were_there_before_the_run(bench: Bench, executor: str) -> None:
    bench.give(numbered(2))
    bench.pipeline([handlers_of_a_child], executor=executor).run()
    assert [row["found"] for row in lines(bench.output)] == ["before", "before"]


@pytest.mark.parametrize("executor", ["thread", "process"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_pool_in_an_operator_is_left_without_hanging(bench: Bench, executor: str) -> None:
    bench.give(numbered(3))
    bench.pipeline([in_a_pool], executor=executor).run()
    assert [row["square"] for row in lines(bench.output)] == [0, 1, 4]
