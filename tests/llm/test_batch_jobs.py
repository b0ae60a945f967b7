"""Rows as jobs of batch APIs: sent, collected once, paid for once, whatever ends the process in between."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.config import OnChange
from llm_datagen.errors import ConfigError, DatagenError, NodeFailedError, OperatorChangedError
from llm_datagen.llm import LLMOperator
from llm_datagen.llm.batch import node_jobs
from llm_datagen.llm.batch.job_log import JobLog
from llm_datagen.llm.batch.options import ROWS_IN_FLIGHT, Batch
from llm_datagen.llm.batch.records import Arrived, NewRow
from llm_datagen.llm.cost.budget import Amount
from llm_datagen.llm.cost.spend_file import SpendFile
from llm_datagen.llm.errors import BatchError, LLMRequestError
from llm_datagen.llm.http.api_client import ApiClient
from llm_datagen.llm.http.batch.openai import OpenAIBatchAdapter
from llm_datagen.messages import Run
from llm_datagen.runs import RunFolder, batch_jobs
from llm_datagen.runs.batch_jobs import BatchState, in_words, job_log_path, jobs_of, money_of
from llm_datagen.runs.run_report import RunReport
from llm_datagen.runs.sent_jobs import list_path, sent_jobs
from llm_datagen.testing import BatchFaults, FakeLLMServer, LLMBatches

from ..kit.support import eventually
from .test_tool_runs import adder
from .tool_kit import add

PRICE = (1.0, 2.0)

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("quick_batches")]


class Bench:
    """A folder, and a pipeline of one operator in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self, count: int) -> None:
        lines = (json.dumps({"q": f"q{number}"}) + "\n" for number in range(count))
        (self.folder / "in.jsonl").write_text("".join(lines))

    def pipeline(
        self, server: FakeLLMServer, batch: dict[str, Any] | None = None, *, api: str = "openai", **more: Any
    ) -> UnifiedPipeline:
        node = {
            name: more.pop(name) for name in ("parallel_size", "on_error", "stall_after", "log_file") if name in more
        }
        operator = LLMOperator(
            more.pop("prompt", "say {{ q }}"),
            adapter=api,
            base_url=server.url(api),
            api_key=more.pop("api_key", "k"),
            output="a",
            name="ask",
            batch_api={"max_wait": 5.0, "poll_wait": 0.02, "late_s": 0.1, **(batch or {})},
            **{"model": "m", "prices": {"input": 1.0, "output": 2.0}, "params": {"max_tokens": 40}, **more},
        )
        return UnifiedPipeline(
            [operator],
            f"jsonl://{self.folder}/in.jsonl",
            f"jsonl://{self.folder}/out.jsonl",
            results_dir=self.folder / "results",
            **node,
        )

    def run(self, server: FakeLLMServer, batch: dict[str, Any] | None = None, **more: Any) -> RunReport:
        return self.pipeline(server, batch, **more).create("a", if_exists="resume").run(progress=False)

    @property
    def out(self) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in (self.folder / "out.jsonl").read_text().splitlines()]
        return sorted(rows, key=lambda row: int(str(row["_i"]).split("_")[0]))

    @property
    def files(self) -> Path:
        return RunFolder(self.folder / "results", "a").files_path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def _said(messages: Any) -> str:
    return f"you said: {messages[-1]['content']}"


def fake(*, seed: int = 0, faults: BatchFaults | None = None, **more: Any) -> FakeLLMServer:
    return FakeLLMServer(
        answer=_said, seed=seed, batches=LLMBatches(price=PRICE, faults=faults or BatchFaults(), **more)
    )


@pytest.mark.parametrize(
    "api", ["openai", pytest.param("anthropic", marks=pytest.mark.slow), pytest.param("gemini", marks=pytest.mark.slow)]
)
def test_rows_are_sent_as_jobs_and_cost_half(bench: Bench, api: str) -> None:
    bench.rows(7)
    with fake() as server:
        report = bench.run(server, {"max_rows": 3}, api=api)
        account = server.account()
    assert [row["a"] for row in bench.out] == [f"you said: say q{number}" for number in range(7)]
    assert sorted(job.rows for job in jobs_of(bench.files)) == [1, 3, 3]
    assert len(account["jobs"]) == 3
    assert account["calls"] == {}
    assert report.cost == pytest.approx(account["dollars"], abs=1e-12)
    assert report.cost is not None
    assert report.cost > 0
    (usage,) = report.usage
    assert usage["provider"] == "127.0.0.1 (batch)"
    assert usage["requests"] == 7
    assert all(job.state is BatchState.DONE for job in jobs_of(bench.files))
    assert account["files"] == []


