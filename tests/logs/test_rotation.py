"""A log that threads and processes write, rotate and lose at once: no line is torn, lost or written twice (M28)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, LogFile, logs
from llm_datagen.runs.logs import rotation
from llm_datagen.runs.logs.writer import open_log
from llm_datagen.streams.storage import locks
from llm_datagen.streams.storage.locks import lock_path

from ..kit.support import PATIENCE_SECONDS, Bench, lines, numbered

WRITER = """
import sys, threading
from llm_datagen import LogFile
from llm_datagen.runs.logs import rotation
from llm_datagen.runs.logs.writer import open_log
rotation.TURN_SECONDS = 60  # on a busy machine, too, everybody gets a turn
path, name, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def write(thread):
    log = open_log(LogFile(path, max_bytes=size, backups=10_000) if size else path).bind(name=f"{name}-{thread}")
    for number in range(count):
        log.info("[Operator]", number=number, text="x" * (number * 37 % 900))
    log.close()
print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=write, args=(thread,)) for thread in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
PROCESSES, LINES, MAX_BYTES = 4, 150, 5_000


def files_of(path: Path) -> list[Path]:
    """Return the files of a log, the oldest first."""
    rotated = [found for found in path.parent.glob(f"{path.name}.*") if found.suffix[1:].isdecimal()]
    return [*sorted(rotated, key=lambda found: -int(found.suffix[1:])), path]


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("size", [MAX_BYTES, 0])
def test_processes_that_write_and_rotate_at_once_lose_and_tear_no_line(tmp_path: Path, size: int) -> None:
    """M28: several processes, one log; each has two threads that opened it by themselves."""
    path = tmp_path / "logs" / "platform.log"
    given = [str(LINES), str(size)]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), f"process-{number}", *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        while any(writer.poll() is None for writer in writers):  # who reads meanwhile gets no line twice
            seen = Counter((event.fields["name"], event.fields["number"]) for event in read_if_any(path))
            assert max(seen.values(), default=1) == 1
        assert [writer.wait(PATIENCE_SECONDS) for writer in writers] == [0] * PROCESSES
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    # Who opens the file in the middle of another's write takes that for a torn line, and ends it: a blank one is left.
    written = [json.loads(line) for file in files_of(path) for line in file.read_bytes().splitlines() if line]
    found = Counter((line["name"], line["number"]) for line in written)
    names = [f"process-{number}-{thread}" for number in range(PROCESSES) for thread in range(2)]
    assert found == Counter((name, number) for name in names for number in range(LINES))
    assert (len(files_of(path)) > 50) == bool(size)
    assert not size or all(file.stat().st_size <= size for file in files_of(path))
    in_order: dict[str, list[int]] = {}
    for event in logs.read(path):
        in_order.setdefault(event.fields["name"], []).append(event.fields["number"])
    assert all(numbers == sorted(numbers) for numbers in in_order.values())


def read_if_any(path: Path) -> list[logs.LogEvent]:
    return list(logs.read(path)) if path.exists() else []


def test_what_is_older_than_the_backups_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "platform.log"
    log = open_log(LogFile(path, max_bytes=200, backups=2))
    for number in range(20):
        log.info("[Operator]", number=number, text="x" * 60)
    log.close()
    assert [file.name for file in files_of(path)] == ["platform.log.2", "platform.log.1", "platform.log"]
    kept = [event.fields["number"] for event in logs.read(path)]
    assert kept == list(range(20))[-len(kept) :]
    assert 3 <= len(kept) < 20


def test_a_line_that_is_longer_than_the_file_may_be_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "platform.log"
    log = open_log(LogFile(path, max_bytes=100))
    for number in range(3):
        log.info("[Operator]", number=number, text="x" * 500)
    log.close()
    assert [line["number"] for file in files_of(path) for line in lines(file)] == [0, 1, 2]


