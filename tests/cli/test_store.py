"""Commands on runs whose state is kept on an object store."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llm_datagen import StreamFactory

from ..kit.programs import Program
from ..kit.s3 import SECRET, S3Bucket
from ..kit.support import eventually, numbered
from .conftest import Command
from .shell import Shell

pytestmark = pytest.mark.stores("s3", "gs")


@pytest.mark.slow
def test_every_command_takes_runs_on_a_store(
    shell: Shell, command: Command, s3: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = s3.uri("runs")
    there = ("--results-dir", results)
    command("run", shell.yaml(["ops:no_seven"], name="p.yaml"), "--id", "a", "--set", f"results_dir={results}", code=1)
    assert not Path("tmp/results").exists()

    listed = json.loads(command("status", "--json", *there).stdout)
    assert [(run["pipeline_id"], run["status"]) for run in listed] == [("a", "failed")]
    assert "failed" in command("status", "a", *there).stdout
    assert "is not running (it is failed)" in command("cancel", "a", *there, code=1).stderr
    assert "is not running" in command("pause", "a", *there, code=1).stderr
    assert "no_seven" in command("describe", "a", *there).stdout

    monkeypatch.setenv("LLM_DATAGEN_RESULTS", results)  # the other way to say it
    resumed = command("resume", "a", "--on-error", "dead_letter")
    assert "completed" in resumed.stdout
    assert "--results-dir" not in resumed.stdout
    assert "1 row" in command("errors", "a").stdout
    monkeypatch.delenv("LLM_DATAGEN_RESULTS")
    assert "none was mended: 1 row failed again" in command("replay", "a", *there).stdout
    assert command("verify", "a", *there).stdout
    assert "row 7" in command("trace", "a", "7", *there).stdout
    assert "[Run Started]" in command("logs", "a", *there).stdout
    command("export", "a", "--to", "out.csv", *there)
    assert len(Path("out.csv").read_text().splitlines()) == 50


@pytest.mark.slow
def test_a_run_that_is_not_there_is_said_with_those_that_are(shell: Shell, command: Command, s3: S3Bucket) -> None:
    results = s3.uri("runs")
    command("run", shell.yaml(["ops:odd"]), "--id", "a", "--set", f"results_dir={results}")
    said = command("status", "b", "--results-dir", results, code=2).stderr
    assert f"there is no run 'b' in {results} (runs there: a)" in " ".join(said.split())


@pytest.mark.slow
def test_on_another_machine_the_pipeline_has_to_be_named(
    shell: Shell, command: Command, s3: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = s3.uri("runs")
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    pipeline = Shell(tmp_path / "one").yaml(["ops:no_seven"], name="p.yaml")
    command("run", pipeline, "--id", "a", "--set", f"results_dir={results}", code=1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").rename(tmp_path / "two")
    refused = " ".join(command("resume", "a", "--results-dir", results, code=2).stderr.split())
    assert f"was started in {tmp_path}/one, which is not there: on another machine, say what it runs" in refused
    assert f"llm-datagen resume a FILE.yaml --results-dir {results} (or" in refused
    assert "failed" in command("status", "a", "--results-dir", results).stdout


PIPELINE = """
input_uri: {bucket}/in.jsonl
output_uri: {bucket}/out.jsonl
base_path: {bucket}/between
results_dir: {bucket}/runs
streaming: true
batch_size: 1
writer_config: {{flush_interval: 0.1}}
operators:
  - use: gated:same
  - use: gated:gated
"""

OPERATORS = """
import os, time
from pathlib import Path

def same(row):
    return row

def gated(row):
    marks = Path(os.environ["MARKS"])
    while row["n"] >= 5 and not (marks / "go").exists():
        (marks / "began").touch()
        time.sleep(0.01)
    return row
"""


@pytest.mark.slow
def test_a_run_that_was_killed_is_resumed_in_another_folder_as_on_another_machine(
    s3: S3Bucket, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StreamFactory.create(s3.uri("in.jsonl")).get_writer() as writer:
        writer.write(numbered(10))

    def start(machine: str, *arguments: str) -> Program:
        folder = tmp_path / machine
        (folder / "home").mkdir(parents=True)
        (folder / "p.yaml").write_text(PIPELINE.format(bucket=s3.uri("")[:-1]))
        (folder / "gated.py").write_text(OPERATORS)
        env = {**os.environ, "HOME": str(folder / "home"), "MARKS": str(tmp_path)}
        with (folder / "printed").open("w") as printed:
            return Program(["-m", "llm_datagen.cli", *arguments], cwd=folder, env=env, stdout=printed, stderr=printed)

    results = s3.uri("runs")
    with start("one", "run", "p.yaml", "--id", "a") as one:
        eventually((tmp_path / "began").exists, "a row is in the operator")
        assert "running" in command("status", "a", "--results-dir", results).stdout
        one.kill()
        one.wait()
    assert "interrupted" in command("status", "a", "--results-dir", results).stdout
    (tmp_path / "one").rename(tmp_path / "gone")
    (tmp_path / "go").touch()
    with start("two", "resume", "a", "p.yaml", "--results-dir", results) as two:
        assert two.wait() == 0, (tmp_path / "two/printed").read_text()
    found = [row["n"] for rows, _ in StreamFactory.create(s3.uri("out.jsonl")).get_reader().read(99) for row in rows]
    assert found == list(range(10))
    command("verify", "a", "--results-dir", results)
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    texts += [s3.get(key) or b"" for key in s3.all_keys()]
    assert not any(SECRET.encode() in text for text in texts)
