"""Jobs that are open when nobody needs their rows any more: cancelled, and what they have answered is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.config import OnChange
from llm_datagen.llm import BatchError, LLMOperator
from llm_datagen.llm.batch import node_jobs, settling
from llm_datagen.llm.cost.budget import Amount
from llm_datagen.llm.cost.spend_file import SpendFile
from llm_datagen.pipeline import left_jobs
from llm_datagen.runs import RunFolder
from llm_datagen.runs.batch_jobs import BatchState, in_words, jobs_of, what_follows
from llm_datagen.runs.run_report import RunReport
from llm_datagen.runs.usage import JOBS_UNCOUNTED, is_at_least
from llm_datagen.testing import FakeLLMServer, LLMBatches

from ..kit.support import eventually

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("quick_batches")]

HOUR = 3600.0


class Desk:
    """A run of four rows; its jobs have two rows each, and take an hour."""

    def __init__(self, folder: Path, server: FakeLLMServer, api: str = "openai") -> None:
        self.folder, self.server, self.api = folder, server, api
        lines = (json.dumps({"q": f"q{number}"}) + "\n" for number in range(4))
        (folder / "in.jsonl").write_text("".join(lines))

    def pipeline(
        self,
        target: int | None = None,
        *,
        output: str = "out.jsonl",
        detach: bool = False,
        parallel_size: int = 4,
        prompt: str = "say {{ q }}",
        **more: Any,
    ) -> UnifiedPipeline:
        ask = LLMOperator(
            prompt,
            model="m",
            adapter=self.api,
            base_url=self.server.url(self.api),
            api_key="k",
            output="a",
            name="ask",
            prices={"input": 1.0, "output": 2.0},
            params={"max_tokens": 40},
            batch_api={"max_rows": 2, "max_wait": 3600.0, "poll_wait": 0.02, "late_s": 0.1, "detach": detach},
            **more,
        )
        return UnifiedPipeline(
            [ask],
            f"jsonl://{self.folder}/in.jsonl",
            f"jsonl://{self.folder}/{output}",
            results_dir=self.folder / "results",
            target=target,
            parallel_size=parallel_size,
        )

    def begin_until_met(self, **more: Any) -> UnifiedPipeline:
        """Begin a run whose first job meets its target when a row of the second one is answered, and one is not."""
        self.pipeline(2, detach=True, parallel_size=2, **more).create("a").run(progress=False)
        self.server.advance(0.8 * HOUR)
        pipeline = self.pipeline(2, parallel_size=2, **more).resume("a", parallel_size=4)
        pipeline.start()
        eventually(lambda: self.states == [BatchState.RUNNING] * 2)
        self.server.advance(0.7 * HOUR)
        return pipeline

    def run_again(self) -> RunReport:
        return self.pipeline(2, parallel_size=2).resume("a").run(progress=False)

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder / "results", "a")

    @property
    def states(self) -> list[BatchState]:
        return [job.state for job in jobs_of(self.run.files_path)]

    def check_all_is_counted(self, report: RunReport) -> None:
        account = self.server.account()
        assert str(report.status) == "completed"
        assert report.cost == pytest.approx(account["dollars"], abs=1e-12)
        assert self.run.load()["cost"] == report.cost
        assert report.warnings == []
        assert not is_at_least(self.run.load())
        assert set(self.states) == {BatchState.DONE}
        assert account["files"] == []
        assert account["running"] == []


@pytest.fixture(params=["openai", pytest.param("anthropic", marks=pytest.mark.slow)])
def desk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    cancelling = getattr(request.function, "cancelling", 0.0)
    batches = LLMBatches(seconds=HOUR, cancelling=cancelling, price=(1.0, 2.0))
    with FakeLLMServer(batches=batches) as server:
        yield Desk(tmp_path, server, request.param)


def _takes_long(test: Any) -> Any:
    test.cancelling = 60.0
    return test


@pytest.mark.parametrize("budget", [None, {"usd": 1.0}])
def test_what_jobs_have_answered_at_the_target_is_counted_before_the_run_is_completed(
    desk: Desk, budget: dict[str, float] | None
) -> None:
    report = desk.begin_until_met(budget=budget).wait()
    desk.check_all_is_counted(report)
    account = desk.server.account()
    assert len(account["rows"]) == 3
    assert report.rows_out == 2
    if budget is not None:
        spending = SpendFile(desk.run.files_path).read_all()
        assert spending.spent == Amount(round(account["dollars"] * 10**12), sum(account["tokens"].values()))
        assert not any(spending.in_flight)


@_takes_long
@pytest.mark.parametrize("is_noted", [True, False])
def test_a_cost_without_jobs_that_have_not_ended_says_so_until_a_resume_has_counted_them(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, is_noted: bool
) -> None:
    """Also that of a run which an earlier version has completed, without a word of its jobs."""
    with monkeypatch.context() as patch:
        patch.setattr(left_jobs, "SETTLE_SECONDS", 0.0)
        report = desk.begin_until_met().wait()
    assert str(report.status) == "completed"
    (warning,) = report.warnings
    assert "what 1 job with 2 rows of node_0 at " in warning
    assert warning.endswith(f"count it later: llm-datagen resume a --results-dir {desk.folder}/results")
    assert is_at_least(desk.run.load())
    if not is_noted:
        folder = desk.run
        run_state = folder.load()
        del run_state[JOBS_UNCOUNTED]
        folder.lock.acquire()
        folder.save(run_state)
        folder.lock.release()
    desk.server.advance(60.0)
    report = desk.run_again()
    desk.check_all_is_counted(report)
    assert report.rows_out == 2


@_takes_long
def test_what_fails_when_jobs_have_ended_is_told_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = settling.settle_jobs

    async def refused(*args: Any, **settings: Any) -> None:
        task = asyncio.create_task(settle(*args, **settings))
        while BatchState.CANCELLING not in desk.states:
            await asyncio.sleep(0.01)
        desk.server.advance(60.0)
        await task
        raise BatchError("the files at the provider stay")

    with monkeypatch.context() as patch:
        patch.setattr(settling, "settle_jobs", refused)
        report = desk.begin_until_met().wait()
    assert report.warnings == [
        "jobs of node_0 could not be settled (the files at the provider stay); try again: llm-datagen resume a "
        f"--results-dir {desk.folder}/results"
    ]
    desk.check_all_is_counted(desk.run_again())


@_takes_long
def test_a_cancel_while_jobs_are_waited_for_is_heard(desk: Desk) -> None:
    pipeline = desk.begin_until_met()
    eventually(lambda: all(str(node.status) in ("completed", "unneeded") for node in pipeline.progress))
    eventually(lambda: BatchState.CANCELLING in desk.states)
    pipeline.cancel()
    assert str(pipeline.wait().status) == "canceled"
    assert desk.states == [BatchState.DONE, BatchState.CANCELLING]
    assert in_words(jobs_of(desk.run.files_path)).startswith("1 collected, 1 being cancelled (2 rows")
    assert what_follows(jobs_of(desk.run.files_path)) == "; a resume collects what was answered"
    desk.server.advance(60.0)
    desk.check_all_is_counted(desk.run_again())


@pytest.mark.parametrize("on_change", ["accept", "rerun"])
def test_jobs_of_an_edited_prompt_are_cancelled_before_a_run_detaches(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, on_change: OnChange
) -> None:
    monkeypatch.setattr(node_jobs, "FOREIGN_SECONDS", 0.05)
    server = desk.server
    desk.pipeline(detach=True).create("a").run(progress=False)
    edited: dict[str, Any] = {"prompt": "tell {{ q }}"}
    report = desk.pipeline(detach=True, **edited).resume("a", on_change=on_change).run(progress=False)
    assert str(report.status) == "stopped"
    assert len(server.account()["running"]) == 2
    server.advance(2 * HOUR)
    report = desk.pipeline(**edited).resume("a").run(progress=False)
    desk.check_all_is_counted(report)
    assert sorted(server.account()["rows"]) == [f"tell q{number}" for number in range(4)]


def test_jobs_of_rows_that_are_answered_otherwise_are_cancelled_at_the_end(desk: Desk) -> None:
    """No row asks a job: all answers of the edited prompt are in the cache."""
    edited: dict[str, Any] = {"prompt": "tell {{ q }}", "cache": str(desk.folder / "answers.sqlite")}
    first = desk.pipeline(output="first.jsonl", **edited).create("c")
    first.start()
    eventually(lambda: len(desk.server.account()["running"]) == 2)
    desk.server.advance(HOUR)
    paid = first.wait().cost or 0.0
    desk.pipeline(detach=True).create("a").run(progress=False)
    desk.server.advance(0.7 * HOUR)
    report = desk.pipeline(**edited).resume("a", on_change="rerun").run(progress=False)
    assert report.rows_out == 4
    account = desk.server.account()
    assert sum(count for text, count in account["rows"].items() if text.startswith("say")) == 2
    assert report.cost == pytest.approx(account["dollars"] - paid, abs=1e-12)
    assert account["running"] == []
