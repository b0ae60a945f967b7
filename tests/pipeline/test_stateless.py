"""Operators that keep something from one call to the next are named: a crash would take it away."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from llm_datagen import BaseOperator, DefaultPipelineHooks, NodeFailedError, OperatorWarning

from ..kit.support import Bench, nothing_left, numbered

SEEN: set[int] = set()


class Counting(BaseOperator):
    def setup(self) -> None:
        self.count = 0
        self.client = object()

    def process_item(self, item: Any, ctx: Any) -> Any:
        self.count += 1
        return item


class AsyncCounting(BaseOperator):
    def __init__(self) -> None:
        self.rows: list[int] = []

    async def process_item(self, item: Any, ctx: Any) -> Any:
        self.rows.append(item["n"])
        return item


class Meant(Counting):
    stateful = True


class Stateless(BaseOperator):
    def __init__(self) -> None:
        self.client: object | None = None
        self.labels = ["a", "b"]

    def setup(self) -> None:
        self.size = len(self.labels)

    def process_item(self, item: Any, ctx: Any) -> Any:
        self.client = self.client or object()  # made when it is needed
        return item


def of_a_global(item: Any) -> Any:
    SEEN.add(item["n"])
    return item


def of_a_closure() -> Any:
    last = None

    def operator(item: Any) -> Any:
        nonlocal last
        last = item["n"]
        return item

    return operator


def of_a_default(item: Any, *, seen: set[int] = set()) -> Any:  # noqa: B006 - as people do
    seen.add(item["n"])
    return item


class Heard(DefaultPipelineHooks):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def on_log(self, cid: str, nid: str, level: str, message: str) -> None:
        if level == "warning":
            self.warnings.append(message)


@pytest.mark.sampled(4)
@pytest.mark.process
@pytest.mark.parametrize(
    ("operator", "name", "executor"),
    [
        (Counting(), "attribute count", "thread"),
        (Counting(), "attribute count", "process"),
        (AsyncCounting(), "attribute rows", "thread"),
        (of_a_global, "global SEEN", "thread"),
        (of_a_closure(), "closure variable last", "thread"),
        (of_a_default, "default of seen", "thread"),
        (Meant(), "", "thread"),
        (Stateless(), "", "thread"),
        (Stateless(), "", "process"),
    ],
)
def test_state_between_calls_is_warned_of_once(bench: Bench, operator: Any, name: str, executor: Any) -> None:
    """In the platform log, to the hooks, and as Python does: in the thread that waits, at the line that called."""
    SEEN.clear()
    bench.give(numbered(5))
    heard = Heard()
    pipeline = bench.pipeline([operator], hooks=heard, executor=executor).create("a")
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        report = pipeline.run()
    logged = [line for line in bench.log_lines() if line["event"] == "[Operator]" and line["level"] == "warning"]
    assert [line["own_state"] for line in logged] == ([[name]] if name else [])
    assert list(report.own_state.values()) == ([(name,)] if name else [])
    assert len(heard.warnings) == len(logged)
    assert all(name in text and "stateful = True" in text for text in heard.warnings)
    assert [(entry.category, str(entry.message), entry.filename) for entry in given] == [
        (OperatorWarning, text, __file__) for text in heard.warnings
    ]


@pytest.mark.filterwarnings("error")
def test_whoever_makes_errors_of_warnings_has_a_finished_run_all_the_same(bench: Bench) -> None:
    bench.give(numbered(5))
    pipeline = bench.pipeline([Counting()]).create("a")
    pipeline.start()
    with pytest.raises(OperatorWarning, match="attribute count"):
        pipeline.wait()
    pipeline.wait()  # said once
    assert bench.run_state("a")["status"] == "completed"


@pytest.mark.filterwarnings("error")
def test_a_run_that_fails_says_both(bench: Bench) -> None:
    class Failing(Counting):
        def process_item(self, item: Any, ctx: Any) -> Any:
            self.count += 1
            return item["missing"]

    bench.give(numbered(5))
    with pytest.raises(NodeFailedError, match="missing") as caught:
        bench.pipeline([Failing()]).create("a").run()
    assert "attribute count" in str(caught.value.__notes__)


class VersionLost(BaseOperator):
    """Its version can be read before the run, and not after it."""

    is_lost = False

    @property
    def version(self) -> str:  # type: ignore[override]
        if self.is_lost:
            raise RuntimeError("it is gone")
        return "1"

    def process_item(self, item: Any, ctx: Any) -> Any:
        self.is_lost = True
        return item


def test_an_operator_that_cannot_be_looked_at_after_its_run_leaves_nothing_open(bench: Bench) -> None:
    """F2: whether it changed itself cannot be told; everything else is closed all the same."""
    bench.give(numbered(3))
    with nothing_left():
        assert bench.pipeline([VersionLost()]).run().rows_out == 3
