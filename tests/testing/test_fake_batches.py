"""The fake endpoint's other APIs: calls in their shapes, jobs that outlive the server, options, the account."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.errors import ConfigError
from llm_datagen.llm import LLMOperator
from llm_datagen.testing import BatchFaults, FakeLLMServer, LLMBatches, ManualClock

from ..kit.support import lines, write_jsonl


def post(url: str, **options: Any) -> httpx.Response:
    return httpx.post(url, trust_env=False, **options)


def submit(server: FakeLLMServer, key: str, texts: list[str], **headers: str) -> httpx.Response:
    """Register a job by OpenAI's API."""
    rows = [
        {"custom_id": f"{key}-{number}", "method": "POST", "url": "/v1/chat/completions", "body": chat(text)}
        for number, text in enumerate(texts)
    ]
    body = "\n".join(map(json.dumps, rows)).encode()
    files = {"file": (f"{key}.jsonl", body)}
    file_id = post(f"{server.base_url}/files", data={"purpose": "batch"}, files=files, headers=headers).json()["id"]
    job = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return post(f"{server.base_url}/batches", json={**job, "metadata": {"key": key}}, headers=headers)


def chat(text: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


@pytest.mark.integration
@pytest.mark.parametrize("adapter", ["openai-responses", "anthropic", "gemini", "azure", "mistral"])
def test_calls_are_answered_in_the_shapes_of_each_api(tmp_path: Path, adapter: str) -> None:
    """With a system message, and a schema; what it counts is the same whatever is spoken."""
    write_jsonl(tmp_path / "in.jsonl", [{"q": f"say {number}"} for number in range(3)])
    with FakeLLMServer(answer=lambda messages: {"said": messages[-1]["content"]}, api_key="sk-1") as server:
        ask = LLMOperator(
            [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "{{ q }}"}],
            model="m",
            adapter=adapter,
            base_url=server.url(adapter),
            api_key="sk-1",
            output={"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]},
            prices={"input": 1.0, "output": 2.0},
        )
        pipeline = UnifiedPipeline(
            [ask],
            f"jsonl://{tmp_path / 'in.jsonl'}",
            f"jsonl://{tmp_path / 'out.jsonl'}",
            results_dir=str(tmp_path / "results"),
        )
        (usage,) = pipeline.create("a").run().nodes[0].usage
    assert sorted(row["said"] for row in lines(tmp_path / "out.jsonl")) == ["say 0", "say 1", "say 2"]
    assert server.prompts == server.answered == {f"say {number}": 1 for number in range(3)}
    assert usage["prompt_tokens"] + usage["completion_tokens"] == server.tokens
    account = server.account()
    assert account["tokens"] == {"prompt": usage["prompt_tokens"], "completion": usage["completion_tokens"]}
    assert account["calls"] == dict(server.answered)


@pytest.mark.integration
def test_jobs_outlive_the_server(tmp_path: Path) -> None:
    """Another one goes on with the file: also what was billed."""
    options = LLMBatches(
        seconds=60, price=(1e6, 1e6), path=tmp_path / "account.db", faults=BatchFaults(job_expired=1.0)
    )
    clock = ManualClock(1_000_000.0)
    with FakeLLMServer(answer="yes", batches=options, clock=clock) as server:
        before = submit(server, "first", ["a", "b"]).json()
        assert (before["status"], before["created_at"]) == ("in_progress", 1_000_000)
    clock.advance(30)
    with FakeLLMServer(answer="yes", batches=options, clock=clock) as server:
        job = httpx.get(f"{server.base_url}/batches/{before['id']}", trust_env=False).json()
        assert (job["status"], job["request_counts"]) == ("expired", {"total": 2, "completed": 1, "failed": 1})
        assert submit(server, "second", ["c"]).json()["id"] > before["id"]
        account = server.account()
    assert set(account["jobs"]) == {"first", "second"}
    assert sum(account["rows"].values()) == 1
    assert account["dollars"] == sum(account["tokens"].values()) / 2, "half the price"
    assert sorted(account["files"]) == sorted(
        ["first.jsonl", "second.jsonl", f"{before['id']}_output.jsonl", f"{before['id']}_errors.jsonl"]
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"custom_id": "job-0"}, "duplicate_custom_id"),
        ({"url": "/v1/responses"}, "mismatched_endpoint"),
        ({"body": {**chat("x"), "model": "other"}}, "mismatched_model"),
        ({"body": None}, "invalid_file"),
    ],
)
def test_a_file_with_a_bad_line_fails_its_job(change: dict[str, Any], why: str) -> None:
    rows = [
        {"custom_id": f"job-{number}", "method": "POST", "url": "/v1/chat/completions", "body": chat("x")}
        for number in range(2)
    ]
    rows[1] |= change
    with FakeLLMServer() as server:
        files = {"file": ("job.jsonl", "\n".join(map(json.dumps, rows)).encode())}
        file = post(f"{server.base_url}/files", data={"purpose": "batch"}, files=files).json()["id"]
        told = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        job_id = post(f"{server.base_url}/batches", json=told).json()["id"]
        job = httpx.get(f"{server.base_url}/batches/{job_id}", trust_env=False).json()
    assert (job["status"], job["output_file_id"], job["errors"]["data"][0]["code"]) == ("failed", None, why)
    assert server.account()["rows"] == {}


@pytest.mark.slow
@pytest.mark.process
def test_a_process_serves_jobs_and_its_clock_is_moved() -> None:
    options = json.dumps({"seconds": 1000, "faults": {"row_failed": 1.0}})
    command = [sys.executable, "-m", "llm_datagen.testing.server", "--batches", options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = FakeLLMServer()
        server.base_url = process.stdout.readline().strip()
        root = server.base_url.removesuffix("/v1")
        job_id = submit(server, "job-1", ["a"]).json()["id"]
        assert httpx.get(f"{root}/account", trust_env=False).json()["running"] == [job_id]
        httpx.put(f"{root}/clock", json={"advance": 1000}, trust_env=False)
        account = httpx.get(f"{root}/account", trust_env=False).json()
        assert (account["running"], account["jobs"], account["rows"]) == ([], {"job-1": [job_id]}, {})
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"drop_after": -0.1}, "drop_after must be a number, 0 or more"),
        ({"drop_after": True}, "drop_after must be a number"),
        ({"drop_after": 0.6, "error_after": 0.6}, "above 1 together"),
        ({"job_failed": 0.6, "job_expired": 0.6}, "job_failed, job_expired, job_cancelled of BatchFaults are above 1"),
    ],
)
def test_shares_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BatchFaults(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"seconds": -1}, "seconds must be"), ({"window": float("inf")}, "window must be"), ({"per_page": 0}, "per_page")],
)
def test_times_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LLMBatches(**fields)
