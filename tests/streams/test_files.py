"""Streams on the files of this machine: other processes, kills, and reading beside a writer."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from llm_datagen.errors import StreamBusyError
from llm_datagen.streams import JsonlStream, Span, Stream, commit_log
from llm_datagen.streams.storage.local import LocalStorage
from llm_datagen.streams.storage.memory import MemoryStorage

from ..kit.programs import Program
from .storages import drain, stream_on, values_now

CHILD = """
import sys
from llm_datagen.streams import JsonlStream, Span, commit_log
commit_log.COMPACT_BYTES = 2000
sink = JsonlStream(sys.argv[1]).sink(source="s")
row = sink.position.coverage.end()[0]
while True:
    data = b"".join(b'{"_i":%d}\\n' % at for at in range(row, row + 3))
    sink.append(data, rows=3, spans=[Span(row, row + 3, row, row + 3)])
    row += 3
    print(row, flush=True)
"""


@pytest.mark.process
def test_a_killed_process_leaves_a_stream_that_the_next_one_continues(tmp_path: Path) -> None:
    """M21, M23: kill -9 at any instant; while it lives nobody else may write, and readers see whole commits."""
    stream = JsonlStream(str(tmp_path / "out.jsonl"))
    acknowledged = 0
    for least in (1, 40, 7):
        with Program(["-c", CHILD, stream.path], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(least):
                acknowledged = int(child.stdout.readline())
            with pytest.raises(StreamBusyError, match=r"out.jsonl is being written by another writer"):
                stream.sink(source="s")
            seen = values_now(stream)
            assert seen == [{"_i": row} for row in range(len(seen))]
            assert len(seen) % 3 == 0
            assert len(seen) >= acknowledged
            child.send_signal(signal.SIGKILL)
            for line in child.stdout:  # said before it was killed, so committed
                acknowledged = int(line) if line.endswith("\n") else acknowledged
        sink = stream.sink(source="s")
        assert sink.position.rows == sink.position.coverage.rows >= acknowledged
        assert sink.position.coverage.holes == 0
        sink.close()
        assert values_now(stream) == [{"_i": row} for row in range(sink.position.rows)]
    stream.seal()
    stream.verify()


@pytest.mark.integration
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_a_reader_beside_a_writer_sees_every_row_once(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1: while flushes are written, the log is compacted, and the stream is sealed."""
    monkeypatch.setattr(commit_log, "COMPACT_BYTES", 300)
    stream: Stream = JsonlStream(str(tmp_path / "out.jsonl")) if where == "disk" else stream_on(MemoryStorage())
    flushes = 400
    failures: list[BaseException] = []
    progress = threading.Semaphore(0)

    def write() -> None:
        try:
            sink = stream.sink()
            for number in range(flushes):
                sink.append(b"%d\n" % number * 2, rows=2, spans=[Span(number, number + 1, number, number + 1)])
                progress.release()
            sink.seal()
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)
        finally:
            progress.release()

    reader = stream.cursor()
    thread = threading.Thread(target=write)
    thread.start()
    found: list[tuple[int, int]] = []
    while not reader.ended() and not failures:
        new = drain(reader)
        assert len(new) % 2 == 0  # whole flushes
        found += new
        if not new and not reader.ended():
            progress.acquire(timeout=10)
    thread.join(10)
    reader.close()
    assert not failures
    assert found == [(at, at // 2) for at in range(2 * flushes)]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1: the old one stays until the new one is complete."""
    storage, path = LocalStorage(), str(tmp_path / "deep" / "file")
    storage.replace(path, b"old", sync=True)

    def fail(fd: int, data: bytes) -> int:
        os.write = real
        real(fd, data[:1])
        raise OSError("no space left on the device")

    real = os.write
    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(OSError, match="no space"):
        storage.replace(path, b"new", sync=False)
    assert storage.read_all(path) == b"old"
    storage.replace(path, b"new", sync=False)
    assert storage.read_all(path) == b"new"
    assert [entry.name for entry in Path(path).parent.iterdir()] == ["file"]


def test_writes_that_the_system_takes_in_pieces_are_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1: write(2) may take less than it was given."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:3])))
    stream = JsonlStream(str(tmp_path / "out.jsonl"))
    with stream.get_writer() as writer:
        writer.write(range(20))
    assert [row["data"] for row in values_now(stream)] == list(range(20))


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_the_two_storages_do_the_same(where: str, tmp_path: Path) -> None:
    """M16: what is tried in memory holds on files."""
    storage = LocalStorage() if where == "disk" else MemoryStorage()
    path = str(tmp_path / "a" / "file")
    assert storage.size(path) is None
    assert storage.read_all(path) is None
    storage.remove(path)
    with pytest.raises(FileNotFoundError):
        storage.open_read(path)
    file = storage.open_append(path)
    assert storage.size(path) == 0
    file.append(b"abcdef")
    file.truncate(4)
    file.append(b"XY")
    file.sync()
    with pytest.raises(StreamBusyError):
        storage.open_append(path)
    reader = storage.open_read(path)
    assert (reader.size(), storage.size(path)) == (6, 6)
    assert (reader.read_at(2, 3), reader.read_at(4, 100), reader.read_at(6, 1)) == (b"cdX", b"XY", b"")
    file.append(b"!")
    assert reader.read_at(6, 5) == b"!"
    reader.close()
    reader.close()
    file.close()
    file.close()
    storage.open_append(path).close()
    storage.replace(path, b"new", sync=True)
    assert storage.read_all(path) == b"new"
    storage.remove(path)
    assert storage.size(path) is None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at the open files of this process")
def test_a_lock_that_the_system_does_not_know_is_an_error_and_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M23, F2: on some network drives there are no locks."""

    def flock(fd: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", flock)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="This file system has no locks"):
        JsonlStream(str(tmp_path / "out.jsonl")).sink()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("plant", ["symbolic link", "hard link", "what a dead process left"])
@pytest.mark.parametrize("what", ["seal", "move"])
def test_what_lies_in_the_place_of_a_temporary_file_is_not_written_to(
    tmp_path: Path, plant: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """13.20: a link that is planted there leads nowhere."""
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    stream = JsonlStream(str(tmp_path / "out.jsonl"))
    path = Path(stream.done_path if what == "seal" else tmp_path / "there")
    temporary = Path(f"{path}.tmp")
    if plant == "symbolic link":
        temporary.symlink_to(kept)
    elif plant == "hard link":
        temporary.hardlink_to(kept)
    else:
        temporary.write_text("x" * 10_000)
    if what == "seal":
        with stream.get_writer() as writer:
            writer.write([{"a": 1}])
        assert stream.is_sealed()
        assert values_now(stream) == [{"a": 1, "_i": 0}]
    else:
        source = tmp_path / "source"
        source.write_text("moved")
        storage = LocalStorage()
        rename = storage.rename

        def other_medium(old: str, new: str) -> None:
            if old == str(source):
                raise OSError(errno.EXDEV, "another medium", old)
            rename(old, new)

        monkeypatch.setattr(storage, "rename", other_medium)
        storage.move(str(source), str(path))
        assert path.read_text() == "moved"
    assert kept.read_text() == "mine"
    assert not path.is_symlink()
    assert not temporary.exists()
