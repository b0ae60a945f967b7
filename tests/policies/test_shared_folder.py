"""Two runs, two machines, one results_dir or one output: one of them has it, the other one is told who (M23).

Another machine is a process in which `socket.gethostname` answers something else.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from llm_datagen import DiskError, PipelineBusyError, StreamBusyError, UnifiedPipeline
from llm_datagen.errors import ControlError
from llm_datagen.runs import RunFolder, lock
from llm_datagen.runs.lock import RunLock
from llm_datagen.shards.run_commands import send_cancel
from llm_datagen.shards.run_view import read_run
from llm_datagen.streams.storage.local import LocalStorage
from llm_datagen.streams.storage.locks import HeldLock

from ..kit.programs import Program
from ..kit.support import Bench, eventually, lines, numbered

JOB = """
import os, socket, sys, time
from pathlib import Path

folder, host, results, children = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
if host:
    socket.gethostname = lambda: host

from llm_datagen import DatagenError, UnifiedPipeline

def same(row):
    (folder / f"began.{os.getpid()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    return row

same.version = "an instrument"

def run(name):
    UnifiedPipeline(
        [same], f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/out.jsonl", base_path=folder,
        results_dir=folder / name, log_file=None, writer_config={"fsync": "never"},
    ).create("a", if_exists="resume").run()

def child(number):
    while not (folder / "start").exists():
        time.sleep(0.001)
    try:
        run(results.format(number))
        said = "completed"
    except DatagenError as error:
        said = f"{type(error).__name__}: {error}"
    (folder / f"said.{os.getpid()}.tmp").write_text(said)
    (folder / f"said.{os.getpid()}.tmp").rename(folder / f"said.{os.getpid()}")

if children:
    pids = []
    for number in range(children):
        pid = os.fork()
        if not pid:
            child(number)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
else:
    run(results)
"""


@contextmanager
def job(bench: Bench, *, host: str = "", results: str = "results", children: int = 0) -> Iterator[Program]:
    """Start a process that runs the pipeline "a", or so many at once; none is left at the end."""
    arguments = [str(bench.folder), host, results, str(children)]
    with Program(["-c", JOB, *arguments], is_leader=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def began(bench: Bench) -> int:
    """Wait until a process is in its operator, and return its id."""
    (file,) = eventually(lambda: list(bench.folder.glob("began.*")))
    eventually(lambda: bench.run_state("a")["status"] == "running")
    return int(file.suffix[1:])


def said(bench: Bench) -> dict[int, str]:
    """Return what became of each child that has ended."""
    return {int(file.name.split(".")[1]): file.read_text() for file in bench.folder.glob("said.*[0-9]")}


def same(row: Any) -> Any:
    return row


def here(bench: Bench, **settings: Any) -> UnifiedPipeline:
    """Return the pipeline, in this process."""
    return bench.pipeline([same], base_path=bench.folder, log_file=None, **settings)


@pytest.mark.process
@pytest.mark.parametrize("host", ["", "far-away"])
def test_a_second_run_is_told_who_has_it_and_gets_it_when_that_process_is_dead(
    bench: Bench, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M23: on this machine, or on another one whose locks reach here. A kernel's lock ends with its process."""
    bench.give(numbered(5))
    with job(bench, host=host) as process:
        assert began(bench) == process.pid
        owner = json.loads((bench.results / "a" / "owner.json").read_bytes())
        assert owner["pid"] == process.pid
        assert owner["host"] == (host or os.uname().nodename)
        who = f"is being run by process {process.pid} on {owner['host']}, since {owner['since'][:10]}"
        with pytest.raises(PipelineBusyError, match=who):
            here(bench).resume("a")
        with pytest.raises(PipelineBusyError, match=who):
            here(bench).create("a", if_exists="overwrite")
        assert read_run(RunFolder(bench.results, "a")).is_live
        process.kill()
        process.wait()
        (bench.folder / "go").touch()
        monkeypatch.setattr(lock, "FRESH_SECONDS", 0.0)  # of another host, what was saved just now may be alive
        monkeypatch.setattr(lock, "WATCH_SECONDS", 0.2)
        assert read_run(RunFolder(bench.results, "a")).status == "interrupted"
        assert here(bench).resume("a").run().rows_out == 5
    assert not (bench.results / "a" / "owner.json").exists()


class OneMachine(LocalStorage):
    """A file system that says that it locks, and does so on each machine for itself, as NFS mounted with nolock."""

    def lock_path(self, path: str) -> HeldLock:
        return super().lock_path(f"{path}.of_this_machine")


@pytest.fixture
def unseen_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunLock, "storage", OneMachine())


