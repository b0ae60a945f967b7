"""Never two writers of a shard: workers are stopped, killed and continued, and takers, too; the rows are exact.

What `llm_datagen.shards.claim` guarantees. The processes are real, and stopped by SIGSTOP, as a paused machine is.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from llm_datagen import StreamFactory
from llm_datagen.cli.exit_codes import exit_codes
from llm_datagen.errors import (
    LeaseLostError,
    NodeFailedError,
    PipelineBusyError,
    ResumeWarning,
    RunError,
    RunStateError,
    StreamChangedError,
)
from llm_datagen.runs import RunFolder
from llm_datagen.runs.verify import verify
from llm_datagen.shards.claim import is_settled, latest, take
from llm_datagen.shards.gather import gather
from llm_datagen.shards.lifecycle import prepared
from llm_datagen.shards.run_view import read_run
from llm_datagen.streams.recovery import last_position
from llm_datagen.streams.storage import owner

from ..kit.clean import clean
from ..kit.programs import Program
from ..kit.s3 import S3Bucket
from ..kit.shards import in_shards, rows_in_shards, shard_states
from ..kit.support import Bench, eventually, numbered, write_jsonl
from . import claim_job
from .claim_job import NUMBER, expected, pipeline_of

pytestmark = pytest.mark.stores("s3", "gs")

__all__ = ["clean"]

LEASE = 0.6
"""Seconds of a lease in these tests: a beat each 0.2 s."""


class Workers:
    """Processes that each take shard 3, and run it.

    Attributes:
        rows: rows of the input.
        shards: the folder of the shards.
    """

    def __init__(self, folder: Path, rows: int, shards: str = "", source: str = "") -> None:
        self.folder, self.rows = folder, rows
        self.shards = shards or str(folder / "results/whole/shards")
        self.source = source or f"jsonl://{write_jsonl(folder / 'in.jsonl', numbered(rows))}"
        self._programs: dict[str, Program] = {}

    def job(self, name: str, **more: Any) -> dict[str, Any]:
        job = {"folder": str(self.folder), "shards": self.shards, "input": self.source, "name": name}
        return {**job, "lease": LEASE, "nap": 0.0, **more}

    def start(self, name: str, **more: Any) -> Program:
        job = self.job(name, **more)
        errors = (self.folder / f"errors.{name}").open("w")
        with errors:
            program = Program([claim_job.__file__, json.dumps(job)], stderr=errors)
        self._programs[name] = program
        return program

    def stopped(self, name: str, **more: Any) -> Program:
        """Start one, and stop it at its row 20, when it has committed some."""
        program = self.start(name, held=20, **more)
        eventually((self.folder / f"held.{name}").exists, "row 20")
        eventually(lambda: self.done("out") > 0, "a commit")
        program.send_signal(signal.SIGSTOP)
        return program

    def said(self, name: str) -> list[str]:
        path = self.folder / f"said.{name}"
        return path.read_text().splitlines() if path.exists() else []

    def stream(self, name: str, run_id: str | None = None) -> Any:
        protocol = "" if "://" in self.shards else "jsonl://"
        return StreamFactory.create(f"{protocol}{self.shards}/{run_id or latest(self.shards, NUMBER)}/{name}.jsonl")

    def done(self, name: str) -> int:
        return last_position(self.stream(name)).rows if latest(self.shards, NUMBER) else 0

    def copies(self) -> list[str]:
        """Return the copies that were begun and not ended."""
        return [path.name for path in Path(self.shards, "taking").glob("*")]

    def check(self) -> None:
        """Check that the shard has completed with exactly its rows."""
        run_id = latest(self.shards, NUMBER)
        assert run_id is not None
        out = self.stream("out", run_id)
        found = [(row["n"], row["k"]) for rows, _ in out.get_reader().read(1000) for row in rows]
        assert sorted(found) == expected(self.rows)
        run = read_run(RunFolder(self.shards, run_id))
        assert (run.status, run.state["nodes"][1]["dead_letters"]) == ("completed", (self.rows + 12) // 20)
        assert [account.findings for account in verify(run.state)] == [[], []]
        assert is_settled(self.shards, NUMBER)

    def end(self) -> None:
        for program in self._programs.values():
            program.send_signal(signal.SIGCONT)
            program.kill()
            program.wait()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    found = Workers(tmp_path, 60)
    yield found
    found.end()


@pytest.mark.slow
def test_a_stopped_worker_is_taken_over_and_what_it_writes_after_that_counts_no_more(workers: Workers) -> None:
    one = workers.stopped("one")
    committed = workers.done("out")
    seen = Path(workers.shards, "00003/files/seen").read_text()
    assert seen
    two = workers.start("two")
    assert two.wait() == 0
    assert workers.said("two") == ["took 00003.2", "completed"]
    old = RunFolder(workers.shards, "00003").load()
    (workers.folder / "go").touch()
    one.send_signal(signal.SIGCONT)
    assert one.wait() == 0

    assert workers.said("one")[0] == "took 00003"
    assert workers.said("one")[1].startswith("NodeFailedError: the run failed: LeaseLostError: run '00003' in ")
    assert f"was taken over by process {two.pid} on " in workers.said("one")[1]
    assert latest(workers.shards, NUMBER) == "00003.2"
    workers.check()
    assert old["status"] == "running"
    state = RunFolder(workers.shards, "00003.2").load()
    assert state["taken_from"]["run"] == "00003"
    assert state["taken_from"]["of"].startswith(f"process {one.pid} on ")
    assert last_position(workers.stream("out", "00003.2")).rows > committed
    assert Path(workers.shards, "00003.2/files/seen").read_text().startswith(seen)
    log = (workers.folder / "errors.two").read_text()
    assert f"shard 3 in {workers.shards} was taken over from process {one.pid} on " in log
    assert workers.copies() == []


@pytest.mark.slow
def test_a_worker_that_lives_keeps_its_shard_and_is_named(workers: Workers) -> None:
    one = workers.start("one", held=20)
    eventually((workers.folder / "held.one").exists, "row 20")
    with pytest.raises(PipelineBusyError, match=rf"shard 3 in .* is being run by process {one.pid} on "):
        take(workers.shards, NUMBER, lease_seconds=LEASE)
    assert not is_settled(workers.shards, NUMBER)
    (workers.folder / "go").touch()
    one.wait()
    assert workers.said("one") == ["took 00003", "completed"]
    workers.check()


@pytest.mark.slow
def test_the_shard_of_a_worker_that_was_killed_goes_on_in_its_folder_at_once(workers: Workers) -> None:
    one = workers.start("one", held=20, lease=1000.0)
    eventually((workers.folder / "held.one").exists, "row 20")
    one.kill()
    one.wait()
    assert workers.start("two").wait() == 0
    assert workers.said("two") == ["took 00003", "completed"]
    workers.check()


@pytest.mark.slow
def test_of_two_that_take_a_shard_over_at_once_one_has_it(workers: Workers) -> None:
    workers.stopped("one")
    two, three = workers.start("two", nap=0.02, held=30), workers.start("three", nap=0.02, held=30)
    eventually(lambda: workers.said("two") and workers.said("three"), "both have tried")
    (workers.folder / "go").touch()
    assert [two.wait(), three.wait()] == [0, 0]
    won, refused = sorted([workers.said("two"), workers.said("three")], key=len, reverse=True)
    assert won == ["took 00003.2", "completed"]
    assert refused[0].startswith("PipelineBusyError: shard 3 in ")
    assert workers.copies() == []
    workers.check()


@pytest.mark.slow
def test_what_a_taker_that_was_killed_has_left_is_cleaned_up(workers: Workers) -> None:
    workers.stopped("one")
    assert workers.start("two", signal="SIGKILL").wait() == -signal.SIGKILL
    (left,) = workers.copies()
    assert left.startswith("00003.2.")
    assert latest(workers.shards, NUMBER) == "00003"
    assert not is_settled(workers.shards, NUMBER)
    assert workers.start("three").wait() == 0
    assert workers.said("three") == ["took 00003.2", "completed"]
    assert workers.copies() == []
    workers.check()


@pytest.mark.slow
def test_a_taker_that_was_stopped_with_its_copy_made_comes_too_late(workers: Workers) -> None:
    workers.stopped("one")
    two = workers.start("two", signal="SIGSTOP")
    eventually((workers.folder / "signal.two").exists, "the copy is made")
    assert workers.start("three").wait() == 0
    assert workers.said("three") == ["took 00003.2", "completed"]
    two.send_signal(signal.SIGCONT)
    assert two.wait() == 0
    assert workers.said("two")[0].startswith("PipelineBusyError: shard 3 in ")
    assert workers.copies() == []
    workers.check()


class Stopped:
    """A worker of this process, as it is when its process is stopped: it has the shard, and gives no sign of life."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.claim = take(workers.shards, NUMBER, lease_seconds=0.1)
        assert self.claim._held is not None
        self.claim._held._heartbeat.stop()

    def run(self) -> None:
        pipeline_of(self.workers.job("here"), self.claim.run_id).create(self.claim.run_id, if_exists="resume").run()

    def take_over(self) -> str:
        with (
            pytest.warns(ResumeWarning, match="who gives no sign of life"),
            take(self.workers.shards, NUMBER, lease_seconds=0.1) as taken,
        ):
            return taken.run_id


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Stopped]:
    found = Stopped(Workers(tmp_path, 30))
    yield found
    found.claim.release()


