"""What providers do with jobs that no API describes, and what is said and counted of it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import NodeFailedError
from llm_datagen.llm.batch import collecting
from llm_datagen.llm.batch.job_log import JobLog
from llm_datagen.llm.batch.records import Arrived, NewRow
from llm_datagen.llm.cost.budget import Amount
from llm_datagen.llm.cost.spend_file import SpendFile
from llm_datagen.llm.http.api_client import ApiClient
from llm_datagen.llm.http.batch.base import ApiResponse, BatchHttp, CancelRefusedError, JobStatus
from llm_datagen.llm.http.batch.openai import OpenAIBatchAdapter
from llm_datagen.runs import RunFolder
from llm_datagen.runs.batch_jobs import BatchState, job_log_path, jobs_of
from llm_datagen.testing import BatchFaults, FakeLLMServer

from .test_batch_jobs import Bench, fake

SECRET = "sk-never-to-be-seen-1234"
BUDGET = {"tokens": 10_000}

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("quick_batches")]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def changed(patch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None]) -> None:
    """Have the JSON that an API answers changed before anybody reads it."""
    request = ApiClient.request

    async def changing(self: ApiClient, method: str, path: str, **more: Any) -> ApiResponse:
        answered = await request(self, method, path, **more)
        if isinstance(answered.data, dict):
            change(answered.data)
        return answered

    patch.setattr(ApiClient, "request", changing)


def age(bench: Bench) -> None:
    """Have the jobs that there are be sent a month ago, which is longer than `max_age`."""
    with closing(sqlite3.connect(job_log_path(bench.files, "node_0"))) as file, file:
        file.execute("UPDATE jobs SET made_at = made_at - 2592000, submitted_at = submitted_at - 2592000")


def cancel(bench: Bench, server: FakeLLMServer, batch: dict[str, Any] | None = None, **more: Any) -> list[str]:
    """Cancel the jobs of the run; return what is told."""
    operator = bench.pipeline(server, batch, **more).operators_of(RunFolder(bench.folder / "results", "a").load())[0]
    told: list[str] = []
    asyncio.run(operator.cancel_jobs(bench.files, "node_0", told.append))
    return told


@pytest.mark.parametrize("has_results", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("is_cancelled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_job_in_a_state_that_nobody_knows_is_collected_or_given_up_by_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, has_results: bool, is_cancelled: bool
) -> None:
    """It cannot be cancelled, as it has ended."""

    def concluded(data: dict[str, Any]) -> None:
        if data.get("id") == "batch_000001" and data["status"] == "completed":
            data["status"] = "concluded"
            if not has_results:
                data |= {"output_file_id": None, "error_file_id": None, "request_counts": {}}

    changed(monkeypatch, concluded)
    bench.rows(2)
    with fake(seconds=3600.0) as server:
        bench.run(server, {"detach": True}, budget=BUDGET)
        assert [job.state for job in jobs_of(bench.files)] == [BatchState.RUNNING]
        held = SpendFile(bench.files).read_all().in_flight
        server.advance(7200.0)
        if is_cancelled:
            (told,) = cancel(bench, server)
            assert "job batch_000001 at " in told
            assert "cannot be cancelled: HTTP 409" in told
            assert [job.state for job in jobs_of(bench.files)] == [BatchState.CANCELLING]
        else:
            age(bench)
        report = bench.run(server, {"detach": not has_results}, budget=BUDGET)
        if not has_results:  # another one has its rows
            server.advance(7200.0)
            report = bench.run(server, budget=BUDGET)
        account = server.account()
    assert str(report.status) == "completed"
    assert len(bench.out) == 2
    jobs = jobs_of(bench.files)
    if has_results:
        assert [(job.state, job.why) for job in jobs] == [(BatchState.DONE, "")]
        assert set(account["rows"].values()) == {1}
    else:
        assert [job.why for job in jobs] == ["its state 'concluded' is not known, and it has no results of 2 rows", ""]
        assert [job.state for job in jobs] == [BatchState.DONE, BatchState.DONE]
        assert SpendFile(bench.files).read_all().lost == held


def test_answers_that_the_provider_does_not_give_out_any_more_were_paid_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anthropic's jobs are archived after 29 days."""

    def archived(data: dict[str, Any]) -> None:
        if str(data.get("id")).endswith("_000001") and data.get("results_url"):
            data |= {"results_url": None, "archived_at": "2026-11-30T00:00:00Z"}

    changed(monkeypatch, archived)
    bench.rows(2)
    with fake(seconds=3600.0) as server:
        bench.run(server, {"detach": True}, budget=BUDGET, api="anthropic")
        held = SpendFile(bench.files).read_all().in_flight
        server.advance(7200.0)
        assert str(bench.run(server, {"detach": True}, budget=BUDGET, api="anthropic").status) == "stopped"
        server.advance(7200.0)
        report = bench.run(server, budget=BUDGET, api="anthropic")
        account = server.account()
    assert str(report.status) == "completed"
    assert set(account["rows"].values()) == {2}
    spending = SpendFile(bench.files).read_all()
    assert spending.lost == held
    assert spending.spent.tokens == held.tokens + sum(account["tokens"].values()) // 2


