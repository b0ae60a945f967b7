"""Runs whose state is kept on an object store: `results_dir="s3://bucket/runs"`.

Another machine is a process in which `machine` answers something else. Leases are short here.
"""

from __future__ import annotations

import json
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    ConfigError,
    DatagenError,
    DiskError,
    INodeContext,
    PipelineBusyError,
    PipelineExistsError,
    StopRun,
)
from llm_datagen.errors import LeaseLostError, ResumeWarning
from llm_datagen.runs import RunFolder, on_store, state_file
from llm_datagen.runs.copied_files import CopiedFiles
from llm_datagen.runs.lease import RunLease
from llm_datagen.runs.logs import events
from llm_datagen.shards.run_view import all_runs, read_run
from llm_datagen.streams.storage import lease, object_clients, owner
from llm_datagen.streams.storage.object_folder import ObjectFolder
from llm_datagen.streams.storage.objects import OBJECT_STORAGE

from ..kit.programs import Program
from ..kit.s3 import ENVIRONMENT, S3Bucket, status, without_conditions
from ..kit.support import Bench, eventually, lines, numbered

pytestmark = pytest.mark.stores("s3", "gs")

JOB = """
import os, sys, time
from pathlib import Path

folder, host, results, seconds = Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])

from llm_datagen import DatagenError, UnifiedPipeline
from llm_datagen.runs import on_store
from llm_datagen.streams.storage import lease, owner


lease.LEASE_SECONDS = seconds
on_store.SAVE_SECONDS = 0.05
owner.machine = lambda: host

def same(row):
    (folder / f"began.{host}").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    return row

same.version = "an instrument"

while not (folder / "start").exists():
    time.sleep(0.001)
try:
    UnifiedPipeline(
        [same], f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/out.jsonl", results_dir=results, log_file=None,
        writer_config={"fsync": "never"},
    ).create("a", if_exists="resume").run()
    said = "completed"
except DatagenError as error:
    said = f"{type(error).__name__}: {error}"
(folder / f"said.{host}").write_text(said)
"""


