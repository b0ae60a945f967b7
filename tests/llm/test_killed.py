"""``kill -9`` while calls are in flight: no row is lost, none is there twice, and few are paid for again (M21)."""

from __future__ import annotations

import math
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from llm_datagen.runs.browse.calls import calls_of
from llm_datagen.runs.store import RunFolder
from llm_datagen.testing import FakeLLMServer

from ..kit import programs
from ..kit.programs import Program
from ..kit.support import eventually, lines, write_jsonl

JOB = Path(__file__).with_name("killed_job.py")
ROWS, AT_ONCE = 150, 10


def test_three_kills_lose_no_row_and_pay_twice_for_no_more_than_was_in_flight(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"q": f"q{k}"} for k in range(ROWS)])
    reached, go, stop_at = threading.Event(), threading.Event(), 0.0

    def answer(messages: Sequence[Mapping[str, Any]]) -> str:
        if messages[-1]["content"].startswith("check") and paid("check") >= stop_at:
            reached.set()  # nothing more is answered until the process is gone
            assert go.wait(60)
        return "fine"

    with FakeLLMServer(answer=answer, latency=0.01) as server:
        command = [JOB, server.base_url, AT_ONCE]

        def calls(stage: str) -> int:
            return sum(times for text, times in server.prompts.items() if text.startswith(stage))

        def paid(stage: str) -> int:
            return sum(times for text, times in server.answered.copy().items() if text.startswith(stage))

        for kills, share in enumerate((0.15, 0.40, 0.75), start=1):
            stop_at = share * ROWS
            reached.clear()
            go.clear()
            with Program(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
                assert reached.wait(60)
                process.kill()
            assert process.returncode == -signal.SIGKILL
            stop_at = math.inf
            go.set()
            eventually(lambda: server.calls == server.answered.total() + server.abandoned, "the server is told")
            with closing(sqlite3.connect(tmp_path / "answers.sqlite")) as cache:
                [(kept,)] = cache.execute("SELECT count(*) FROM answers")
            lost_calls = calls("check") - kept
            assert lost_calls <= kills * AT_ONCE
            lost_answers = paid("check") - kept
        programs.run(command, cwd=tmp_path, check=True)

    assert sorted(row["q"] for row in lines(tmp_path / "out.jsonl")) == sorted(f"q{k}" for k in range(ROWS))
    # With the cache: what had an answer is not asked for again, and nothing else is paid for twice.
    assert calls("check") == ROWS + lost_calls
    assert paid("check") == ROWS + lost_answers
    # Without: what was with a worker, or in the writer's hands.
    assert calls("draft") - ROWS <= 3 * 2 * AT_ONCE
    # Of every row, also of those that were committed just before a kill, prompt and answer are there.
    for node_id, stage in (("node_0", "draft"), ("node_1", "check")):
        found = calls_of(RunFolder(tmp_path / "tmp" / "results", "job").files_path, node_id, range(ROWS))
        for row in range(ROWS):
            assert found[row][-1]["messages"] == [{"role": "user", "content": f"{stage} q{row}"}]
            assert {call["answer"] for call in found[row]} == {"fine"}