@pytest.mark.slow
def test_rounds_with_tools_are_rows_of_jobs(bench: Bench) -> None:
    """Each round is a row of a job; how long a job takes is no matter for the bound of a row."""
    bench.rows(3)
    with FakeLLMServer(answer=adder, batches=LLMBatches(price=PRICE)) as server:
        prompt = "{{ q | replace('q', '') }}"
        report = bench.run(server, prompt=prompt, tools={"tools": [add], "max_seconds": 0.2}, meta=True)
        account = server.account()
    assert [row["a"] for row in bench.out] == ["40", "41", "42"]
    assert [row["_meta"]["node_0"]["tool_calls"] for row in bench.out] == [1, 1, 1]
    assert (report.usage[0]["requests"], account["calls"]) == (6, {})


def test_a_job_is_sent_at_once_when_nothing_more_can_come(bench: Bench) -> None:
    """Neither `max_rows` nor `max_wait` is reached: the input has ended."""
    bench.rows(3)
    with fake() as server:
        bench.run(server, {"max_wait": 3600.0})
    assert [job.rows for job in jobs_of(bench.files)] == [3]


@pytest.mark.slow
def test_a_job_is_sent_when_the_node_is_full(bench: Bench) -> None:
    bench.rows(6)
    with fake() as server:
        bench.run(server, {"max_wait": 3600.0}, parallel_size=2)
    assert sum(job.rows for job in jobs_of(bench.files)) == 6
    assert max(job.rows for job in jobs_of(bench.files)) == 2


def test_a_node_with_jobs_has_many_rows_in_flight_unless_it_is_told(bench: Bench) -> None:
    with fake() as server:
        pipeline = bench.pipeline(server)
        (entry,) = pipeline.blueprint()[0]["nodes"]
        assert entry["parallel_size"] == 1
        assert entry["calls_at_once"] == ROWS_IN_FLIGHT


@pytest.mark.parametrize(
    "fault",
    [
        "job_expired",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("job_cancelled", "row_lost", "row_overloaded")),
    ],
)
def test_rows_without_an_answer_go_into_the_next_job(bench: Bench, fault: str) -> None:
    bench.rows(32)  # the keys of jobs are made by chance, so which rows meet the fault is, too
    with fake(faults=BatchFaults(**{fault: 0.5}), seed=3) as server:
        report = bench.run(server, {"max_rows": 8}, max_retries=50)
        account = server.account()
    assert len(bench.out) == 32
    assert set(account["rows"].values()) == {1}
    assert len(account["jobs"]) > 4
    assert report.cost == pytest.approx(account["dollars"], abs=1e-12)


def test_rows_without_an_answer_are_plain_calls_when_that_is_wanted(bench: Bench) -> None:
    bench.rows(8)
    with fake(faults=BatchFaults(job_expired=1.0)) as server:
        report = bench.run(server, {"fallback": "online"})
        account = server.account()
    assert len(bench.out) == 8
    assert len(account["jobs"]) == 1
    assert len(account["calls"]) == 4
    assert report.cost == pytest.approx(account["dollars"], abs=1e-12)
    assert sorted(entry["provider"] for entry in report.usage) == ["127.0.0.1", "127.0.0.1 (batch)"]


@pytest.mark.slow
def test_a_row_that_gets_no_answer_in_any_job_fails(bench: Bench) -> None:
    bench.rows(2)
    with fake(faults=BatchFaults(row_lost=1.0)) as server, pytest.raises(NodeFailedError, match=r"job 3 of 3"):
        bench.run(server, max_retries=2)


def test_a_row_that_is_refused_fails_as_by_a_plain_call(bench: Bench) -> None:
    bench.rows(2)
    with fake(faults=BatchFaults(row_failed=1.0)) as server:
        report = bench.run(server, on_error="dead_letter")
        assert len(server.account()["jobs"]) == 1
    assert report.nodes[0].dead_letters == 2
    assert report.cost in (None, 0.0)


def test_a_submit_that_is_lost_is_looked_for_and_not_sent_again(bench: Bench) -> None:
    bench.rows(4)
    with fake(faults=BatchFaults(drop_after=1.0)) as server:
        bench.run(server)
        account = server.account()
    assert [len(jobs) for jobs in account["jobs"].values()] == [1]
    assert set(account["rows"].values()) == {1}