def test_who_does_not_get_the_lock_writes_without_rotating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped with the lock must not stop all others."""
    monkeypatch.setattr(rotation, "TURN_SECONDS", 0.01)
    path = tmp_path / "platform.log"
    log = open_log(LogFile(path, max_bytes=100))
    with lock_path(f"{path}.lock"):
        thread = threading.Thread(target=lambda: [log.info("[Operator]", number=number) for number in range(5)])
        thread.start()
        thread.join(PATIENCE_SECONDS)
    assert [line["number"] for line in lines(path)] == list(range(5))
    log.info("[Operator]", number=5)
    log.close()
    assert [len(lines(file)) for file in files_of(path)] == [5, 1]


@pytest.mark.parametrize("is_removed", [True, False])
def test_a_log_that_was_moved_away_is_begun_anew(tmp_path: Path, is_removed: bool) -> None:
    """Such as by logrotate; also without a bound of ours."""
    path = tmp_path / "platform.log"
    log = open_log(path)
    log.info("[Operator]", number=1)
    if is_removed:
        path.unlink()
    else:
        path.rename(tmp_path / "elsewhere")
        path.touch()
    log.info("[Operator]", number=2)
    log.close()
    assert [line["number"] for line in lines(path)] == [2]


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    """A process that was killed, or a disk that was full, has left a part of a line."""
    path = tmp_path / "platform.log"
    path.write_text('{"event": "[Operator]", "text": "torn by')
    log = open_log(path)
    log.info("[Operator]", number=1)
    log.close()
    torn: list[bytes] = []
    (event,) = logs.read(path, on_unreadable=torn.append)
    assert event.fields == {"number": 1}
    assert torn == [b'{"event": "[Operator]", "text": "torn by\n']


def test_who_opens_a_log_in_the_middle_of_a_write_leaves_no_blank_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M28: half a line of one who has the lock is no torn line."""
    monkeypatch.setattr(rotation, "TURN_SECONDS", PATIENCE_SECONDS)
    path = tmp_path / "platform.log"
    came, wait_for_lock = threading.Event(), locks.wait_for_lock

    def wait(*args: Any, **kwargs: Any) -> Any:
        came.set()
        return wait_for_lock(*args, **kwargs)

    def write() -> None:
        log = open_log(LogFile(path, max_bytes=10_000))
        came.set()
        log.info("[Operator]", number=1)
        log.close()

    monkeypatch.setattr(rotation, "wait_for_lock", wait)
    thread = threading.Thread(target=write)
    with lock_path(f"{path}.lock"), path.open("wb", buffering=0) as file:
        file.write(b'{"number":')
        thread.start()
        assert came.wait(PATIENCE_SECONDS)
        file.write(b" 0}\n")
    thread.join(PATIENCE_SECONDS)
    assert [line["number"] for line in lines(path)] == [0, 1]


def test_a_disk_that_is_full_tears_at_most_the_line_that_did_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "platform.log"
    log = open_log(path)
    write, room = os.write, [30]

    def short(fd: int, data: bytes) -> int:
        return write(fd, data[: room.pop()] if room else data)

    monkeypatch.setattr(os, "write", short)
    log.info("[Operator]", number=1)
    log.info("[Operator]", number=2)
    log.close()
    assert [event.fields["number"] for event in logs.read(path)] == [2]


def test_a_run_keeps_its_log_within_the_bound(bench: Bench) -> None:
    def work(item: Any, ctx: Any) -> Any:
        ctx.log("x" * 500)
        return item

    bench.give(numbered(100))
    bench.pipeline([work], parallel_size=4, log_file=LogFile(bench.log, max_bytes=10_000, backups=20)).create("a").run()
    files = files_of(bench.log)
    assert len(files) > 5
    assert all(file.stat().st_size <= 10_000 for file in files)
    assert sum(event.event == "[Operator]" for event in logs.read(bench.log)) == 100
    assert json.loads((bench.results / "a" / "runtime.json").read_bytes())["log_file"] == str(bench.log)


@pytest.mark.parametrize("bounds", [{"max_bytes": 0}, {"max_bytes": 1.5}, {"max_bytes": 100, "backups": 0}])
def test_bounds_that_are_none_are_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="of a LogFile must be a whole number of at least 1"):
        LogFile("platform.log", **bounds)
