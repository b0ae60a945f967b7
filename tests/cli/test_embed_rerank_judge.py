"""Preview, plan and run of a pipeline file with vectors, reranking and a judge."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_datagen.testing import FakeLLMServer

from ..kit.support import lines, write_jsonl
from .conftest import Command
from .shell import Shell

CANARY = "sk-canary-0815"
ROWS = [{"t": f"amber birch {n}", "docs": ["cedar", "amber"], "a": "x", "b": "y"} for n in range(200)]
EMBED = {"text": "{{ t }}", "model": "vectors", "prices": {"input": 1.0}, "api_key": CANARY}
RERANK = {"query": "{{ t }}", "documents": "docs", "model": "ranks", "api_key": CANARY}
JUDGE: dict[str, Any] = {
    **{"prompt": "{{ t }}", "compare": ["a", "b"], "rubric": "truth", "api_key": CANARY},
    "judges": [{"model": "one", "api_key": CANARY}, {"model": "two"}],
}


@pytest.mark.slow
def test_preview_plan_and_run_know_them_and_no_key_is_kept(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(shell.folder / "in.jsonl", ROWS)
    steps = [("llm.Embed", EMBED), ("llm.Rerank", RERANK), ("llm.Judge", JUDGE)]
    pipeline = shell.yaml([{"use": use, "with": given} for use, given in steps], parallel_size=64)
    with FakeLLMServer(api_key=CANARY) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        shown = command("preview", pipeline, "-n", "2").output
        for part in ("answer    1 vector of 8 numbers", "query     amber birch 0", "document  cedar", "---- B ----"):
            assert part in shown, part
        plan = json.loads(command("plan", pipeline, "--json", "-k", "10").output)
        calls = {use["model"]: use["calls"]["value"] for node in plan["nodes"] for use in node["models"]}
        assert calls == {"vectors": 4, "ranks": 200, "one": 400, "two": 400}, "64 texts share a request"
        command("run", pipeline)
    rows = lines(shell.output)
    assert len(rows) == 200
    assert all(row["ranked"] == ["amber", "cedar"] and len(row["embedding"]) == 8 for row in rows)
    assert all(row["winner"] in ("a", "b", "tie") for row in rows)
    kept = b"".join(path.read_bytes() for path in (shell.folder / "tmp").rglob("*") if path.is_file())
    assert CANARY.encode() not in kept