@pytest.mark.parametrize("api", ["anthropic", pytest.param("gemini", marks=pytest.mark.slow)])
def test_answers_that_the_provider_does_not_give_out_yet_are_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    looks: list[str] = []

    def without_results(data: dict[str, Any]) -> None:
        if data.get("results_url") or "response" in data:
            looks.append(api)
        if len(looks) < 6:
            data.pop("results_url", None)
            data.pop("response", None)
            data.get("metadata", {}).pop("output", None)

    changed(monkeypatch, without_results)
    bench.rows(2)
    with fake() as server:
        report = bench.run(server, api=api)
        account = server.account()
    assert str(report.status) == "completed"
    assert len(looks) >= 6
    assert set(account["rows"].values()) == {1}


@pytest.mark.slow
def test_a_run_does_not_end_before_its_last_job_is_deleted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """All answers are brought in before the end of the results has come."""
    collected = JobLog.collected

    def slowly(self: JobLog, *given: Any) -> list[Arrived]:
        time.sleep(0.5)
        return collected(self, *given)

    monkeypatch.setattr(JobLog, "collected", slowly)
    monkeypatch.setattr(collecting, "_ROWS", 2)
    bench.rows(2)
    with fake() as server:
        report = bench.run(server)
        account = server.account()
    assert str(report.status) == "completed"
    assert [job.state for job in jobs_of(bench.files)] == [BatchState.DONE]
    assert account["files"] == []