@pytest.mark.process
@pytest.mark.usefixtures("unseen_locks")
def test_a_run_of_another_machine_whose_lock_cannot_be_seen_is_known_by_its_run_state(bench: Bench) -> None:
    """M23: while its run state moves it is not taken, nor shown as dead; its process id is not looked for here."""
    bench.give(numbered(5))
    with job(bench, host="far-away") as process:
        began(bench)
        with pytest.raises(PipelineBusyError) as refused:
            here(bench).resume("a")
        assert f"by process {process.pid} on far-away, since" in str(refused.value)
        assert "nolock" in str(refused.value)
        shown = read_run(RunFolder(bench.results, "a"))
        assert (shown.status, shown.is_live) == ("running", True)
        assert f"process {process.pid} on far-away" in shown.note
        with pytest.raises(ControlError, match="runs on far-away"):
            send_cancel(RunFolder(bench.results, "a"), keep_jobs=False)
        (bench.folder / "go").touch()
        assert process.wait(30) == 0
    assert here(bench).resume("a").run().rows_out == 5


@pytest.mark.process
@pytest.mark.usefixtures("unseen_locks")
def test_a_run_that_another_machine_has_left_dead_is_taken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """M23: nothing has to be removed by hand, though nobody gave it back."""
    bench.give(numbered(5))
    with job(bench, host="far-away") as process:
        began(bench)
        process.kill()
        process.wait()
    owner = bench.results / "a" / "owner.json"
    assert json.loads(owner.read_bytes())["host"] == "far-away"
    # A process of that number is alive here: this one. That says nothing.
    owner.write_text(json.dumps({**json.loads(owner.read_bytes()), "pid": os.getpid()}))
    monkeypatch.setattr(lock, "FRESH_SECONDS", 0.0)
    shown = read_run(RunFolder(bench.results, "a"))
    assert (shown.status, shown.is_live) == ("interrupted", False)
    assert f"process {os.getpid()} on far-away is gone" in shown.note
    monkeypatch.setattr(lock, "WATCH_SECONDS", 0.2)
    assert here(bench).resume("a").run().rows_out == 5


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 3}'])
def test_a_record_of_the_owner_that_cannot_be_read_keeps_nobody_out(bench: Bench, text: str) -> None:
    """M23: the lock counts; the record is for the message."""
    bench.give(numbered(5))
    pipeline = here(bench).create("a")
    (bench.results / "a" / "owner.json").write_text(text)
    assert pipeline.run().rows_out == 5


@pytest.mark.process
def test_of_twenty_processes_that_run_one_id_at_once_exactly_one_does(bench: Bench) -> None:
    """M23: the others are told which."""
    bench.give(numbered(30))
    with job(bench, children=20) as process:
        (bench.folder / "start").touch()
        eventually(lambda: len(said(bench)) == 19, "nineteen are refused")
        winner = began(bench)
        refused = said(bench)
        assert winner not in refused
        for text in refused.values():
            assert text.startswith("PipelineBusyError: run 'a' in ")
        (bench.folder / "go").touch()
        assert process.wait(30) == 0
    assert said(bench)[winner] == "completed"
    assert [row["n"] for row in lines(bench.output)] == list(range(30))


@pytest.mark.process
def test_of_runs_in_different_folders_that_write_one_output_exactly_one_does(bench: Bench) -> None:
    """M23, M21: the stream itself is locked; nothing of it is overwritten."""
    bench.give(numbered(30))
    with job(bench, children=6, results="results_{}") as process:
        (bench.folder / "start").touch()
        eventually(lambda: len(said(bench)) == 5, "five are refused")
        for text in said(bench).values():
            assert text.split(":")[0] in {"StreamBusyError", "PipelineExistsError", "StreamExistsError"}, text
            assert str(bench.output) in text
        (bench.folder / "go").touch()
        assert process.wait(30) == 0
    assert sorted(said(bench).values())[-1] == "completed"
    assert [row["n"] for row in lines(bench.output)] == list(range(30))


@pytest.mark.process
def test_two_runs_that_were_created_for_one_output_do_not_both_write_it(bench: Bench) -> None:
    """M23: whoever comes second is refused, whether the first is running or has ended."""
    bench.give(numbered(30))
    second = here(bench, results_dir=bench.folder / "other").create("a")
    with job(bench) as process:
        began(bench)
        with pytest.raises(StreamBusyError, match=r"out\.jsonl is being written by another writer"):
            second.run()
        (bench.folder / "go").touch()
        assert process.wait(30) == 0
    assert [row["n"] for row in lines(bench.output)] == list(range(30))


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """M23: no file that is there or not takes the place of a lock: left by a dead process, it would stay."""
    bench.give(numbered(5))

    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    real: Callable[..., None] = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(DiskError, match="results/a/lock"):
        here(bench).create("a")
    monkeypatch.setattr(fcntl, "flock", real)
    assert here(bench).create("a").run().rows_out == 5