@pytest.mark.slow
def test_a_job_that_is_registered_late_is_waited_for(bench: Bench) -> None:
    bench.rows(4)
    with fake(faults=BatchFaults(register_late=1.0, late_s=0.2)) as server:
        bench.run(server, {"late_s": 0.8})
        account = server.account()
    assert [len(jobs) for jobs in account["jobs"].values()] == [1]
    assert set(account["rows"].values()) == {1}


@pytest.mark.slow
def test_a_job_that_comes_later_than_that_is_cancelled(bench: Bench) -> None:
    """What was billed until then cannot be had back; the files are gone, and the rows are not worked on twice."""
    bench.rows(4)
    first = [True]
    submit = OpenAIBatchAdapter.submit

    with fake(seconds=0.5, waits=0.2) as server, pytest.MonkeyPatch.context() as patch:

        async def late(self: Any, http: Any, items: Any, *, key: str, model: str) -> str:
            if first:
                first.clear()
                raise LLMRequestError("no acknowledgement", may_pass=True)
            return await submit(self, http, items, key=key, model=model)

        patch.setattr(OpenAIBatchAdapter, "submit", late)
        bench.run(server, {"late_s": 0.05})
        account = server.account()
    states = [(job.state, job.rows) for job in jobs_of(bench.files)]
    assert states == [(BatchState.DROPPED, 4), (BatchState.DONE, 4)]
    assert set(account["rows"].values()) == {1}


def test_an_endpoint_that_acknowledges_no_job_and_lists_none_is_an_outage(bench: Bench) -> None:
    """Else jobs would be sent for ever, each after it was looked for."""
    bench.rows(3)
    tries = []

    async def unheard(self: Any, http: Any, items: Any, *, key: str, model: str) -> str:
        tries.append(key)
        raise LLMRequestError("HTTP 200 with an error", may_pass=True)

    with fake() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenAIBatchAdapter, "submit", unheard)
        with pytest.raises(NodeFailedError, match=r"took no job for 0.2 s: the provider did not acknowledge it"):
            bench.run(server, {"late_s": 0.02}, outage_after=0.2)
        patch.undo()
        assert len(tries) > 1
        bench.run(server)
        account = server.account()
    assert (len(account["jobs"]), set(account["rows"].values())) == (1, {1})
    assert len(bench.out) == 3


def test_a_provider_that_does_not_tell_of_its_jobs_is_named_until_it_does(bench: Bench) -> None:
    bench.rows(3)
    status, is_back = OpenAIBatchAdapter.status, threading.Event()

    async def away(self: Any, http: Any, job_id: str) -> Any:
        if not is_back.is_set():
            raise LLMRequestError("HTTP 503 from the provider", status=503, may_pass=True)
        return await status(self, http, job_id)

    with fake() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenAIBatchAdapter, "status", away)
        pipeline = bench.pipeline(server).create("a")
        pipeline.start()
        eventually(lambda: pipeline.progress[0].outage is not None)
        outage = pipeline.progress[0].outage
        is_back.set()
        pipeline.wait()
    assert outage is not None
    (down,) = outage["endpoints"]
    assert down["endpoint"].startswith("http://127.0.0.1:")
    assert (outage["calls"], down["status"], down["error"]) == (3, 503, "HTTP 503 from the provider")
    assert down["tries"] >= 3
    assert pipeline.progress[0].outage is None
    assert len(bench.out) == 3


def test_a_run_that_detaches_ends_and_a_resume_collects(bench: Bench) -> None:
    bench.rows(5)
    with fake(seconds=3600.0) as server:
        report = bench.run(server, {"max_rows": 2, "detach": True})
        assert str(report.status) == "stopped"
        assert report.reason == "detached: 3 jobs with 5 rows at the provider; resume collects them"
        assert in_words(jobs_of(bench.files)) == "3 at the provider (5 rows)"
        again = bench.run(server, {"max_rows": 2, "detach": True})
        assert str(again.status) == "stopped"
        server.advance(7200.0)
        report = bench.run(server, {"max_rows": 2, "detach": True})
        account = server.account()
    assert str(report.status) == "completed"
    assert len(account["jobs"]) == 3
    assert set(account["rows"].values()) == {1}
    assert report.cost == pytest.approx(account["dollars"], abs=1e-12)