def test_a_shard_that_had_completed_just_before_is_copied_as_completed(stopped: Stopped) -> None:
    stopped.run()
    shards, ended = Path(stopped.workers.shards), RunFolder(stopped.workers.shards, "00003").load()
    assert not is_settled(shards, NUMBER)

    assert stopped.take_over() == "00003.2"
    copied = RunFolder(shards, "00003.2").load()
    assert (copied["status"], copied["ended_at"]) == ("completed", ended["ended_at"])
    assert (shards / "00003.2/out.jsonl").samefile(shards / "00003/out.jsonl")
    stopped.workers.check()
    assert stopped.claim.is_lost
    with pytest.raises(LeaseLostError, match=r"was taken over by process \d+ on "):
        stopped.claim.check()
    with pytest.raises(LeaseLostError, match=r"run '00003' in .* was taken over"):
        stopped.run()


def test_a_shard_that_was_claimed_and_not_begun_is_begun_in_the_new_folder(stopped: Stopped) -> None:
    assert latest(stopped.workers.shards, NUMBER) is None
    assert stopped.take_over() == "00003.2"
    assert latest(stopped.workers.shards, NUMBER) is None
    with pytest.raises(LeaseLostError):
        stopped.run()
    with take(stopped.workers.shards, NUMBER) as taken:
        assert taken.run_id == "00003.2"
        assert not taken.is_lost
        pipeline_of(stopped.workers.job("there"), taken.run_id).create(taken.run_id).run()
    stopped.workers.check()


