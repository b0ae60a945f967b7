"""Hooks off the data path: slow, failing and stuck ones do no harm (M26)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from llm_datagen.actors import hook_dispatcher
from llm_datagen.actors.hook_dispatcher import HookDispatcher
from llm_datagen.errors import KEPT_CHARS, FailureRecord
from llm_datagen.messages import (
    CheckpointSaved,
    NodeFailed,
    NodeFinished,
    NodeProgressed,
    NodeStarted,
    OperatorLogged,
    PipelineFinished,
    PipelineStarted,
    RowDeadLettered,
    UsageReported,
)
from llm_datagen.runs.hooks import HOOK_NAMES, DefaultPipelineHooks
from llm_datagen.runs.logs import events

from ..kit.actors import Log
from ..kit.support import PATIENCE_SECONDS


class Recorder(DefaultPipelineHooks):
    """Writes down every call; the first one waits until it is let go, if it is told to."""

    def __init__(self, *, holds: bool = False) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.is_called = threading.Event()
        self.let_go = threading.Event()
        if not holds:
            self.let_go.set()

    def __getattribute__(self, name: str) -> Any:
        if name not in HOOK_NAMES:
            return super().__getattribute__(name)

        def call(*args: Any) -> None:
            self.calls.append((name, args))
            self.is_called.set()
            assert self.let_go.wait(PATIENCE_SECONDS)

        return call

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of each call of a hook."""
        return [args for called, args in self.calls if called == name]


def progressed(node: str, done: int) -> NodeProgressed:
    """Return progress."""
    return NodeProgressed("p", node, done, 100, {})


@pytest.fixture
def held() -> Iterator[tuple[Recorder, HookDispatcher]]:
    """Hooks that are busy with their first call, for longer than events come."""
    recorder = Recorder(holds=True)
    runner = HookDispatcher(recorder, "p", Log())
    runner.tell(NodeStarted("p", "n", {}))
    assert recorder.is_called.wait(PATIENCE_SECONDS)
    yield recorder, runner
    recorder.let_go.set()
    assert runner.close()


def test_every_event_becomes_its_hook() -> None:
    """M26: with the arguments that the protocol names, in order."""
    recorder = Recorder()
    runner = HookDispatcher(recorder, "p", Log())
    error = ValueError("x")
    runner.tell(PipelineStarted("p", {"a": 1}))
    runner.tell(NodeStarted("p", "n", {"b": 2}))
    runner.tell(NodeProgressed("p", "n", 3, None, {"c": 3}))
    runner.tell(UsageReported("p", "n", "prov", "model", {"tokens": 4}))
    runner.tell(NodeFailed("p", "n", FailureRecord.of(error), error, ["item"]))
    runner.tell(CheckpointSaved("p", "n", {"row": 5}))
    runner.tell(OperatorLogged("p", "n", "info", "hello"))
    runner.tell(NodeFinished("p", "n", success=True))
    runner.tell(NodeFinished("p", "m", success=False, error=error))
    runner.tell(PipelineFinished("p", "failed", None, error))
    assert runner.close()
    assert recorder.calls == [
        ("on_pipeline_start", ("p", {"a": 1})),
        ("on_node_start", ("p", "n", {"b": 2})),
        ("on_node_progress", ("p", "n", 3, None, {"c": 3})),
        ("on_usage", ("p", "n", "prov", "model", {"tokens": 4})),
        ("on_node_error", ("p", "n", error, ["item"])),
        ("on_checkpoint", ("p", "n", {"row": 5})),
        ("on_log", ("p", "n", "info", "hello")),
        ("on_node_finish", ("p", "n")),
        ("on_node_end", ("p", "n", True, None)),
        ("on_node_end", ("p", "m", False, error)),
        ("on_pipeline_end", ("p", False, error)),
    ]


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_failing_hook_is_logged_and_the_next_is_called(kind: type[BaseException]) -> None:
    """M26: it neither breaks the run nor keeps other events from being told."""
    seen: list[int] = []

    class Failing(DefaultPipelineHooks):
        def on_node_progress(self, cid: str, nid: str, curr: int, total: int | None, meta: Mapping[str, Any]) -> None:
            seen.append(curr)
            if curr == 1:
                raise kind("on purpose")

    log = Log()
    runner = HookDispatcher(Failing(), "p", log)
    runner.tell(progressed("n", 1))
    runner.tell(progressed("n", 2))
    assert runner.close()
    assert seen == [1, 2]
    (line,) = log.of(events.HOOK_FAILED)
    assert line["event_kind"] == "NodeProgressed"