@pytest.mark.slow
@pytest.mark.parametrize("is_by_hand", [False, True])
def test_a_job_that_runs_and_cannot_be_cancelled_goes_on_and_the_cancel_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_by_hand: bool
) -> None:
    tries: list[str] = []

    async def refused(self: OpenAIBatchAdapter, http: BatchHttp, job_id: str) -> None:
        tries.append(job_id)
        raise CancelRefusedError("HTTP 409: not now", status=409)

    bench.rows(2)
    log = bench.folder / "platform.log"
    with fake(seconds=3600.0) as server:
        bench.run(server, {"detach": True}, budget=BUDGET)
        with monkeypatch.context() as patch:
            patch.setattr(OpenAIBatchAdapter, "cancel", refused)
            if is_by_hand:
                (told,) = cancel(bench, server)
                assert "cannot be cancelled: HTTP 409: not now; a resume takes what it has answered" in told
                assert len(tries) == 1
            else:
                status = OpenAIBatchAdapter.status

                async def at_last(self: OpenAIBatchAdapter, http: BatchHttp, job_id: str) -> JobStatus:
                    if len(tries) == 4:
                        server.advance(7200.0)
                    return await status(self, http, job_id)

                patch.setattr(OpenAIBatchAdapter, "status", at_last)
                age(bench)
                bench.run(server, budget=BUDGET, log_file=log)
                assert len(tries) >= 4
                assert log.read_text().count("it cannot be cancelled") == 1
        if is_by_hand:
            assert [job.state for job in jobs_of(bench.files)] == [BatchState.RUNNING]
            server.advance(7200.0)
            bench.run(server, budget=BUDGET)
        account = server.account()
    assert len(bench.out) == 2
    assert set(account["rows"].values()) == {1}
    assert SpendFile(bench.files).read_all().lost == Amount()


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_a_job_that_never_arrived_is_given_up_by_a_cancel(bench: Bench, api: str) -> None:
    bench.rows(2)
    with fake(seconds=3600.0, cancelling=600.0) as server:
        bench.run(server, {"detach": True}, api=api)
        (first,) = jobs_of(bench.files)
        job_log = JobLog(job_log_path(bench.files, "node_0"))
        job_log.open()
        rows = [NewRow(f"s{n}".encode(), b"b", Amount(10, 4)) for n in range(2)]
        job_log.intend("key-0002", first.endpoint, "m", rows, 100)
        job_log.close()
        if api == "anthropic":  # it has no key until it has ended
            (told,) = cancel(bench, server, {"late_s": 300.0}, api=api)
            assert told == (
                f"job key-0002 at {first.endpoint}, with 2 rows, was not acknowledged, and may come yet: cancel once "
                "more in 300 s, or resume"
            )
            with pytest.MonkeyPatch.context() as patch:  # another one of the account has as many rows
                patch.setattr(JobLog, "ids", lambda *_: [])
                (told,) = cancel(bench, server, {"late_s": 1e-9}, api=api)
            assert f"was not acknowledged, and may be {first.job_id}, which has as many rows" in told
            assert [job.state for job in jobs_of(bench.files)] == [BatchState.CANCELLING, BatchState.SENDING]
        (told,) = cancel(bench, server, {"late_s": 1e-9}, api=api)
        assert told.endswith("never arrived, and is given up: it costs nothing")
        assert [job.state for job in jobs_of(bench.files)] == [BatchState.CANCELLING, BatchState.DROPPED]
        bench.pipeline(server, api=api).create("a", if_exists="overwrite")


def test_no_key_is_in_what_a_provider_says_of_a_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(data: dict[str, Any]) -> None:
        if data.get("status") == "failed":
            data["errors"]["data"] = [{"code": "bad", "message": f"the file of {SECRET} is bad"}]

    changed(monkeypatch, failed)
    bench.rows(2)
    log = bench.folder / "platform.log"
    with (
        fake(faults=BatchFaults(job_failed=1.0)) as server,
        pytest.raises(NodeFailedError, match=r"failed as a whole: bad: the file of \*\*\* is bad") as caught,
    ):
        bench.run(server, api_key=SECRET, log_file=log)
    assert [job.why.rpartition(": bad: ")[2] for job in jobs_of(bench.files)] == ["the file of *** is bad"]
    assert SECRET not in f"{caught.value}{log.read_text()}"


@pytest.mark.slow
def test_no_key_is_in_what_is_kept_of_a_row_that_failed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    records = ApiClient.records

    async def told(self: ApiClient, path: str) -> AsyncIterator[Any]:
        async for record in records(self, path):
            if record["response"]["status_code"] != 200:
                record["response"]["body"]["error"]["message"] = f"{SECRET} may not"
            yield record

    monkeypatch.setattr(ApiClient, "records", told)
    monkeypatch.setattr(JobLog, "forget", lambda *_: None)  # as after a kill
    bench.rows(1)
    with fake(faults=BatchFaults(row_failed=1.0)) as server:
        bench.run(server, api_key=SECRET, on_error="dead_letter")
    with closing(sqlite3.connect(job_log_path(bench.files, "node_0"))) as file:
        ((answer,),) = file.execute("SELECT answer FROM rows").fetchall()
    assert b"*** may not" in zlib.decompress(answer)
