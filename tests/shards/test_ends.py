"""How runs in shards end: failed, cancelled, stopped, killed; and go on with nothing lost, and nothing twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    ConfigError,
    JsonlStream,
    NodeFailedError,
    OperatorChangedError,
    PipelineBusyError,
    StopRun,
    StreamFactory,
)
from llm_datagen.messages import Cancel, GetStatus, Pause, PipelineFinished, Reconfigure, Subscribe, Unpause
from llm_datagen.operators import INodeContext
from llm_datagen.shards.local import LocalExecutor

from ..kit.shards import InThreads, in_shards, rows_in_shards, shard_states
from ..kit.support import (
    Bench,
    Calls,
    eventually,
    instrument,
    lines,
    nothing_left,
    numbered,
    until_cancelled,
    until_paused,
)


class Counting:
    """Counts its calls, and does with the row of a number what it is told.

    Args:
        calls: counts them.
        at: the row.
        act: what is done with it.
        step: how far behind it the next such row is.
    """

    version = "1"

    def __init__(self, calls: Calls, at: int | None = None, act: Any = None, step: int = 0) -> None:
        self.calls, self.at, self.act, self.step = calls, at, act, step

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        if self.at is not None and item["n"] in (self.at, self.at + self.step):
            with Path(f"{self.calls.path}.begun").open("a") as begun:
                begun.write(f"{item['n']}\n")
            self.act(ctx)
        self.calls.note(item["n"])
        return item


def _raise(_: Any) -> None:
    raise ValueError("boom")


def _stop(_: Any) -> None:
    raise StopRun("enough of it")


def check_complete(bench: Bench, calls: Calls, rows: int, *, again: int = 0) -> None:
    """Check that each row is there once, and that no more calls than `again` were made twice."""
    assert sorted(row["_i"] for row in rows_in_shards(bench, "a", "node_0")) == list(range(rows))
    counted = calls.all()
    assert set(counted) == {str(n) for n in range(rows)}
    assert sum(counted.values()) - rows <= again


def test_an_operator_that_fails_ends_the_run_as_in_one_run_and_a_resume_goes_on(bench: Bench) -> None:
    """F1: the first failure is the cause, with its row; other shards are cancelled, and what they did is kept."""
    bench.give(numbered(40))
    calls = Calls(bench.folder / "calls")
    pipeline = in_shards(bench.pipeline([Counting(calls, 13, _raise)]), executor=InThreads(1)).create("a")
    with pytest.raises(NodeFailedError) as failed:
        pipeline.run(progress=False)
    assert failed.value.node_id == "node_0"
    assert str(failed.value).startswith("node node_0 failed: ValueError: boom; at row 13 (")
    assert "in.jsonl, line 14)" in str(failed.value)
    assert isinstance(failed.value.__cause__, ValueError)
    state = bench.run_state("a")
    assert (state["status"], state["error"]) == ("failed", "ValueError: boom")
    assert state["shards"] == {"count": 4, "merge": "shards", "done": 1, "running": 0}
    assert calls.all() == dict.fromkeys(map(str, range(13)), 1)
    again = in_shards(bench.pipeline([Counting(calls)]))
    report = again.resume("a").run(progress=False)
    assert (report.status, report.rows_in, report.rows_out) == ("completed", 40, 40)
    check_complete(bench, calls, 40)


def test_rows_that_fail_may_be_let_go_of_at_a_resume_and_replayed_later(bench: Bench) -> None:
    """A policy that is given to a resume is that of all shards; a replay does the dead letters of all of them."""
    bench.give(numbered(20))
    calls = Calls(bench.folder / "calls")

    def pipeline(at: int | None) -> Any:
        return in_shards(bench.pipeline([Counting(calls, at, _raise)]), executor=InThreads(1))

    with pytest.raises(NodeFailedError):
        pipeline(3).create("a").run(progress=False)
    report = pipeline(3).resume("a", on_error="dead_letter").run(progress=False)
    assert (report.status, report.nodes[0].dead_letters, report.rows_out) == ("completed", 1, 19)
    assert {entry["on_error"] for state in shard_states(bench, "a") for entry in state["nodes"]} == {"dead_letter"}
    replayed = pipeline(None).replay("a")
    assert replayed.run(progress=False).rows_out == 20
    assert sorted(row["_i"] for row in rows_in_shards(bench, "a", "node_0")) == list(range(20))
    assert set(calls.all().values()) == {1}


def test_more_failed_rows_in_all_shards_than_may_end_the_run(bench: Bench) -> None:
    bench.give(numbered(40))
    operator = instrument(lambda row: 1 / (row["n"] % 5))
    pipeline = bench.pipeline([operator], on_error="skip", max_errors=5)
    with pytest.raises(NodeFailedError, match=r"TooManyErrorsError: \d rows failed in all shards together"):
        in_shards(pipeline, executor=InThreads(1)).create("a").run(progress=False)


def test_an_operator_that_stops_the_run_stops_all_shards(bench: Bench) -> None:
    bench.give(numbered(40))
    calls = Calls(bench.folder / "calls")
    pipeline = in_shards(bench.pipeline([Counting(calls, 5, _stop)]), executor=InThreads(1)).create("a")
    report = pipeline.run(progress=False)
    assert (report.status, report.reason) == ("stopped", "enough of it")
    in_shards(bench.pipeline([Counting(calls)])).resume("a").run(progress=False)
    check_complete(bench, calls, 40)


class Listener:
    def __init__(self) -> None:
        self.messages: list[Any] = []

    def tell(self, message: Any) -> None:
        self.messages.append(message)


def test_commands_to_the_whole_reach_all_shards(bench: Bench) -> None:
    """Pause, Unpause, Reconfigure, GetStatus, Subscribe and Cancel are answered as by one run."""
    bench.give(numbered(40))
    calls = Calls(bench.folder / "calls")
    operator = Counting(calls, 4, until_paused, step=10)
    pipeline = in_shards(bench.pipeline([operator], rate=1000.0), executor=InThreads(2))
    with nothing_left():
        ref: Any = pipeline.create("a").start()
        listener = Listener()
        ref.tell(Subscribe(listener))
        begun = bench.folder / "calls.begun"
        eventually(lambda: begun.is_file() and len(begun.read_text().split()) == 2, "both shards are in the row")
        assert ref.ask(Pause(), timeout=30).paused
        assert ref.ask(GetStatus(), timeout=30).paused
        with pytest.raises(ConfigError, match="there is no node 'other'"):
            ref.ask(Reconfigure("other", parallel_size=2), timeout=30)
        changed = ref.ask(Reconfigure("node_0", parallel_size=3, rate=500.0), timeout=30)
        assert (changed.parallel_size, changed.batch_size, changed.rate) == (3, 1, 500.0)
        assert not ref.ask(Unpause(), timeout=30).paused
        report = pipeline.wait(60)
    assert report.status == "completed"
    states = shard_states(bench, "a")
    # Two shards run at once: each has half of the rate. Those that began later have the change as well.
    assert len(states) >= 4  # a slow one may give rows away
    assert {(state["nodes"][0]["parallel_size"], state["nodes"][0]["rate"]) for state in states} == {(3, 250.0)}
    assert (bench.run_state("a")["nodes"][0]["parallel_size"], bench.run_state("a")["nodes"][0]["rate"]) == (3, 500.0)
    assert isinstance(listener.messages[-1], PipelineFinished)
    assert {type(message).__name__ for message in listener.messages} >= {"NodeProgressed", "NodeFinished"}
    check_complete(bench, calls, 40)


def test_a_cancel_of_the_whole_cancels_and_saves_all_shards(bench: Bench) -> None:
    bench.give(numbered(40))
    calls = Calls(bench.folder / "calls")
    pipeline = in_shards(bench.pipeline([Counting(calls, 4, until_cancelled)]), executor=InThreads(1)).create("a")
    with nothing_left():
        ref = pipeline.start()
        eventually(lambda: len(calls.all()) >= 4, "the row is called")
        ref.tell(Cancel("no time"))
        report = pipeline.wait(60)
    assert (report.status, report.reason) == ("canceled", "no time")
    assert bench.run_state("a")["status"] == "canceled"
    in_shards(bench.pipeline([Counting(calls)])).resume("a").run(progress=False)
    check_complete(bench, calls, 40)


@pytest.mark.slow
def test_edited_operators_are_refused_accepted_or_done_again(bench: Bench) -> None:
    """An edit is judged over all shards: by what any of them has done."""
    bench.give(numbered(20))

    def pipeline(version: int, at: int | None = None) -> Any:
        calls = Calls(bench.folder / f"calls{version}")
        operator = Counting(calls, at, _raise)
        operator.version = str(version)
        return in_shards(bench.pipeline([operator]), executor=InThreads(1))

    with pytest.raises(NodeFailedError):
        pipeline(1, 7).create("a").run(progress=False)
    before = bench.files()
    Calls(bench.folder / "calls2")
    before = bench.files()
    with pytest.raises(OperatorChangedError, match=r"run 'a' has rows of operators that were edited since.*\(7 rows"):
        pipeline(2).resume("a")
    with pytest.raises(ConfigError, match="'rerun' keeps what was there as an earlier version"):
        pipeline(2).resume("a", on_change="rerun")
    assert bench.files() == before
    pipeline(2).resume("a", on_change="accept").run(progress=False)
    assert set(Calls(bench.folder / "calls2").all()) == {str(n) for n in range(7, 20)}
    pipeline(3).resume("a", on_change="replace").run(progress=False)
    assert set(Calls(bench.folder / "calls3").all()) == {str(n) for n in range(20)}
    assert [row["_i"] for row in rows_in_shards(bench, "a", "node_0")] == list(range(20))
    pipeline(3).resume("a").run(progress=False)
    assert set(Calls(bench.folder / "calls3").all().values()) == {1}


def _die_once(folder: Path) -> Any:
    """Return what kills its process, the first time."""

    def die(_: Any) -> None:
        mark = folder / "died"
        if not mark.exists():
            mark.touch()
            print("these are my last words", file=__import__("sys").stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    return die


@pytest.mark.slow
def test_a_worker_that_dies_is_begun_again_and_one_that_dies_always_is_named(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """R2: in processes: what a worker committed before it died stays; its last words are passed on, and told."""
    bench.give(numbered(30))
    calls = Calls(bench.folder / "calls")
    with nothing_left():
        pipeline = in_shards(
            bench.pipeline([Counting(calls, 13, _die_once(bench.folder))]), shards=3, executor=LocalExecutor(1)
        )
        report = pipeline.create("a").run(progress=False)
        assert report.status == "completed"
        check_complete(bench, calls, 30, again=10)
        (lost,) = (line for line in bench.log_lines() if line["event"] == "[Shard Lost]")
        assert (lost["shard"], lost["tries"]) == (1, 1)
        assert "was killed by SIGKILL" in lost["message"]
        assert "these are my last words" in lost["message"]
        assert "these are my last words\n" in capfd.readouterr().err
        always = Counting(calls, 13, lambda _: os.kill(os.getpid(), signal.SIGKILL))
        pipeline = in_shards(bench.pipeline([always]), shards=3, executor=LocalExecutor(1))
        with pytest.raises(NodeFailedError, match=r"shard 1 was begun 3 times at the same place, and its process died"):
            pipeline.create("a", if_exists="overwrite").run(progress=False)
        again = in_shards(bench.pipeline([Counting(calls)]), shards=3, executor=LocalExecutor(1))
        again.resume("a").run(progress=False)
    assert [row["_i"] for row in rows_in_shards(bench, "a", "node_0")] == list(range(30))


class Mine(JsonlStream):
    """A protocol of the test's own."""