def test_a_cancel_cancels_the_jobs_and_a_resume_takes_what_they_answered(bench: Bench) -> None:
    bench.rows(4)
    with fake(seconds=3600.0, cancelling=60.0) as server:
        pipeline = bench.pipeline(server).create("a")
        pipeline.start()
        eventually(lambda: bool(server.account()["running"]))
        server.advance(1850.0)  # two rows are answered
        pipeline.cancel("enough")
        pipeline.wait()
        assert [job.state for job in jobs_of(bench.files)] == [BatchState.CANCELLING]
        server.advance(60.0)
        assert str(bench.run(server, {"detach": True}).status) == "stopped"
        assert len(bench.out) == 2
        server.advance(3600.0)
        assert str(bench.run(server).status) == "completed"
        account = server.account()
    assert len(bench.out) == 4
    assert set(account["rows"].values()) == {1}
    assert len(account["jobs"]) == 2


def test_a_stop_of_the_actor_of_a_pipeline_keeps_the_jobs(bench: Bench) -> None:
    """Nobody asked for their end: a resume collects them, as after a failure."""
    bench.rows(2)
    with fake(seconds=3600.0) as server:
        ref = bench.pipeline(server).create("a").actor()
        ref.tell(Run())
        eventually(lambda: [job.state for job in jobs_of(bench.files)] == [BatchState.RUNNING])
        ref.stop()
        assert [job.state for job in jobs_of(bench.files)] == [BatchState.RUNNING]
        server.advance(3600.0)
        assert str(bench.run(server).status) == "completed"
        account = server.account()
    assert len(bench.out) == 2
    assert len(account["jobs"]) == 1


def test_what_jobs_cost_counts_once_in_the_budget_and_rows_that_fit_are_waited_for(bench: Bench) -> None:
    bench.rows(6)
    with fake() as server:
        report = bench.run(server, {"max_rows": 2}, budget={"tokens": 230}, parallel_size=2)
        assert str(report.status) == "stopped"
        done = len(bench.out)
        assert 0 < done < 6
        spending = SpendFile(bench.files).read_all()
        assert spending.spent.tokens == sum(server.account()["tokens"].values())
        assert not any(spending.in_flight)
        report = bench.run(server, {"max_rows": 2}, budget={"tokens": 100_000})
        account = server.account()
    assert str(report.status) == "completed"
    assert set(account["rows"].values()) == {1}
    assert SpendFile(bench.files).read_all().spent == Amount(
        round(account["dollars"] * 10**12), sum(account["tokens"].values())
    )


def test_jobs_at_another_endpoint_are_not_left_behind(bench: Bench) -> None:
    bench.rows(2)
    with fake(seconds=3600.0) as server, fake() as other:
        bench.run(server, {"detach": True})
        with pytest.raises(NodeFailedError, match=r"the run has 1 job with 2 rows at .*Resume with that endpoint"):
            bench.run(other)
        server.advance(7200.0)
        assert str(bench.run(server).status) == "completed"
        assert other.account()["jobs"] == {}


