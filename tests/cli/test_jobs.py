"""`llm-datagen jobs`, `--detach`, and what other commands say of jobs at batch APIs."""

from __future__ import annotations

import json
import shlex
import sqlite3
from contextlib import closing
from typing import Any

import pytest
import yaml

from llm_datagen.llm.batch import node_jobs
from llm_datagen.pipeline import left_jobs
from llm_datagen.runs import RunFolder
from llm_datagen.testing import FakeLLMServer, LLMBatches

from ..kit.support import lines, write_jsonl
from .conftest import Command
from .shell import Shell

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_jobs, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(node_jobs, "QUIET_SECONDS", 0.03)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("LLM_DATAGEN_DETACH", "")  # what a command sets is put back


def _given(shell: Shell, **more: Any) -> str:
    write_jsonl(shell.folder / "in.jsonl", ({"q": f"q{number}"} for number in range(3)))
    ask = {
        "prompt": "say {{ q }}",
        "model": "m",
        "prices": {"input": 1.0, "output": 2.0},
        "params": {"max_tokens": 40},
        "batch_api": {"max_rows": 2, "poll_wait": 0.05},
        **more,
    }
    return shell.yaml([{"use": "llm_datagen.llm:LLMOperator", "with": ask}])


def test_a_run_is_left_at_the_provider_shown_and_collected(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeLLMServer(batches=LLMBatches(seconds=3600.0)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        pipeline = _given(shell)
        said = command("run", pipeline, "--id", "a", "--detach", code=3).output
        assert "reason  detached: 2 jobs with 3 rows at the provider; resume collects them" in said
        assert "jobs    2 at the provider (3 rows); these go on, and a resume collects them" in said
        assert "jobs: 2 at the provider (3 rows)" in command("status", "a").output
        shown = command("jobs", "a").output
        assert "run a: 2 at the provider (3 rows)" in shown
        assert "node_0  batch_000001  running  2 rows, 0 answered" in shown
        assert "collect  llm-datagen resume a" in shown
        (one, two) = json.loads(command("jobs", "a", "--json").output)
        assert (one["rows"], two["rows"], one["state"]) == (2, 1, "running")

        refused = command("run", pipeline, "--id", "a", "--if-exists", "overwrite", code=2).output
        assert "cannot be overwritten: 2 jobs with 3 rows at" in " ".join(refused.split())
        _given(shell, batch_api=False)
        refused = command("resume", "a", code=2).output
        refused = " ".join(refused.split())
        assert "2 jobs with 3 rows of node_0 at" in refused
        assert "cancel them with the operator as it was: llm-datagen jobs a --cancel" in refused
        assert "run a: stopped (detached: 2 jobs with 3 rows" in command("status", "a").output  # nothing has changed
        _given(shell)

        said = " ".join(command("cancel", "a", code=1).output.split())
        assert "there is nothing to cancel but its jobs at the provider: llm-datagen jobs a --cancel" in said
        refused = command("jobs", "a", "--cancel", "--json", code=2).output
        assert "--json shows jobs: leave it away with --cancel" in " ".join(refused.split())
        said = command("jobs", "a", "--cancel").output
        assert "run a: cancelled 2 jobs" in said
        assert "collected 2 jobs: 0 of 3 rows were answered" in said
        monkeypatch.setenv("LLM_DATAGEN_DETACH", "")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server, "_advanced", server._advanced)
            command("resume", "a", "--detach", code=3)
        server.advance(7200.0)
        monkeypatch.setenv("LLM_DATAGEN_DETACH", "")
        said = command("resume", "a").output
        assert "jobs    4 collected" in said
        command("report", "a", "-o", "report.html")
        assert "4 collected" in (shell.folder / "report.html").read_text()
    account = server.account()
    assert set(account["rows"].values()) == {1}
    assert account["calls"] == {}


@pytest.mark.parametrize("cancelling", [0.0, 60.0])
def test_rows_in_jobs_become_plain_calls_as_the_refusal_advises(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch, cancelling: float
) -> None:
    """What the jobs have answered is counted; a job that takes long to end is settled by the same command, later."""
    batches = LLMBatches(seconds=3600.0, cancelling=cancelling, price=(1.0, 2.0))
    with FakeLLMServer(batches=batches) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        command("run", _given(shell), "--id", "a", "--detach", code=3)
        server.advance(1850.0)  # a row of the first job is answered
        _given(shell, batch_api=False)
        refused = " ".join(command("resume", "a", code=2).output.split())
        assert "llm-datagen jobs a --cancel" in refused
        if cancelling:
            with monkeypatch.context() as patch:
                patch.setattr(left_jobs, "SETTLE_SECONDS", 0.0)
                said = command("jobs", "a", "--cancel").output
            assert "2 jobs not ended yet: a resume collects what was answered, or later: llm-datagen jobs a" in said
            command("resume", "a", code=2)
            server.advance(60.0)
        said = command("jobs", "a", "--cancel").output
        assert f"run a: cancelled {0 if cancelling else 2} jobs" in said
        assert "collected 2 jobs: 1 of 3 rows were answered" in said
        assert "run a: 2 collected" in command("jobs", "a").output
        paid = server.account()["dollars"]
        assert paid > 0
        said = command("resume", "a").output
        assert "rows    3 in, 3 out" in said
    (usage,) = (each for each in _usage(shell) if each["provider"].endswith("(batch)"))
    assert usage["cost"] == pytest.approx(paid, abs=1e-12)


def _usage(shell: Shell) -> list[dict[str, Any]]:
    usage: list[dict[str, Any]] = RunFolder(shell.folder / "tmp/results", "a").load()["usage"]
    return usage


def test_a_target_that_is_met_without_the_end_of_jobs_says_at_least_what_was_paid(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeLLMServer(batches=LLMBatches(seconds=3600.0, cancelling=60.0, price=(1.0, 2.0))) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        pipeline = _given(shell, batch_api={"max_rows": 1, "poll_wait": 0.05})
        settings = yaml.safe_load((shell.folder / pipeline).read_text())
        shell.yaml(settings["operators"], parallel_size=2)
        command("run", pipeline, "--id", "a", "--detach", "--target", "2", code=3)
        server.advance(3000.0)
        command("resume", "a", "--detach", "--parallel-size", "3", code=3)
        monkeypatch.setenv("LLM_DATAGEN_DETACH", "")
        server.advance(700.0)
        with monkeypatch.context() as patch:
            patch.setattr(left_jobs, "SETTLE_SECONDS", 0.0)
            said = " ".join(command("resume", "a").output.split())
        assert "1 being cancelled (1 row); a resume collects what was answered" in said
        assert "(batch)/m: at least " in said
        status = " ".join(command("status", "a").output.split())
        assert "not in the cost yet, as they were cancelled and have not ended; count it later" in status
        command("report", "a", "-o", "report.md")
        assert "not in the cost yet" in (shell.folder / "report.md").read_text()
        server.advance(60.0)
        command("resume", "a")
        assert "being cancelled" not in command("status", "a").output


@pytest.mark.parametrize("results", ["tmp/results", "the runs"])
def test_commands_in_errors_can_be_pasted(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch, results: str
) -> None:
    where = [] if results == "tmp/results" else ["--results-dir", results]
    shown_where = ["--results-dir", str(shell.folder / results)] if where else []
    typed = shlex.join(["jobs", "a", *shown_where, "--cancel"])
    with FakeLLMServer(batches=LLMBatches(seconds=3600.0)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        command("run", _given(shell), "--id", "a", "--detach", *where, code=3)
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
        said = command("resume", "a", *where, code=1)
        assert f"cancel them with the operator as it was: llm-datagen {typed}" in " ".join(said.output.split())
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        lost = RunFolder(shell.folder / results, "a").files_path / "jobs" / "node_0.sqlite"
        with closing(sqlite3.connect(lost)) as file, file:  # as if another account had them
            file.execute("UPDATE jobs SET job_id = 'batch_9' || number")
        said = command("resume", "a", *where, code=1)
        shown = " ".join(said.output.split())
        assert f"(its rows count as paid for, and are sent again by a resume): llm-datagen {typed}" in shown
        assert "run a: cancelled 2 jobs" in command(*shlex.split(typed)).output


def test_jobs_are_not_cancelled_by_other_steps(shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their endpoints and keys are those of the operator that sent them."""
    with FakeLLMServer(batches=LLMBatches(seconds=3600.0)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        command("run", _given(shell), "--id", "a", "--detach", code=3)
        shell.yaml(["ops:odd"])
        said = " ".join(command("jobs", "a", "--cancel", code=2).output.split())
        assert "with the operators ['LLMOperator'], and the code has ['odd']" in said
        assert "with the operators as they were: llm-datagen jobs a FILE.yaml --cancel" in said
        for refused in (["diff", "a"], ["resume", "a", "--rerun"]):
            assert "2 jobs with 3 rows of node_0 at" in " ".join(command(*refused, code=2).output.split())
        _given(shell)
        assert "run a: cancelled 2 jobs" in command("jobs", "a", "--cancel").output


def test_a_step_whose_rows_are_in_jobs_is_not_taken_away(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeLLMServer(batches=LLMBatches(seconds=3600.0)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        keep = {"use": "ops:Needy", "with": {"model": "m"}}
        _given(shell)
        asking = yaml.safe_load((shell.folder / "p.yaml").read_text())["operators"]
        command("run", shell.yaml([keep, *asking]), "--id", "a", "--detach", code=3)
        shell.yaml([keep])
        for refused in (["diff", "a"], ["resume", "a", "--rerun"]):
            said = " ".join(command(*refused, code=2).output.split())
            assert "node_1 is not in the code any more, and 2 jobs with 3 rows of it at" in said
            assert "cancel them first, with the operators as they were: llm-datagen jobs a --cancel" in said
        shell.yaml([keep, *asking])
        command("jobs", "a", "--cancel")
        shell.yaml([keep])
        command("resume", "a", "--rerun")
    assert [row["q"] for row in lines(shell.output)] == ["q0", "q1", "q2"]


def test_a_diff_says_which_jobs_would_be_cancelled_and_counts_their_rows(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeLLMServer(batches=LLMBatches(seconds=3600.0)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        command("run", _given(shell), "--id", "a", "--detach", code=3)
        shown = command("diff", "a").output
        at = f"{server.base_url}/chat/completions"
        assert f"* node_0: 2 jobs with 3 rows at {at} go on: a resume collects them" in shown
        _given(shell, prompt="tell {{ q }}")
        shown = command("diff", "a").output
        assert _cells(shown) == [
            ["node_0", "LLMOperator", "redone", "0", "3", "3", "unknown"],
            ["all", "3", "unknown"],
        ]
        assert (
            f"* node_0: 2 jobs with 3 rows at {at} would be cancelled, and may be paid for; their rows would be asked "
            "again" in shown
        )
        data = json.loads(command("diff", "a", "--json").output)
        (node,) = data["nodes"]
        assert (node["jobs"], node["rows_in_jobs"], data["unknown"]) == (2, 3, ["node_0"])
        assert data["use"] == {"calls": 3, "prompt_tokens": None, "completion_tokens": None, "cost": None}
        assert len(server.account()["jobs"]) == 2


def test_jobs_behind_an_edited_step_are_cancelled_as_far_as_their_rows_have_changed(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(size: int) -> dict[str, Any]:
        return {"use": "ops:Needy", "with": {"model": "m", "size": size}}

    with FakeLLMServer(batches=LLMBatches(seconds=3600.0)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        _given(shell)
        asking = yaml.safe_load((shell.folder / "p.yaml").read_text())["operators"]
        command("run", shell.yaml([step(1), *asking]), "--id", "a", "--detach", code=3)
        shell.yaml([step(2), *asking])
        said = command("diff", "a").output
        assert "* node_1: 2 jobs with 3 rows at" in said
        assert "would be cancelled, and may be paid for, as far as their rows do not come again as they were" in said
        command("resume", "a", "--rerun", "--detach", code=3)
        server.advance(7200.0)
        monkeypatch.setenv("LLM_DATAGEN_DETACH", "")
        command("resume", "a")
        assert len(server.account()["jobs"]) == 2  # the prompt has no size in it
    assert [row["size"] for row in lines(shell.output)] == [2, 2, 2]


def test_a_diff_knows_the_cost_of_rows_in_jobs_by_those_that_were_answered(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeLLMServer(batches=LLMBatches(seconds=3600.0)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        command("run", _given(shell), "--id", "a", "--detach", code=3)
        server.advance(7200.0)
        monkeypatch.setenv("LLM_DATAGEN_DETACH", "")
        command("resume", "a")
        rows = [{"q": f"q{number}"} for number in range(5)]
        write_jsonl(shell.folder / "in.jsonl", rows)
        command("resume", "a", "--detach", code=3)
        cost = json.loads(command("status", "a", "--json").output)["nodes"][0]["usage"][0]["cost"]
        _given(shell, prompt="tell {{ q }}")
        write_jsonl(shell.folder / "in.jsonl", rows)
        shown = command("diff", "a").output
        (node,) = json.loads(command("diff", "a", "--json").output)["nodes"]
    assert _cells(shown)[0][:6] == ["node_0", "LLMOperator", "redone", "0", "5", "5"]
    assert "* node_0: 1 job with 2 rows at " in shown
    assert node["use"]["cost"] == pytest.approx(cost * 5 / 3)


def _cells(shown: str) -> list[list[str]]:
    return [line.split() for line in shown.splitlines()[1:3]]


def test_detach_needs_an_operator_with_jobs(shell: Shell, command: Command) -> None:
    pipeline = _given(shell, batch_api=False)
    said = command("run", pipeline, "--detach", code=2).output
    assert "--detach is for operators with batch_api, and this run has none" in " ".join(said.split())


def test_a_plan_counts_the_price_of_jobs(shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLLMServer(answer="yes") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        costs = []
        for batch_api in (False, True):
            plan = json.loads(command("plan", _given(shell, batch_api=batch_api), "--json", "-k", "3").output)
            costs.append(plan["total"]["cost"]["value"])
        assert server.calls == 6  # plain calls: somebody waits
    assert costs[1] == pytest.approx(costs[0] / 2)
    assert any("jobs to a batch API" in note for note in plan["notes"])


@pytest.mark.slow
def test_shards_have_jobs_of_their_own(shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLLMServer(batches=LLMBatches()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        pipeline = _given(shell, budget={"usd": 1.0})
        refused = command("run", pipeline, "--id", "a", "--shards", "2", "--detach", code=2).output
        assert "--detach is not for runs in shards" in " ".join(refused.split())
        command("run", pipeline, "--id", "a", "--shards", "2", "--workers", "2")
        jobs = json.loads(command("jobs", "a", "--json").output)
        assert sorted(job["rows"] for job in jobs) == [1, 2]
        account = server.account()
        state = json.loads(command("status", "a", "--json").output)
    assert set(account["rows"].values()) == {1}
    assert state["spending"]["spent_tokens"] == sum(account["tokens"].values())


def test_what_jobs_have_used_is_not_short_after_a_kill(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume counts what their job log has. What plain calls had used since the last save is lost."""
    with FakeLLMServer(batches=LLMBatches(seconds=3600.0)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        command("run", _given(shell), "--id", "a", "--detach", code=3)
        folder = RunFolder(shell.folder / "tmp/results", "a")
        state = folder.load()
        folder.save({**state, "status": "running"})  # as a kill leaves it
        server.advance(7200.0)
        monkeypatch.setenv("LLM_DATAGEN_DETACH", "")
        said = command("resume", "a").output
        tokens = server.account()["tokens"]
    state = folder.load()
    assert state["usage_is_partial"] is True
    assert "  usage   127.0.0.1 (batch)/m: requests 3, " in said
    assert f"total_tokens {sum(tokens.values())}, " in said
    assert "at least" not in f"{said}{command('status', 'a').output}"
    state["nodes"][0]["usage"].append({"provider": "127.0.0.1", "model": "m", "requests": 1})
    folder.save(state)
    assert "usage and cost are at least these" in command("status", "a").output
