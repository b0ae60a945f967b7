"""Runs of which all is on an object store: input, output, the streams between, and the run state.

So another machine goes on with them: a process with another folder, another home and another `machine`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from llm_datagen import StreamFactory
from llm_datagen.runs import RunFolder

from ..kit.programs import Program
from ..kit.s3 import S3Bucket
from ..kit.support import eventually, numbered

pytestmark = pytest.mark.stores("s3", "gs")

JOB = """
import os, sys, time
from pathlib import Path

bucket, host, seconds, marks = sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4])

from llm_datagen import DatagenError, UnifiedPipeline
from llm_datagen.runs import on_store
from llm_datagen.streams.storage import lease, owner


lease.LEASE_SECONDS = seconds
on_store.SAVE_SECONDS = 0.05
owner.machine = lambda: host

def double(row):
    return [{**row, "copy": number} for number in range(2)]

def same(row):
    if row["n"] >= 8 and not (marks / "go").exists():
        (marks / f"began.{host}").touch()
        while not (marks / "go").exists():
            time.sleep(0.01)
    return row

double.version = same.version = "an instrument"

pipeline = UnifiedPipeline(
    [double, same], f"{bucket}/in.jsonl", f"{bucket}/out.jsonl", results_dir=f"{bucket}/runs",
    base_path=f"{bucket}/between", log_file=None, streaming=True, batch_size=1, parallel_size=2,
    writer_config={"flush_interval": 0.2, "flush_batch_size": 10},
)
try:
    pipeline.create("a", if_exists="resume").run()
    said = "completed"
except DatagenError as error:
    said = f"{type(error).__name__}: {error}"
(marks / f"said.{host}").write_text(said)
"""

ROWS = 16


class Machines:
    """Processes that are as good as machines."""

    def __init__(self, bucket: S3Bucket, folder: Path) -> None:
        self.bucket = bucket
        self.marks = folder
        (folder / "job.py").write_text(JOB)
        with StreamFactory.create(bucket.uri("in.jsonl")).get_writer() as writer:
            writer.write(numbered(ROWS))

    def start(self, host: str, seconds: float) -> Program:
        home = self.marks / host
        home.mkdir()
        arguments = [str(self.marks / "job.py"), self.bucket.uri("")[:-1], host, str(seconds), str(self.marks)]
        return Program(arguments, cwd=home, env={**os.environ, "HOME": str(home), "PYTHONWARNINGS": "ignore"})

    def wait_for(self, mark: str) -> None:
        eventually((self.marks / mark).exists, mark)

    def said(self, host: str) -> str:
        return (self.marks / f"said.{host}").read_text()

    def check_output(self) -> None:
        reader = StreamFactory.create(self.bucket.uri("out.jsonl")).get_reader()
        found = sorted((row["n"], row["copy"]) for rows, _ in reader.read(1000) for row in rows)
        assert found == [(n, copy) for n in range(ROWS) for copy in range(2)]
        keys = self.bucket.all_keys()
        state = {f"runs/a/{name}" for name in ("runtime.json", "checkpoint.json", "lease.json")}
        streams = {"in.jsonl", "out.jsonl", "between/a/node_0.jsonl"}
        assert keys == state | streams | {f"{stream}.done" for stream in streams}
        folder = RunFolder(self.bucket.uri("runs"), "a")
        assert (folder.load()["status"], folder.lock.is_held()) == ("completed", False)


@pytest.fixture
def machines(s3: S3Bucket, tmp_path: Path) -> Machines:
    return Machines(s3, tmp_path)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_on_another_machine(machines: Machines) -> None:
    with machines.start("one", 0.6) as one:
        machines.wait_for("began.one")
        one.kill()
        one.wait()
    (machines.marks / "go").touch()
    with machines.start("two", 0.6) as two:
        assert two.wait() == 0
    assert machines.said("two") == "completed"
    machines.check_output()


@pytest.mark.slow
def test_a_machine_that_wakes_up_after_a_take_over_commits_and_saves_nothing(
    machines: Machines,
) -> None:
    with machines.start("one", 0.6) as one:
        machines.wait_for("began.one")
        one.send_signal(signal.SIGSTOP)
        with machines.start("two", 3) as two:
            machines.wait_for("began.two")
            (machines.marks / "go").touch()
            one.send_signal(signal.SIGCONT)
            assert [one.wait(), two.wait()] == [0, 0]
    assert machines.said("two") == "completed"
    assert machines.said("one").startswith("NodeFailedError: ")
    assert "taken over" in machines.said("one") or "another writer" in machines.said("one")
    machines.check_output()