def test_an_edited_prompt_is_refused_while_rows_are_in_jobs(bench: Bench) -> None:
    """Else a resume would cancel, without a word, jobs that are paid for."""
    bench.rows(3)
    with fake(seconds=3600.0) as server:
        bench.run(server, {"detach": True})
        with pytest.raises(OperatorChangedError) as caught:
            bench.pipeline(server, prompt="tell {{ q }}").resume("a")
        assert "(3 wait in jobs, which are paid for and would be cancelled). Undo that; or" in str(caught.value)
        server.advance(7200.0)
        assert str(bench.run(server).status) == "completed"
        assert len(server.account()["jobs"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("on_change", ["accept", "rerun", "replace"])
def test_an_edited_prompt_leaves_jobs_that_are_cancelled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, on_change: OnChange
) -> None:
    monkeypatch.setattr(node_jobs, "FOREIGN_SECONDS", 0.05)
    bench.rows(3)
    with fake(seconds=3600.0) as server:
        bench.run(server, {"detach": True})
        pipeline = bench.pipeline(server, {"poll_wait": 0.02}, prompt="tell {{ q }}")
        pipeline.resume("a", on_change=on_change)
        pipeline.start()
        eventually(lambda: [job.state for job in jobs_of(bench.files)] == [BatchState.DONE, BatchState.RUNNING])
        server.advance(7200.0)
        pipeline.wait()
        account = server.account()
    assert [row["a"] for row in bench.out] == [f"you said: tell q{number}" for number in range(3)]
    assert set(account["rows"]) == {f"tell q{number}" for number in range(3)}


@pytest.mark.slow
def test_two_samples_of_a_row_are_two_rows_of_a_job(bench: Bench) -> None:
    bench.rows(3)
    with fake() as server:
        bench.run(server, n=2)
        account = server.account()
    assert len(bench.out) == 6
    assert set(account["rows"].values()) == {2}


def test_an_adapter_without_a_batch_api_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"OllamaAdapter has no batch API; the adapters openai, .* have one"):
        LLMOperator("x", model="m", adapter="ollama", batch_api=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_rows": 0}, "max_rows"),
        ({"price": 2}, "share of the plain price"),
        ({"fallback": "never"}, "fallback"),
        ({"rows": 3}, "has no setting 'rows'"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        LLMOperator("x", model="m", batch_api=options)


def test_options_of_jobs_are_no_part_of_the_fingerprint() -> None:
    plain = LLMOperator("x", model="m").fingerprint()
    assert LLMOperator("x", model="m", batch_api=Batch(max_rows=3)).fingerprint() == plain
    assert LLMOperator("x", model="m", batch_api=True).fingerprint() == plain


@pytest.fixture
def job_log(tmp_path: Path) -> Iterator[JobLog]:
    one = JobLog(job_log_path(tmp_path, "node"))
    one.open()
    yield one
    one.close()


def test_a_job_log_of_another_version_is_refused_by_name(job_log: JobLog) -> None:
    job_log.close()
    with closing(sqlite3.connect(job_log.path)) as file:
        file.execute("PRAGMA user_version = 7")
    with pytest.raises(BatchError, match=r"job log of format 7.*resume with the version that wrote it"):
        job_log.open()


def test_a_damaged_job_log_is_refused_by_name(job_log: JobLog) -> None:
    job_log.close()
    job_log.path.write_bytes(b"no database at all" * 100)
    with pytest.raises(BatchError, match=r"is no job log, or damaged.*cancel these jobs there first"):
        job_log.open()
    with pytest.raises(DatagenError, match=r"cannot be read: file is not a database\. Restore it, .*paid for, again$"):
        money_of(job_log.path)


def test_an_empty_job_log_has_lost_its_jobs_and_is_refused(job_log: JobLog) -> None:
    job_log.close()
    job_log.path.write_bytes(b"")
    with pytest.raises(BatchError, match=r"damaged: it is empty.*cancel these jobs there first"):
        job_log.open()


def test_a_job_that_is_noted_while_others_are_read_is_not_taken_for_a_lost_one(
    job_log: JobLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on notes it in the job log first, then in the list: who reads does so the other way round."""
    reading = batch_jobs._reading

    @contextmanager
    def and_then_one_is_noted(path: Path) -> Iterator[sqlite3.Connection]:
        with reading(path) as file:
            yield file
        job_log.intend("k1", "there", "m", [NewRow(b"s", b"b", Amount(1, 1))], 10)

    with monkeypatch.context() as patch:
        patch.setattr(batch_jobs, "_reading", and_then_one_is_noted)
        assert jobs_of(tmp_path) == []
    assert [job.key for job in jobs_of(tmp_path)] == ["k1"]


def test_what_a_kill_has_left_half_written_in_a_job_log_is_taken_back_by_who_reads_it(tmp_path: Path) -> None:
    """A kill while the journal of the database is switched leaves that; who only reads may not write, and refused."""
    whole, killed = job_log_path(tmp_path / "a", "n"), job_log_path(tmp_path / "b", "n")
    job_log = JobLog(whole)
    job_log.open()
    job_log.intend("k1", "there", "m", [NewRow(b"s", b"b", Amount(1, 1))], 10)
    job_log.close()
    killed.parent.mkdir(parents=True)
    with closing(sqlite3.connect(whole, isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode = DELETE").fetchone()
        file.execute("PRAGMA cache_size = 1")  # what does not fit goes into the file before it is committed
        file.execute("BEGIN IMMEDIATE")
        file.execute("UPDATE jobs SET key = 'half'")
        new = "INSERT INTO rows (job, place, scope, body, most_picodollars, most_tokens) VALUES (1, ?, x'', ?, 0, 0)"
        file.executemany(new, [(place, bytes(1000)) for place in range(100)])
        for ending in ("", "-journal"):
            killed.with_name(killed.name + ending).write_bytes(whole.with_name(whole.name + ending).read_bytes())
    assert [job.key for job in jobs_of(tmp_path / "b")] == ["k1"]


def test_a_job_log_is_made_at_once_or_not_at_all(tmp_path: Path) -> None:
    path = job_log_path(tmp_path, "one")
    path.parent.mkdir()
    path.with_name("one.sqlite.new").write_bytes(b"half of it, by a process that was killed")
    one = JobLog(path)
    one.open()
    assert one.unfinished() == []
    one.close()
    assert [each.name for each in path.parent.iterdir()] == ["one.sqlite"]


@pytest.mark.parametrize("has_list", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_job_log_that_is_gone_is_refused_by_name(bench: Bench, has_list: bool) -> None:
    """Else the run would begin anew, and pay for its rows again. The list is of this version: an older one had none."""
    bench.rows(3)
    with fake(seconds=3600.0) as server:
        bench.run(server, {"max_rows": 2, "detach": True})
        path = job_log_path(bench.files, "node_0")
        if not has_list:
            list_path(path).unlink()
            assert str(bench.run(server, {"detach": True}).status) == "stopped"
        kept = path.read_bytes()
        path.unlink()
        gone = rf"the job log .*node_0.sqlite is gone: 2 jobs with 3 rows sent to {server.base_url}.* are not in it"
        with pytest.raises(DatagenError, match=gone):
            bench.run(server)
        with pytest.raises(DatagenError, match=gone):
            bench.pipeline(server).create("a", if_exists="overwrite")
        with pytest.raises(DatagenError, match=gone):
            JobLog(path).open()
        operator = bench.pipeline(server).operators_of(RunFolder(bench.folder / "results", "a").load())[0]
        with pytest.raises(DatagenError, match=gone):
            asyncio.run(operator.cancel_jobs(bench.files, "node_0", print))
        assert not path.exists()
        path.write_bytes(kept)
        server.advance(7200.0)
        assert str(bench.run(server).status) == "completed"
        assert len(server.account()["jobs"]) == 2


def test_an_older_copy_of_a_job_log_is_refused_and_one_without_its_wal_is_whole(job_log: JobLog) -> None:
    rows = [NewRow(b"s", b"b", Amount(10, 4))]
    job_log.intend("key-0001", "http://e", "m", rows, 100)
    older = job_log.path.read_bytes()
    job = job_log.intend("key-0002", "http://e", "m", rows, 100)
    job_log.submitted(job.number, "batch_2")
    whole = job_log.path.read_bytes()  # while it is open: nothing is in the -wal alone
    job_log.close()
    for name in ("-wal", "-shm"):
        job_log.path.with_name(f"node.sqlite{name}").unlink(missing_ok=True)
    job_log.path.write_bytes(older)
    with pytest.raises(BatchError, match=r"is an older copy: 1 job with 1 row sent to http://e is not in it.*key-0002"):
        job_log.open()
    job_log.close()
    job_log.path.write_bytes(whole)
    with list_path(job_log.path).open("ab") as file:
        file.write(b'{"key": "key-0003", "endp')  # cut off, so not sent
    job_log.open()
    assert [(each.key, each.job_id) for each in job_log.unfinished()] == [("key-0001", None), ("key-0002", "batch_2")]
    job_log.intend("key-0004", "http://e", "m", rows, 100)
    assert [each.key for each in sent_jobs(job_log.path)] == ["key-0001", "key-0002", "key-0004"]
    job_log.close()
    listed = list_path(job_log.path)
    listed.write_bytes(listed.read_bytes().replace(b'"key-0002",', b'"key-0002"!', 1))
    with pytest.raises(BatchError, match=r"sent jobs .*node\.jsonl is damaged: .*key-0002.* delete the list"):
        job_log.open()


def test_an_answer_that_comes_again_is_counted_once(job_log: JobLog) -> None:
    job = job_log.intend("key-1234", "http://e", "m", [NewRow(b"s", b"b", Amount(10, 4))], 100)
    assert money_of(job_log.path) == ((0, 0), (0, 0), (10, 4), (0, 0))
    usage = {"provider": "p", "model": "m", "requests": 1, "cost": 7}
    arrived = Arrived(0, "answered", 200, b"{}", Amount(7, 3), usage=usage)
    assert job_log.answered(job.number, [arrived]) == [arrived]
    assert job_log.answered(job.number, [arrived]) == []
    assert job_log.collected(job.number, [arrived]) == []
    assert money_of(job_log.path) == ((7, 3), (0, 0), (0, 0), (0, 0))
    assert job_log.usage() == [{"provider": "p", "model": "m", "requests": 1, "cost": 7e-12}]


def test_rows_of_a_job_that_was_dropped_cost_nothing_and_of_one_that_was_lost_all(job_log: JobLog) -> None:
    for key, outcome, spent in (("key-0001", "dropped", (0, 0)), ("key-0002", "lost", (10, 4))):
        job = job_log.intend(key, "http://e", "m", [NewRow(key.encode(), b"b", Amount(10, 4))], 100)
        job_log.dropped(job.number, "gone", outcome)
        assert money_of(job_log.path) == (spent, spent, (0, 0), (0, 0))
        found = job_log.latest(key.encode(), b"b")
        assert found is not None
        assert (found.outcome, found.tries) == (outcome, int(outcome == "lost"))


def test_a_run_has_one_job_log_for_each_node(bench: Bench) -> None:
    assert job_log_path(bench.files, "node/0").name == "node%2F0.sqlite"


@pytest.mark.slow
def test_a_row_in_a_job_of_one_endpoint_of_a_pool_is_not_asked_at_another(bench: Bench) -> None:
    bench.rows(8)
    with fake(seconds=3600.0) as one, fake(seconds=3600.0) as two:
        both = [{"model": "m", "base_url": each.base_url, "api_key": "k"} for each in (one, two)]

        def run(**batch: Any) -> str:
            operator = LLMOperator(
                "say {{ q }}", endpoints=both, output="a", name="ask", batch_api={"poll_wait": 0.02, **batch}
            )
            uris = (f"jsonl://{bench.folder}/in.jsonl", f"jsonl://{bench.folder}/out.jsonl")
            pipeline = UnifiedPipeline([operator], *uris, results_dir=bench.folder / "results")
            return str(pipeline.create("a", if_exists="resume").run(progress=False).status)

        assert run(detach=True) == "stopped"
        assert [job.rows for job in jobs_of(bench.files)] == [4, 4]
        one.advance(7200.0)
        two.advance(7200.0)
        assert run() == "completed"
        assert [len(server.account()["jobs"]) for server in (one, two)] == [1, 1]
    assert len(bench.out) == 8


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 7))
def test_a_disk_that_is_full_at_any_step_fails_the_run_and_a_resume_goes_on(bench: Bench, number: int) -> None:
    """The intent, the id, looks, answers, their end, and that the job is deleted."""
    bench.rows(4)
    writes = [0]
    writing = JobLog._writing

    def full(self: JobLog) -> Any:
        writes[0] += 1
        if writes[0] == number:
            raise BatchError("the job log cannot be written: database or disk is full")
        return writing(self)

    with fake(seconds=0.1) as server:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(JobLog, "_writing", full)
            with pytest.raises(NodeFailedError, match="disk is full"):
                bench.run(server, {"max_rows": 2})
        report = bench.run(server, {"max_rows": 2})
        account = server.account()
    assert writes[0] >= number
    assert str(report.status) == "completed"
    assert len(bench.out) == 4
    assert set(account["rows"].values()) == {1}
    assert report.cost == pytest.approx(account["dollars"], abs=1e-12)


def test_a_job_behind_another_key_is_not_sent_again_unless_it_is_given_up(bench: Bench) -> None:
    """To another account, a provider says that there is no such job."""
    bench.rows(2)
    with fake(seconds=3600.0) as server:
        bench.run(server, {"detach": True}, budget={"tokens": 10_000})
        held = SpendFile(bench.files).read_all().in_flight
    with fake() as other, pytest.MonkeyPatch.context() as patch:
        patch.setattr(node_jobs.NodeJobs, "_check_endpoints", lambda *_: None)
        with closing(sqlite3.connect(job_log_path(bench.files, "node_0"))) as file:
            file.execute("UPDATE jobs SET endpoint = ?", (f"{other.base_url}/chat/completions",))
            file.commit()
        with pytest.raises(NodeFailedError, match=r"does not know job batch_000001 of this run, with 2 rows: resume"):
            bench.run(other, budget={"tokens": 10_000})
        assert other.account()["jobs"] == {}
        assert SpendFile(bench.files).read_all().in_flight == held

        operator = bench.pipeline(other).operators_of(RunFolder(bench.folder / "results", "a").load())[0]
        assert asyncio.run(operator.cancel_jobs(bench.files, "node_0", print)) == 1
        report = bench.run(other, budget={"tokens": 10_000})
        account = other.account()
    assert str(report.status) == "completed"
    assert [each.state for each in jobs_of(bench.files)] == [BatchState.DROPPED, BatchState.DONE]
    spending = SpendFile(bench.files).read_all()
    assert spending.lost == held
    assert spending.spent.tokens == held.tokens + sum(account["tokens"].values())


def test_answers_that_came_before_the_rest_was_gone_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.rows(4)
    records, looks = ApiClient.records, [0]

    async def gone(self: Any, path: str) -> AsyncGenerator[Any, None]:
        looks[0] += 1
        is_first, taken = looks[0] == 1, 0
        async for record in records(self, path):
            if is_first and taken == 3:
                raise LLMRequestError("gone", status=404)
            taken += 1
            yield record

    monkeypatch.setattr(ApiClient, "records", gone)
    with fake() as server:
        report = bench.run(server)
        account = server.account()
    assert str(report.status) == "completed"
    assert sorted(account["rows"].values()) == [1, 1, 1, 2]  # what is gone is paid for
    assert account["files"] == []


@pytest.mark.slow
def test_results_with_a_damaged_line_fail_the_run_and_are_given_up_when_the_job_is_old(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.rows(4)
    lines, files = ApiClient._lines, []

    async def damaged(self: Any, response: Any) -> AsyncIterator[bytes]:
        files.append(response.url.path)
        number = 0
        async for line in lines(self, response):
            number += 1
            yield line[:-9] if number == 3 and response.url.path == files[0] else line

    monkeypatch.setattr(ApiClient, "_lines", damaged)
    with fake() as server:
        with pytest.raises(NodeFailedError, match="no JSON, or cut off"):
            bench.run(server, outage_after=0.05)
        assert len(server.account()["jobs"]) == 1
        report = bench.run(server, {"max_age": 0.01}, outage_after=0.05)
        account = server.account()
    assert str(report.status) == "completed"
    assert len(bench.out) == 4
    assert sorted(account["rows"].values()) == [1, 1, 2, 2]
    assert account["files"] == []


def test_an_endpoint_that_refuses_jobs_fails_the_run_and_no_row(bench: Bench) -> None:
    bench.rows(2)
    with (
        FakeLLMServer(api_key="another") as server,
        pytest.raises(NodeFailedError, match="a job was refused: HTTP 401"),
    ):
        bench.run(server, on_error="dead_letter")
    assert not list(bench.folder.glob("*.errors.jsonl"))


@pytest.mark.slow
def test_no_more_tokens_wait_at_the_provider_than_may(bench: Bench) -> None:
    bench.rows(6)
    with fake(seconds=0.05, enqueued_tokens=30) as server:  # a prompt has 8, as this server counts, or a few more
        bench.run(server, {"max_rows": 2, "max_enqueued_tokens": 100})
        account = server.account()
    assert [job.state for job in jobs_of(bench.files)] == [BatchState.DONE] * 3
    assert set(account["rows"].values()) == {1}


@pytest.mark.slow
def test_a_job_that_fails_as_too_many_tokens_wait_is_sent_again_later(bench: Bench) -> None:
    bench.rows(6)
    with fake(seconds=0.05, enqueued_tokens=30) as server:
        bench.run(server, {"max_rows": 2})
        account = server.account()
    assert len(jobs_of(bench.files)) > 3
    assert set(account["rows"].values()) == {1}
    assert len(bench.out) == 6
    assert account["files"] == []


def test_rows_in_jobs_are_not_given_up_with_the_process(bench: Bench) -> None:
    bench.rows(2)
    with fake() as server:
        pipeline = bench.pipeline(server)
        with pytest.raises(ConfigError, match=r"delivery='at_most_once' gives up rows .* in jobs that go on"):
            pipeline.create("a", delivery="at_most_once").run(progress=False)
        assert server.account()["jobs"] == {}


@pytest.mark.slow
def test_a_node_whose_rows_are_in_jobs_is_not_stalled(bench: Bench) -> None:
    bench.rows(2)
    log = bench.folder / "platform.log"
    with fake(seconds=1.0) as server:
        bench.run(server, stall_after=0.1, log_file=log)
    _, is_sent, said = log.read_text().partition("batch job submitted")
    assert is_sent
    assert "batch job ended" in said
    assert "[Stalled]" not in said
