"""The command line knows inputs that are computed, and that have no end."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_datagen import Generate
from llm_datagen.cli.target import find_target

from ..kit.support import lines, write_jsonl
from .conftest import Command


@pytest.mark.slow
def test_yaml_and_the_commands_know_them(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "s.jsonl", [{"n": 1}, {"n": 2}])
    (tmp_path / "ops_of_mine.py").write_text(
        "from llm_datagen import StopRun\n"
        "def until_30(row):\n"
        "    if row['_i'] == 30:\n"
        "        raise StopRun('enough')\n"
        "    return row\n"
    )
    text = "operators: [{use: ops.Choose, with: {column: c, values: {x: 1}}}, 'ops_of_mine:until_30']\n"
    text += "output_uri: out.jsonl\nstreaming: true\nlog_file: null\n"
    (tmp_path / "g.yaml").write_text(text + "input: {generate: {a: [1, 2]}, seed: 3}\n")
    (tmp_path / "c.yaml").write_text(text + "input_uri: cycle://s.jsonl\n")
    for name in ("g", "c"):
        command("run", f"{name}.yaml", "--id", name, "--set", f"output_uri={name}.jsonl", code=3)
        assert [row["_i"] for row in lines(tmp_path / f"{name}.jsonl")][:30] == list(range(30))
        assert "nothing is wrong" in command("verify", name).output
        assert "itself  7" in command("trace", name, "7").output
        assert "until_30: stopped" in command("status", name).output
        command("preview", f"{name}.yaml", "-n", "3")
        out = command("plan", f"{name}.yaml", "-k", "5").output
        assert "has no end: the figures are those of its first 1,000 rows" in " ".join(out.split())
    assert [row["a"] for row in lines(tmp_path / "g.jsonl")][:30] == [
        Generate({"a": [1, 2]}, seed=3).row(n)["a"] for n in range(30)
    ]
    report = find_target("g.yaml", {"input": {"cycle": "s.jsonl", "times": 2}}).create("d", None).run(progress=False)
    assert (report.status, report.rows_out) == ("completed", 4)
