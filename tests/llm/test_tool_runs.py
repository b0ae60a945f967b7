"""Runs with tools: what is kept, shown and done again."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator
from llm_datagen.runs.browse.calls import calls_of
from llm_datagen.runs.store import RunFolder
from llm_datagen.testing import FakeLLMServer, ToolCalls, cassette

from ..kit import programs
from ..kit.programs import Program
from ..kit.support import eventually, lines, write_jsonl
from .tool_kit import add

JOB = Path(__file__).with_name("tools_job.py")
ROWS = 4


def librarian(messages: Sequence[Mapping[str, Any]]) -> Any:
    """Looks a book up, reserves it, and says so."""
    results = [message["content"] for message in messages if message["role"] == "tool"]
    if not results:
        return ToolCalls(("shelf", {"book": messages[0]["content"]}))
    return ToolCalls(("reserve", {"shelf": results[0]})) if len(results) == 1 else f"{results[1]}: {results[0]}"


def test_after_a_kill_rows_are_done_again_and_the_model_is_paid_once(tmp_path: Path) -> None:
    """Killed in the middle of a tool: rows that were not committed call all their tools again."""
    write_jsonl(tmp_path / "in.jsonl", [{"q": f"book {k}"} for k in range(ROWS)])
    hold = tmp_path / "hold"
    hold.touch()

    def noted(name: str) -> Counter[str]:
        path = tmp_path / name
        return Counter(path.read_text().splitlines() if path.exists() else ())

    with FakeLLMServer(answer=librarian) as server:
        with Program([JOB, server.base_url], cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
            eventually(lambda: noted("reserved").total() == ROWS, "all rows reserve their books")
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert server.calls == 2 * ROWS
        hold.unlink()
        programs.run([JOB, server.base_url], cwd=tmp_path, check=True)
        assert server.calls == 3 * ROWS
    assert noted("looked_up") == Counter({f"book {k}": 2 for k in range(ROWS)})
    assert noted("reserved") == Counter({f"shelf of book {k}": 2 for k in range(ROWS)})
    answers = sorted(row["answer"] for row in lines(tmp_path / "out.jsonl"))
    assert answers == [f"reserved: shelf of book {k}" for k in range(ROWS)]
    kept = calls_of(RunFolder(tmp_path / "tmp" / "results", "job").files_path, "node_0", [0])[0][-1]
    assert [message["role"] for message in kept["messages"]] == ["user", "assistant", "tool", "assistant", "tool"]
    assert (kept["tool_calls"], kept["repairs"], kept["answer"]) == (2, 0, "reserved: shelf of book 0")


def adder(messages: Sequence[Mapping[str, Any]]) -> Any:
    """Adds 40 to what is asked, in one round."""
    results = [message["content"] for message in messages if message["role"] == "tool"]
    return results[-1] if results else ToolCalls(("add", {"a": 40, "b": int(messages[0]["content"])}))


FILE = """
input_uri: jsonl://in.jsonl
output_uri: jsonl://out.jsonl
results_dir: results
operators:
- use: llm.LLMOperator
  with:
    prompt: "{{ q }}"
    model: m
    meta: true
    tools: {tools: ["tests.llm.tool_kit:add", {function: "tests.llm.tool_kit:echo", timeout: 5}], max_rounds: 3}
"""


def test_tools_of_a_pipeline_file_are_made_again_by_a_resume_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    testing = pytest.importorskip("typer.testing")
    from llm_datagen.cli.app import app

    def told(*command: str) -> str:
        result = testing.CliRunner().invoke(app, list(command))
        assert result.exit_code == 0, result.output
        return str(result.output)

    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "in.jsonl", [{"q": "2"}, {"q": "3"}])
    (tmp_path / "file.yaml").write_text(FILE)
    with FakeLLMServer(answer=adder) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("COLUMNS", "200")
        shown = told("preview", "file.yaml", "--rows", "1").splitlines()
        told("run", "file.yaml", "--id", "r")
        told("resume", "r", "--results-dir", "results")
        calls = told("trace", "r", "0", "--calls", "--results-dir", "results")
    made = [line.strip() for line in shown if line.startswith("    ") and "tokens" not in line]
    assert made[:10] == [
        *("call      m", "tools     add, echo", "user      2", "answer    (calls of tools)"),
        *("call      m", "tools     add, echo", "(1 message as in the call before)"),
        *('calls     add({"a":40,"b":2})', "tool      42", "answer    42"),
    ]
    assert [row["answer"] for row in lines(tmp_path / "out.jsonl")] == ["42", "43"]
    assert [row["_meta"]["node_0"]["tool_calls"] for row in lines(tmp_path / "out.jsonl")] == [1, 1]
    assert 'calls     add({"a":40,"b":2})' in calls
    assert "1 call of a tool" in calls
    state = json.loads((tmp_path / "results" / "r" / "runtime.json").read_text())
    assert state["nodes"][0]["operator_ref"]["with"]["tools"]["max_rounds"] == 3


def test_functions_that_a_module_holds_are_made_again_without_the_code(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"q": "2"}])
    with FakeLLMServer(answer=adder) as server:
        operator = LLMOperator("{{ q }}", model="m", base_url=server.base_url, tools=[add])
        pipeline = UnifiedPipeline(
            [operator], f"jsonl://{tmp_path}/in.jsonl", f"jsonl://{tmp_path}/out.jsonl", results_dir=str(tmp_path / "r")
        )
        pipeline.create("job").run()
    state = json.loads((tmp_path / "r" / "job" / "runtime.json").read_text())
    assert state["nodes"][0]["operator_ref"]["with"]["tools"] == [{"$name": "tests.llm.tool_kit:add"}]


def test_rounds_are_recorded_on_a_cassette_and_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    write_jsonl(tmp_path / "in.jsonl", [{"q": "2"}])

    def run(base_url: str, name: str) -> Any:
        operator = LLMOperator("{{ q }}", model="m", base_url=base_url, tools=[add])
        UnifiedPipeline([operator], "jsonl://in.jsonl", f"jsonl://{name}.jsonl").create(name).run()
        return lines(tmp_path / f"{name}.jsonl")[0]["answer"]

    with FakeLLMServer(answer=adder) as server, cassette("tape.jsonl", "once"):
        assert run(server.base_url, "one") == "42"
    with cassette("tape.jsonl"):
        assert run("http://127.0.0.1:9/v1", "two") == "42"
