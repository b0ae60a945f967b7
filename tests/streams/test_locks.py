"""Locks (M23): the kernel's, never inherited by a forked child, and a busy one says who has it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llm_datagen import JsonlStream, PipelineBusyError, StreamBusyError
from llm_datagen.runs import RunFolder
from llm_datagen.streams.storage.locks import lock_path, wait_for_lock

from ..kit.support import eventually

FORKED_MEANWHILE = """
import os, sys, threading
from llm_datagen.streams.storage.locks import lock_path

path, children, over = sys.argv[1], [], threading.Event()

def fork():
    while len(children) < 150:
        pid = os.fork()
        if pid == 0:
            names = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
            os._exit(3 if path in names else 0)
        children.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    over.set()

thread = threading.Thread(target=fork)
thread.start()
while not over.is_set():
    lock_path(path).release()
thread.join()
sys.exit(max(children))
"""


@contextmanager
def child_of_a_c_library(path: Path) -> Iterator[int]:
    """Fork as a C library does, without Python's hooks; the child has the lock of the file."""
    told, tell = os.pipe()
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        file = path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        os.write(tell, b"x")
        signal.pause()
        os._exit(0)
    os.read(told, 1)
    os.close(told)
    os.close(tell)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_lock_has_one_holder_until_it_is_released(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    held = lock_path(path)
    with pytest.raises(BlockingIOError):
        lock_path(path)
    assert wait_for_lock(path, 0) is None
    held.release()
    held.release()
    with lock_path(path):
        assert wait_for_lock(path, 0) is None


def test_a_lock_whose_file_was_removed_meanwhile_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who locks the removed file would be alone with it: the one that is there now is locked."""
    path = tmp_path / "lock"
    real = fcntl.flock

    def removed_first(*args: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        path.unlink()
        real(*args)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with lock_path(str(path)), pytest.raises(BlockingIOError):
        lock_path(str(path))


@pytest.mark.process
def test_a_forked_child_has_no_part_in_a_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    held, (told, tell) = lock_path(path), os.pipe()
    go, let = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(tell, b"busy" if wait_for_lock(path, 0) is None else b"free")
            os.close(let)
            os.read(go, 1)
        finally:
            os._exit(0)
    assert os.read(told, 4) == b"busy"  # the parent has it still
    held.release()
    with lock_path(path):  # while the child lives
        os.write(let, b"x")
        os.waitpid(pid, 0)
    for number in (told, tell, go, let):
        os.close(number)


@pytest.mark.skipif(sys.platform != "linux", reason="forks without Python's hooks")
def test_a_lock_that_is_released_is_free_though_a_child_of_a_c_library_has_its_file(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    held = lock_path(path)
    with child_of_a_c_library(tmp_path / "other"):
        held.release()
        lock_path(path).release()


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_child_is_forked_while_a_lock_is_taken_or_released(tmp_path: Path) -> None:
    """It would have the file, and the lock, that nobody closes in it: opened, not known yet; or closed by name only."""
    path = os.path.realpath(tmp_path / "lock")
    done = subprocess.run([sys.executable, "-c", FORKED_MEANWHILE, path], timeout=60, check=False)
    assert done.returncode == 0


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="who has a lock is known on Linux")
def test_a_busy_lock_names_who_has_it(tmp_path: Path) -> None:
    """Also where nobody wrote it down, and where who did is gone."""
    stream = JsonlStream(f"jsonl://{tmp_path}/out.jsonl")
    with stream.get_writer(), pytest.raises(StreamBusyError, match="by another writer, this process; wait"):
        stream.get_writer()
    folder = RunFolder(tmp_path, "a")
    folder.lock.acquire()
    folder.lock.release()
    with child_of_a_c_library(folder.path / "lock") as pid:
        name = rf"process {pid} \(.*python.*\)"
        with pytest.raises(PipelineBusyError, match=rf"is being run by {name}; wait"):
            RunFolder(tmp_path, "a").lock.acquire()
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        (folder.path / "owner.json").write_text(
            f'{{"host": "{os.uname().nodename}", "pid": {gone.pid}, "since": "2026-01-01T00:00:00"}}'
        )
        with pytest.raises(PipelineBusyError, match=rf"by {name}, left by process {gone.pid} on .*; wait"):
            RunFolder(tmp_path, "a").lock.acquire()
    eventually(lambda: not RunFolder(tmp_path, "a").lock.is_held(), "the child is gone")
    folder.lock.acquire()
    folder.lock.release()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="This file system has no locks") as refused:
        lock_path(str(tmp_path / "lock"))
    assert refused.value.errno == errno.ENOLCK