def test_hooks_that_cannot_keep_up_get_the_latest_progress_and_the_right_sums(
    held: tuple[Recorder, HookDispatcher],
) -> None:
    """M26: memory stays flat, `curr` is never stale at the end, usage adds up; starts, ends and errors are all told."""
    recorder, runner = held
    count = 5 * hook_dispatcher.MAX_BACKLOG
    for number in range(1, count + 1):
        runner.tell(progressed(f"n{number % 2}", number))
        runner.tell(UsageReported("p", "n0", "prov", "model", {"tokens": 1, "calls": 2}))
        runner.tell(UsageReported("p", "n0", "prov", "other", {"tokens": 3}))
        runner.tell(OperatorLogged("p", "n0", "info", "chatter"))
        if number % 1000 == 0:
            runner.tell(NodeStarted("p", f"late {number}", {}))
        assert len(runner._events) <= hook_dispatcher.MAX_BACKLOG
    runner.tell(PipelineFinished("p", "completed"))
    recorder.let_go.set()
    assert runner.close()

    sums: dict[str, float] = {}
    for _, _, _, model, metrics in recorder.of("on_usage"):
        for name, value in metrics.items():
            sums[f"{model} {name}"] = sums.get(f"{model} {name}", 0) + value
    assert sums == {"model tokens": count, "model calls": 2 * count, "other tokens": 3 * count}
    for node in (0, 1):
        progress = [curr for _, nid, curr, _, _ in recorder.of("on_node_progress") if nid == f"n{node}"]
        assert progress == sorted(progress)
        assert progress[-1] == count - (count - node) % 2
    assert len(recorder.of("on_node_start")) == 1 + count // 1000
    assert len(recorder.calls) < 3 * hook_dispatcher.MAX_BACKLOG


def test_conflated_events_keep_their_place(held: tuple[Recorder, HookDispatcher]) -> None:
    """M26: a node's progress is told before its end, and nothing after the end of the pipeline."""
    recorder, runner = held
    runner.tell(progressed("n", 1))
    runner.tell(progressed("n", 2))
    runner.tell(UsageReported("p", "n", "", "", {"tokens": 1}))
    runner.tell(NodeFinished("p", "n", success=True))
    runner.tell(progressed("m", 1))
    runner.tell(UsageReported("p", "n", "", "", {"tokens": 1}))
    runner.tell(NodeFinished("p", "m", success=True))
    runner.tell(PipelineFinished("p", "completed"))
    with runner._changed:
        runner._conflate()
    recorder.let_go.set()
    assert runner.close()
    assert [(name, args[1:3]) for name, args in recorder.calls if name not in ("on_node_finish", "on_usage")] == [
        ("on_node_start", ("n", {})),
        ("on_node_progress", ("n", 2)),
        ("on_node_end", ("n", True)),
        ("on_node_progress", ("m", 1)),
        ("on_node_end", ("m", True)),
        ("on_pipeline_end", (True, None)),
    ]
    assert [args[4] for args in recorder.of("on_usage")] == [{"tokens": 2}]


def test_few_large_exceptions_wait_for_a_slow_hook(held: tuple[Recorder, HookDispatcher]) -> None:
    """Line 18: each may hold megabytes, and the dead letter has what is kept of it; small ones wait as ever."""
    hooks, runner = held
    for size, count in (("small", 100), ("large", 500)):
        for n in range(count):
            error = ValueError(f"{n}" if size == "small" else "x" * (KEPT_CHARS + n + 1))
            runner.tell(RowDeadLettered("p", "n", (n,), FailureRecord.of(error), True, error))
        waiting = [event for event in runner._events if isinstance(event, RowDeadLettered)]
        assert len(waiting) == 100 if size == "small" else len(waiting) <= hook_dispatcher.MAX_LARGE
    hooks.let_go.set()
    assert runner.close()
    assert len(hooks.of("on_node_error")) <= hook_dispatcher.MAX_LARGE + 1


def test_a_hook_that_never_returns_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """M26, H13: the end waits for a while, says so, and goes on; the thread is a daemon."""
    monkeypatch.setattr(hook_dispatcher, "PATIENCE_SECONDS", 0.01)
    recorder, log = Recorder(holds=True), Log()
    runner = HookDispatcher(recorder, "p", log)
    assert runner._thread.daemon
    runner.tell(progressed("n", 1))
    assert recorder.is_called.wait(PATIENCE_SECONDS)
    assert not runner.close()
    assert len(log.of(events.HOOK_FAILED)) == 1
    recorder.let_go.set()
    runner._thread.join(PATIENCE_SECONDS)


def test_telling_never_blocks_and_is_harmless_after_the_end() -> None:
    """M26: a late event is not told, and nobody waits."""
    recorder = Recorder()
    runner = HookDispatcher(recorder, "p", Log())
    assert runner.close()
    assert runner.close()
    runner.tell(progressed("n", 1))
    assert recorder.calls == []