def same(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row."""
    return row


@pytest.fixture
def results(s3: S3Bucket) -> str:
    """Where runs are kept."""
    return s3.uri("runs")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no request repeated."""
    monkeypatch.setattr(object_clients, "RETRIES", 0)
    monkeypatch.setenv("AWS_COMMENT", "a client of its own")


@pytest.fixture
def another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another machine than the one that runs the jobs."""
    monkeypatch.setattr(owner, "machine", lambda: "here")


def start(bench: Bench, results: str, host: str, seconds: float) -> Program:
    job = bench.folder / "job.py"
    job.write_text(JOB)
    return Program([str(each) for each in (job, bench.folder, host, results, seconds)])


def said(bench: Bench, host: str) -> str:
    path = bench.folder / f"said.{host}"
    return path.read_text() if path.exists() else ""


@pytest.mark.slow
def test_a_run_is_kept_on_a_store_and_nothing_of_it_on_the_machine(bench: Bench, results: str) -> None:
    bench.give(numbered(20))
    report = bench.pipeline([same], results_dir=results).create("a").run()

    assert (report.status, len(lines(bench.output))) == ("completed", 20)
    run = read_run(RunFolder(results, "a"))
    assert (run.status, run.is_live, run.state["nodes"][0]["rows_out"]) == ("completed", False, 20)
    assert [run.pipeline_id for run in all_runs(results)] == ["a"]
    checkpoint = json.loads(RunFolder(results, "a").read("checkpoint.json") or b"")
    assert set(checkpoint) == {"node_0"}
    assert bench.files() == {"in.jsonl", "out.jsonl", "out.jsonl.done", "platform.log"}


def test_of_two_hosts_that_begin_at_once_one_has_the_run(bench: Bench, results: str) -> None:
    bench.give(numbered(5))
    with start(bench, results, "one", 3) as one, start(bench, results, "two", 3) as two:
        (bench.folder / "start").touch()
        eventually(lambda: said(bench, "one") or said(bench, "two"), "one of them is refused")
        (bench.folder / "go").touch()
        assert [one.wait(), two.wait()] == [0, 0]
    refused, won = sorted([said(bench, "one"), said(bench, "two")])
    assert won == "completed"
    assert refused.startswith("PipelineBusyError: run 'a' in ")
    assert [row["_i"] for row in lines(bench.output)] == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_a_holder_that_was_stopped_for_long_can_save_nothing_any_more(
    bench: Bench, results: str, another_machine: None
) -> None:
    bench.give(numbered(5))
    (bench.folder / "start").touch()
    with start(bench, results, "one", 0.6) as one:
        eventually((bench.folder / "began.one").exists, "a row is in the operator")
        one.send_signal(signal.SIGSTOP)
        folder = RunFolder(results, "a")
        with pytest.warns(ResumeWarning, match="who gives no sign of life; waiting up to 0 s"):
            folder.lock.acquire()
        taken = folder.load()
        taken["reason"] = "of the second holder"
        folder.save(taken)
        one.send_signal(signal.SIGCONT)
        (bench.folder / "go").touch()
        assert one.wait() == 0
        now = folder.load()
        folder.lock.release()
    assert said(bench, "one").startswith("NodeFailedError: the run failed: LeaseLostError: run 'a' in ")
    assert "was taken over" in said(bench, "one")
    assert (now["reason"], now["fence"], now["updated_at"]) == ("of the second holder", 3, taken["updated_at"])


def test_the_run_of_a_host_that_died_is_taken_over_when_its_lease_has_run_out(
    bench: Bench, results: str, another_machine: None
) -> None:
    bench.give(numbered(5))
    (bench.folder / "start").touch()
    with start(bench, results, "one", 0.6) as one:
        eventually((bench.folder / "began.one").exists, "a row is in the operator")
        one.kill()
        one.wait()
    pipeline = bench.pipeline([same], results_dir=results)
    with pytest.warns(ResumeWarning, match="run 'a' in .*://.* was being run by process"):
        pipeline.resume("a")
    assert pipeline.run().status == "completed"
    assert [row["_i"] for row in lines(bench.output)] == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_who_died_on_this_machine_is_not_waited_for(
    bench: Bench, results: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "machine", lambda: "one")
    bench.give(numbered(5))
    (bench.folder / "start").touch()
    with start(bench, results, "one", 3600) as one:
        eventually((bench.folder / "began.one").exists, "a row is in the operator")
        assert RunFolder(results, "a").lock.is_held()
        one.kill()
        one.wait()
    assert read_run(RunFolder(results, "a")).status == "interrupted"
    pipeline = bench.pipeline([same], results_dir=results)
    pipeline.resume("a")
    assert pipeline.run().status == "completed"


def test_a_lease_that_is_renewed_is_not_taken(
    bench: Bench, results: str, another_machine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 3.0)
    holder = RunFolder(results, "a")
    holder.lock.acquire()
    with pytest.raises(PipelineBusyError, match="is being run by process"):
        RunFolder(results, "a").lock.acquire()  # of this process: nothing to wait for
    monkeypatch.setattr(owner, "machine", lambda: "another")
    with pytest.raises(PipelineBusyError, match="is being run by process"):
        RunFolder(results, "a").lock.acquire()
    holder.lock.release()
    assert not holder.lock.is_held()


def test_a_store_that_is_away_for_a_while_is_waited_for(
    bench: Bench, s3: S3Bucket, results: str, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.give(numbered(1))
    bench.pipeline([same], results_dir=results).create("a")
    folder = RunFolder(results, "a")
    folder.lock.acquire()
    run_state = folder.load()
    s3.server.fail("PUT", "runtime.json", status(503, "SlowDown"), times=2)
    assert not folder.save(run_state, may_wait=True)
    monkeypatch.setattr(on_store, "PATIENCE_SECONDS", 0)
    with pytest.raises(DiskError, match="the store answers with an error"):
        folder.save(run_state, may_wait=True)
    assert folder.save(run_state, may_wait=True)
    monkeypatch.setattr(on_store, "PATIENCE_SECONDS", 30)
    monkeypatch.setattr(on_store, "_RETRY_SECONDS", 0.01)
    s3.server.fail("PUT", "runtime.json", status(503, "SlowDown"), times=3)
    assert folder.save(run_state)  # the last one of a run is tried again
    folder.lock.release()


@pytest.mark.slow
def test_a_run_outlives_a_store_that_is_away_for_a_while_and_ends_to_be_resumed_when_it_is_for_long(
    bench: Bench, s3: S3Bucket, results: str, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_store, "SAVE_SECONDS", 0.01)
    monkeypatch.setattr(on_store, "_RETRY_SECONDS", 0.01)
    times = [3]

    def weather(row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] == 2:
            s3.server.fail("PUT", "runtime.json", status(503, "SlowDown"), times=times[0])
        return row

    bench.give(numbered(4))
    bench.pipeline([weather], results_dir=results).create("a").run()
    assert RunFolder(results, "a").load()["status"] == "completed"
    times[0] = 100_000
    monkeypatch.setattr(on_store, "PATIENCE_SECONDS", 0.05)
    settings: dict[str, Any] = {"results_dir": results, "output_uri": str(bench.folder / "b.jsonl")}
    pipeline = bench.pipeline([weather], **settings).create("b")
    with pytest.raises(DatagenError, match="the store answers with an error"):
        pipeline.run()
    s3.server.begin()
    times[0] = 0
    assert bench.pipeline([weather], **settings).resume("b").run().status == "completed"
    assert [row["n"] for row in lines(bench.folder / "b.jsonl")] == [0, 1, 2, 3]


def test_a_lease_that_cannot_be_renewed_is_lost(
    bench: Bench, s3: S3Bucket, results: str, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.3)
    bench.give(numbered(1))
    bench.pipeline([same], results_dir=results).create("a")
    folder = RunFolder(results, "a")
    folder.lock.acquire()
    s3.server.fail("PUT", "lease.json", status(503, "SlowDown"), times=1000)
    with pytest.raises(LeaseLostError, match=r"its lease could not be renewed for 0 s: .* resume it when the store"):
        eventually(folder.check)
    folder.lock.release()


def test_a_save_whose_answer_was_lost_is_known_as_ones_own(bench: Bench, s3: S3Bucket, results: str) -> None:
    bench.give(numbered(1))
    bench.pipeline([same], results_dir=results).create("a")
    folder = RunFolder(results, "a")
    folder.lock.acquire()
    run_state = folder.load()
    assert isinstance(folder.lock, RunLease)
    late = {**run_state, "fence": folder.lock.fence, "holder": folder.lock.token}
    s3.put("runs/a/runtime.json", state_file.serialize(late))  # by a request of this holder that was long under way
    assert folder.save(run_state)
    folder.lock.release()


@pytest.mark.slow
def test_a_holder_of_an_earlier_life_of_a_run_saves_nothing_though_its_number_is_the_same(
    bench: Bench, s3: S3Bucket, results: str
) -> None:
    """When a create fails, nothing is left, and numbers begin again."""
    bench.give(numbered(1))
    bench.pipeline([same], results_dir=results).create("b")
    run_state = RunFolder(results, "b").load()
    folders = []
    for _ in range(2):
        folder = RunFolder(results, "a")
        folder.lock.acquire()
        folders.append(folder)
        OBJECT_STORAGE.remove(s3.uri("runs/a/lease.json"))  # as who was stopped in a create, and has lost its lease
    first, second = folders
    assert isinstance(first.lock, RunLease)
    assert isinstance(second.lock, RunLease)
    assert first.lock.fence == second.lock.fence == 1
    assert second.save({**run_state, "reason": "of the second one"})
    with pytest.raises(LeaseLostError, match="was taken over by another process"):
        first.save({**run_state, "reason": "of the first one"})
    assert RunFolder(results, "a").load()["reason"] == "of the second one"
    for folder in folders:
        folder.lock.release()


def test_a_lease_that_cannot_be_given_back_is_told(
    s3: S3Bucket, results: str, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder(results, "a")
    folder.lock.acquire()
    s3.server.fail("PUT", "/lease.json", status(503), times=1000)
    folder.lock.release()
    [said] = [record.getMessage() for record in caplog.records]
    assert "its lease could not be given back, so it keeps other hosts out for up to " in said


def test_a_run_begins_also_when_its_control_socket_cannot_be_noted(
    bench: Bench, s3: S3Bucket, results: str, impatient: None
) -> None:
    bench.give(numbered(3))
    pipeline = bench.pipeline([same], results_dir=results).create("a")
    puts: list[int] = []

    def fault(environ: Any, start_response: Any, application: Any) -> Any:
        puts.append(1)  # the first one is that of who takes it, the second one notes the socket
        failing = status(503) if len(puts) == 2 else None
        return (failing or application)(environ, start_response, *([application] if failing else []))

    s3.server.fail("PUT", "runs/a/lease.json", fault, times=1000)
    assert pipeline.run().status == "completed"
    assert len(puts) == 3
    assert events.NO_CONTROL in [line["event"] for line in bench.log_lines()]


def test_a_machine_that_was_started_again_is_the_one_that_it_was(
    bench: Bench, results: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its files are here. But what was cut by a loss of power, and is whole on the store, is fetched."""
    kept = CopiedFiles(ObjectFolder(f"{results}/a"), tmp_path, "run 'a'")
    path = tmp_path / "files/budget.jsonl"
    path.parent.mkdir()
    known: dict[str, Any] = {}
    kept.begin(known)
    path.write_text("1234")
    kept.copy()
    known["own_files_on"] = "here"
    for left, found in (("12", "1234"), ("123456", "123456"), ("other", "other")):
        path.write_text(left)
        monkeypatch.setattr(owner, "machine", lambda: "another start")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            CopiedFiles(ObjectFolder(f"{results}/a"), tmp_path, "run 'a'").begin(dict(known))
        assert path.read_text() == found


def test_a_store_that_ignores_conditions_is_refused(
    bench: Bench, s3: S3Bucket, results: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OBJECT_STORAGE, "_able", set())

    bench.give(numbered(1))
    s3.server.fail("PUT", "", without_conditions, times=1000)
    with pytest.raises(ConfigError, match="cannot be kept there, as nothing would keep two hosts apart"):
        bench.pipeline([same], results_dir=results).create("a")
    assert not s3.all_keys()


def test_what_is_wrong_with_a_store_is_said(
    bench: Bench, s3: S3Bucket, results: str, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.give(numbered(1))

    def refused(where: str, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text) as caught:
            bench.pipeline([same], results_dir=where).create("a")
        assert ENVIRONMENT["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)

    refused(f"{s3.scheme}://no-such-bucket/runs", DiskError, "there is no such bucket")
    s3.server.fail("GET", "", status(403, "AccessDenied"), times=1000)
    s3.server.fail("PUT", "", status(403, "AccessDenied"), times=1000)
    refused(results, DiskError, "the store refuses the credentials")
    refused("ftp://host/runs", ConfigError, "give a folder of this machine, or one of a store: s3://, gs://, az://")
    refused(f"{s3.scheme}://bucket", ConfigError, "is no address of an object")
    monkeypatch.setenv({"s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL"}[s3.scheme], "http://127.0.0.1:1")
    refused(results, DiskError, "the store cannot be reached")
    monkeypatch.setenv("AWS_COMMENT", "another client")
    monkeypatch.setitem(sys.modules, "obstore", None)
    refused(results, ConfigError, "needs obstore: pip install 'llm-datagen")


@pytest.mark.slow
def test_what_was_spent_is_fetched_by_another_machine(
    bench: Bench, results: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What operators keep besides stays on the machine, and the other one is told."""

    def spend(row: dict[str, Any], ctx: INodeContext) -> dict[str, Any]:
        assert ctx.folder is not None
        ctx.folder.mkdir(parents=True, exist_ok=True)
        with (ctx.folder / "budget.jsonl").open("a") as file:
            file.write("1")
        if row["n"] == 2 and "second" not in str(ctx.folder):
            (ctx.folder / "notes").touch()
            raise StopRun("enough")
        return {"spent": (ctx.folder / "budget.jsonl").read_text()}

    bench.give(numbered(4))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "first"))
    settings: dict[str, Any] = {"results_dir": results, "parallel_size": 1, "batch_size": 1}
    assert bench.pipeline([spend], **settings).create("a").run().status == "stopped"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "second"))
    pipeline = bench.pipeline([spend], **settings).resume("a")
    with pytest.warns(ResumeWarning, match="operators of run 'a' in .*://.* have kept files of their own on "):
        assert pipeline.run().status == "completed"
    assert [row["spent"] for row in lines(bench.output)][2:] == ["1111", "11111"]
    assert not (tmp_path / "second" / "llm-datagen" / "notes").exists()


def test_who_has_lost_a_run_replaces_nothing_of_what_was_spent(s3: S3Bucket, tmp_path: Path) -> None:
    kept = {}
    for host in ("one", "two"):
        (tmp_path / host / "files").mkdir(parents=True)
        kept[host] = CopiedFiles(ObjectFolder(s3.uri("runs/a")), tmp_path / host, "run 'a'")
        kept[host].begin({})
        (tmp_path / host / "files/budget.jsonl").write_text(f"spent on {host}")
    kept["two"].copy()
    kept["one"].copy()
    assert s3.get("runs/a/files/budget.jsonl") == b"spent on two"


def test_rows_in_jobs_of_a_batch_api_are_not_asked_again_by_another_machine(s3: S3Bucket, tmp_path: Path) -> None:
    one, two = (CopiedFiles(ObjectFolder(s3.uri("runs/a")), tmp_path / host, "run 'a'") for host in ("one", "two"))
    run_state = {"status": "running"}
    one.begin(run_state)
    (tmp_path / "one/files/jobs").mkdir(parents=True)
    (tmp_path / "one/files/jobs/node_0.sqlite").touch()
    one.note(run_state)
    one.begin(run_state)  # here it goes on
    with pytest.raises(
        ConfigError, match=r"run 'a' has rows in jobs of a batch API, .* in its folder .*/one: resume it"
    ):
        two.begin(run_state)
    two.begin({**run_state, "status": "completed"})


def test_a_look_at_a_run_of_another_machine_leaves_the_files_of_this_one_alone(
    s3: S3Bucket, results: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two machines may have one home folder, and the one that runs it has the file open."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = RunFolder(results, "a")
    s3.put("runs/a/files/budget.jsonl", b"copied some seconds ago")
    folder.files_path.mkdir(parents=True)
    (folder.files_path / "budget.jsonl").write_text("of the process that runs it")
    monkeypatch.setattr(RunFolder, "load", lambda self: {"kept_by": "another machine"})
    with folder.files_to_look_at() as files:
        assert (files / "budget.jsonl").read_bytes() == b"copied some seconds ago"
    assert (folder.files_path / "budget.jsonl").read_text() == "of the process that runs it"


def test_a_lease_that_somebody_holds_is_not_removed(results: str) -> None:
    holder, other = RunFolder(results, "a"), RunFolder(results, "a")
    holder.lock.acquire()
    other.lock.remove()
    assert other.lock.is_held()
    holder.lock.release()
    other.lock.remove()
    assert other.read("lease.json") is None


@pytest.mark.parametrize("name", ["files/out.jsonl", "lease.json/out.jsonl"])
def test_no_output_lies_where_a_run_on_a_store_keeps_its_files(bench: Bench, results: str, name: str) -> None:
    bench.give(numbered(1))
    with pytest.raises(ConfigError, match="would be the output of node_0, and is a file of the run 'b'"):
        bench.pipeline([same], output_uri=f"{results}/b/{name}", results_dir=results).create("a")


def test_a_path_that_was_made_of_a_uri_is_refused(bench: Bench, results: str) -> None:
    for name in ("results_dir", "base_path"):
        with pytest.raises(
            ConfigError, match=f"{name} is '(s3|gs):/bucket.*a URI that lost a slash, as in a Path; give text"
        ):
            bench.pipeline([same, same], **{name: Path(results)}).create("a")


@pytest.mark.slow
def test_rows_in_memory_and_the_output_of_a_run_on_a_store_are_copied_there(
    bench: Bench, s3: S3Bucket, results: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    pipeline = bench.pipeline([same], input_uri=None, input=iter(numbered(3)), output_uri="-", results_dir=results)
    pipeline.create("a").run()
    copies = {"spooled-input.jsonl", "spooled-input.jsonl.done", "output.jsonl", "output.jsonl.done"}
    state = {"runtime.json", "checkpoint.json", "lease.json"}
    assert s3.all_keys() == {f"runs/a/{name}" for name in copies | state}
    assert capfdbinary.readouterr().out == s3.get("runs/a/output.jsonl")
    with pytest.raises(ConfigError, match="input: row 1 is int, and must be a dict"):
        bench.pipeline([same], input_uri=None, input=[{"n": 1}, 2], output_uri="-", results_dir=results).create("b")
    assert not {key for key in s3.all_keys() if key.startswith("runs/b/")}


@pytest.mark.slow
def test_a_run_on_a_store_is_started_afresh(bench: Bench, s3: S3Bucket, results: str) -> None:
    bench.give(numbered(3))
    bench.pipeline([same], results_dir=results).create("a").run()
    s3.put("runs/a/files/budget.jsonl", b"spent")
    with pytest.raises(PipelineExistsError, match=r"run 'a' is there already in .*://.* \(completed\)"):
        bench.pipeline([same], results_dir=results).create("a")
    pipeline = bench.pipeline([same], results_dir=results).create("a", if_exists="overwrite")
    assert s3.all_keys() == {"runs/a/lease.json", "runs/a/runtime.json"}
    assert pipeline.run().status == "completed"