@pytest.mark.slow
@pytest.mark.process
def test_workers_know_the_protocols_of_the_program(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StreamFactory, "_protocols", {**StreamFactory._protocols})
    monkeypatch.setattr(StreamFactory, "_of_users", {})
    StreamFactory.register("mine", Mine)
    bench.give(numbered(8))
    calls = Calls(bench.folder / "calls")
    pipeline = bench.pipeline([Counting(calls)], input_uri=f"mine://{bench.input}", output_uri=f"mine://{bench.output}")
    in_shards(pipeline, executor=LocalExecutor(1), shards=2, merge="concat").create("a").run(progress=False)
    assert [row["n"] for row in lines(bench.output)] == list(range(8))


def test_two_drivers_never_run_one_id(bench: Bench) -> None:
    """M23: the whole is locked for as long as it runs."""
    bench.give(numbered(20))
    calls = Calls(bench.folder / "calls")
    pipeline = in_shards(bench.pipeline([Counting(calls, 0, until_cancelled)]), executor=InThreads(1)).create("a")
    pipeline.start()
    other = in_shards(bench.pipeline([Counting(calls)]))
    with pytest.raises(PipelineBusyError, match=r"run 'a' in .* is being run by"):
        other.resume("a")
    pipeline.cancel()
    assert pipeline.wait(60).status == "canceled"
