"""Rows that are jobs of a batch API, over many ends of the process: each is answered once, and paid for once.

The account of the server, which lives on, is what counts.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.runs import RunFolder
from llm_datagen.testing import BatchFaults, FakeLLMServer, LLMBatches

from ..kit import programs
from .providers import BATCHES

JOB = Path(__file__).with_name("batch_killed_job.py")
ROWS = 30
FAULTS = BatchFaults(
    drop_before=0.1,
    drop_after=0.2,
    register_late=0.15,
    error_after=0.1,
    server_error=0.05,
    rate_limit=0.05,
    truncated=0.15,
    short=0.15,
    job_expired=0.1,
    job_cancelled=0.1,
    row_failed=0.05,
    row_overloaded=0.05,
    row_lost=0.05,
    late_s=0.2,
)


def said(messages: Sequence[Mapping[str, Any]]) -> str:
    return str(messages[-1]["content"])


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.sampled(1, of=2)
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("adapter", BATCHES)
def test_rows_in_jobs_are_answered_and_paid_for_once_whenever_the_process_is_killed(
    adapter: str, seed: int, tmp_path: Path
) -> None:
    """Also when it leaves its jobs at the provider by itself, and another one collects them."""
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"_i": n, "q": f"q{n}"}) + "\n" for n in range(ROWS)))
    dice = random.Random(f"{adapter} {seed}")
    batches = LLMBatches(
        seconds=dice.choice([0.0, 0.2, 0.5]), price=(1.0, 2.0), faults=FAULTS, per_page=dice.choice([3, 100])
    )
    max_rows = dice.randint(3, ROWS)
    with FakeLLMServer(answer=said, batches=batches, api_key="k", seed=seed) as server:
        for _ in range(6):
            way = dice.choice(["stay", "stay", "detach"])
            program = programs.Program([JOB, adapter, server.url(adapter), max_rows, way], cwd=tmp_path)
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(dice.uniform(0.1, 2.0))
                continue
            program.send_signal(signal.SIGKILL)
            program.wait()
        ended = time.monotonic() + 90
        while (
            code := programs.run([JOB, adapter, server.url(adapter), max_rows, "stay"], cwd=tmp_path).returncode
        ) != 0:
            assert time.monotonic() < ended, f"it does not end: {code}"
        account = server.account()
    check(tmp_path, account)


def check(folder: Path, account: dict[str, Any]) -> None:
    out = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    dead = [json.loads(line) for path in folder.rglob("*.errors.jsonl") for line in path.read_text().splitlines()]
    counts = Counter(row["q"] for row in out) + Counter(each["input"]["q"] for each in dead)
    assert counts == {f"q{number}": 1 for number in range(ROWS)}, "each row is there once, or failed"
    assert {key: ids for key, ids in account["jobs"].items() if len(ids) > 1} == {}, "no job was registered twice"
    assert {text: times for text, times in account["rows"].items() if times > 1} == {}, "no row was paid for twice"
    assert (account["running"], account["calls"]) == ([], {})
    state = RunFolder(folder / "results", "job").load()
    cost = sum(entry.get("cost", 0.0) for node in state["nodes"] for entry in node["usage"])
    assert cost == pytest.approx(account["dollars"], abs=1e-9)