@pytest.mark.slow
def test_a_shard_is_taken_over_again_and_again(stopped: Stopped) -> None:
    stopped.run()
    assert stopped.take_over() == "00003.2"
    again = Stopped(stopped.workers)
    assert again.claim.run_id == "00003.2"
    assert stopped.take_over() == "00003.3"
    again.claim.release()
    stopped.workers.check()


@pytest.mark.slow
def test_a_shard_of_a_machine_that_is_not_seen_is_copied_once_its_lease_has_run_out(
    stopped: Stopped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock may be one of that machine alone, where a file system is mounted so."""
    stopped.run()
    stopped.claim._held._lock.release()  # type: ignore[union-attr]
    monkeypatch.setattr(owner, "machine", lambda: "another one")
    assert stopped.take_over() == "00003.2"
    stopped.workers.check()


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"delivery": "at_most_once"}, "node 'slow' hands out each row at most once"),
        ({"output_uri": "jsonl:///elsewhere/out.jsonl"}, "jsonl:///elsewhere/out.jsonl does not lie in its folder"),
    ],
)
def test_what_cannot_be_copied_is_refused_and_nothing_is_changed(
    stopped: Stopped, changed: dict[str, Any], why: str
) -> None:
    stopped.run()
    folder = RunFolder(stopped.workers.shards, "00003")
    run_state = folder.load()
    run_state["nodes"][0].update(changed)
    folder.save(run_state)
    with pytest.raises(RunStateError, match=f"run '00003' in .* cannot be taken over: {why}. End the process"):
        stopped.take_over()
    assert not stopped.claim.is_lost
    assert latest(stopped.workers.shards, NUMBER) == "00003"


@pytest.mark.slow
def test_rows_that_are_not_what_was_committed_are_not_copied(stopped: Stopped) -> None:
    stopped.run()
    out = Path(stopped.workers.shards, "00003/out.jsonl")
    out.write_bytes(out.read_bytes().replace(b'"n":2', b'"n":3', 1))
    with pytest.raises(StreamChangedError, match=rf"{out} does not hold what was committed of it: .* checksum"):
        stopped.take_over()
    assert stopped.workers.copies() == []


@pytest.mark.slow
def test_the_shard_of_a_run_is_taken_over_by_another_worker_and_the_whole_has_all_rows(bench: Bench) -> None:
    bench.give(numbered(200))
    slow = claim_job.Slow({"folder": "", "name": "", "nap": 0.0})
    whole = in_shards(bench.pipeline([slow], writer_config={"flush_interval": 0.02})).create("a")
    folder = RunFolder(bench.results, "a")
    prepared(folder, folder.load(), None, 2)
    workers = Workers(bench.folder, 200, f"{bench.results}/a/shards")
    of = {"of": "a", "results": str(bench.results), "nap": 0.01}
    try:
        one = workers.start("one", held=170, **of)
        eventually((bench.folder / "held.one").exists, "row 170")
        eventually(lambda: workers.done("node_0") > 0, "a commit")
        one.send_signal(signal.SIGSTOP)
        assert workers.start("two", **of).wait() == 0
        assert workers.said("two") == ["completed"]
        assert latest(workers.shards, NUMBER) == "00003.2"
        whole.resume("a")
        with pytest.raises(PipelineBusyError, match=rf"the shard in .*/00003 is being run by process {one.pid} on "):
            in_shards(bench.pipeline([slow])).create("a", if_exists="overwrite")
        assert whole.run(progress=False).rows_out == 200
        (bench.folder / "go").touch()
        one.send_signal(signal.SIGCONT)
        assert one.wait() == 0
    finally:
        workers.end()
    assert workers.said("one")[0].startswith("failed the run failed: LeaseLostError: run '00003' in ")
    assert sorted(row["_i"] for row in rows_in_shards(bench, "a", "node_0")) == list(range(200))
    assert [state["pipeline_id"] for state in shard_states(bench, "a")] == ["00000", "00001", "00002", "00003.2"]


def test_a_shard_that_a_process_still_has_is_not_gathered(bench: Bench) -> None:
    bench.give(numbered(8))
    in_shards(bench.pipeline([claim_job.Double()], on_error="skip")).create("a").run(progress=False)
    refused = pytest.raises(RunError, match="run 'a' cannot be gathered yet: a process has shard 3 still")
    with take(f"{bench.results}/a/shards", NUMBER), refused:
        gather(bench.results, "a")
    gather(bench.results, "a")


def test_who_was_taken_over_exits_with_5(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left, exit_codes():
        raise NodeFailedError("the run failed", "slow") from LeaseLostError("it was taken over")
    assert left.value.exit_code == 5


@pytest.mark.slow
def test_in_a_store_a_stopped_worker_is_refused_when_it_goes_on(s3: S3Bucket, tmp_path: Path) -> None:
    """There, the run keeps its id: its lease says who may begin, and the store refuses who was succeeded."""
    with StreamFactory.create(s3.uri("in.jsonl")).get_writer() as writer:
        writer.write(numbered(60))
    workers = Workers(tmp_path, 60, s3.uri("results/whole/shards"), s3.uri("in.jsonl"))
    try:
        one = workers.stopped("one")
        two = workers.start("two")
        assert two.wait() == 0
        assert workers.said("two") == ["took 00003", "completed"]
        (tmp_path / "go").touch()
        one.send_signal(signal.SIGCONT)
        assert one.wait() == 0
    finally:
        workers.end()
    assert workers.said("one")[1].startswith("NodeFailedError: ")
    refusals = ("taken over", "another writer", "LeaseLostError")  # whichever of its requests comes to the store first
    assert any(refusal in workers.said("one")[1] for refusal in refusals)
    assert f"was taken over from process {one.pid} on " in (tmp_path / "errors.two").read_text()
    workers.check()


def test_a_process_that_has_ended_is_dead_though_its_parent_has_not_asked_how() -> None:
    """Where nobody asks, as in a container whose first process does not, its shard would be watched for a lease."""
    child = subprocess.Popen(["true"])
    try:
        eventually(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        assert not owner.Owner(host=socket.gethostname(), pid=child.pid, since="").is_alive
        assert owner.Owner.of_this_process().is_alive
    finally:
        child.wait()
