"""Spill files: records wait in memory or in a file without a name, and are all there in any case (M29)."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.errors import DatagenError
from llm_datagen.streams import spill as spill_module
from llm_datagen.streams.spill import Spill, SpillError

from ..kit.programs import Program
from ..kit.support import PATIENCE_SECONDS

SMALL = 40
"""Bytes in memory, at most, in most of these tests."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_module, "SPILL_BYTES", SMALL)


@contextlib.contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """Let the operating system refuse what would make a file larger; it does so in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def spill_in(folder: Path | None) -> Iterator[Spill]:
    """Make a spill file, and close it."""
    with contextlib.closing(Spill(None if folder is None else str(folder))) as spill:
        yield spill


def numbered(begin: int, end: int) -> list[bytes]:
    """Return records of different lengths."""
    return [b"x" * (n % 5) + b"%d" % n for n in range(begin, end)]


def lines(records: list[bytes]) -> bytes:
    """Return what is read of records."""
    return b"".join(record + b"\n" for record in records)


@pytest.mark.usefixtures("small")
def test_what_is_much_goes_to_a_file_and_comes_back_in_order(tmp_path: Path) -> None:
    """M29: memory is bounded; what is asked for is whole."""
    with spill_in(tmp_path) as spill:
        for begin in range(0, 100, 4):
            spill.append(numbered(begin, begin + 4), may_file=True)
            assert spill.held < SMALL
            assert spill.rows == begin + 4
            assert len(spill) == len(lines(numbered(0, begin + 4)))
        assert spill.is_filed
        assert b"".join(spill) == lines(numbered(0, 100))
        assert b"".join(spill) == lines(numbered(0, 100)), "it can be read again"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("folder", [True, False])
def test_what_must_not_be_filed_or_cannot_be_is_held(tmp_path: Path, folder: bool) -> None:
    """M29: streams in memory have no folder; the rows of a cheap task are few."""
    with spill_in(tmp_path if folder else None) as spill:
        for begin in range(0, 100, 4):
            spill.append(numbered(begin, begin + 4), may_file=not folder)
        assert not spill.is_filed
        assert spill.held == len(spill) == len(lines(numbered(0, 100)))
        assert spill.read_all() == b"".join(spill) == lines(numbered(0, 100))


def test_an_empty_spill_is_nothing() -> None:
    with spill_in(None) as spill:
        spill.append([], may_file=True)
        spill.truncate(0)
        assert (spill.rows, len(spill), spill.read_all(), b"".join(spill)) == (0, 0, b"", b"")


@pytest.mark.usefixtures("small")
def test_it_can_be_cut_at_every_boundary(tmp_path: Path) -> None:
    """R2: rows of a call that failed half-way, some in the file, some in memory; and then it goes on."""
    pieces = [(0, 7), (7, 8), (8, 8), (8, 20), (20, 22), (22, 25)]
    for kept in range(26):
        with spill_in(tmp_path) as spill:
            for begin, end in pieces:
                spill.append(numbered(begin, end), may_file=True)
            assert spill.is_filed
            assert spill.held, "else nothing in memory is cut"
            spill.truncate(kept)
            wanted = numbered(0, kept)
            assert (spill.rows, len(spill)) == (kept, len(lines(wanted)))
            assert b"".join(spill) == lines(wanted)
            spill.append(numbered(50, 70), may_file=True)
            assert b"".join(spill) == lines(wanted + numbered(50, 70))


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.integers(0, 40)), max_size=12))
@settings(max_examples=60, deadline=None)
def test_it_is_a_list_of_records_whatever_is_done(steps: list[tuple[int, bool, int]]) -> None:
    """R2, M29: added to and cut in any order, filed or not."""
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr(spill_module, "SPILL_BYTES", SMALL)
        spill, model = stack.enter_context(spill_in(Path(tempfile.gettempdir()))), list[bytes]()
        for count, may_file, cut_to in steps:
            model += numbered(len(model), len(model) + count)
            spill.append(model[len(model) - count :], may_file=may_file)
            if cut_to < len(model):
                del model[cut_to:]
            spill.truncate(cut_to)
            assert (spill.rows, b"".join(spill)) == (len(model), lines(model))
            assert len(spill) == len(lines(model))


@pytest.mark.usefixtures("small")
def test_a_disk_that_fails_is_said_and_loses_nothing_that_was_there_before(tmp_path: Path) -> None:
    """M24, R2: half of it may be in the file; what was before the failing call can be gone back to, and filed again."""
    with spill_in(tmp_path) as spill:
        spill.append(numbered(0, 20), may_file=True)
        assert spill.is_filed
        with files_at_most(len(spill) + 10), pytest.raises(SpillError) as raised:
            spill.append(numbered(20, 60), may_file=True)
        assert isinstance(raised.value, DatagenError)
        assert raised.value.errno == errno.EFBIG
        assert str(tmp_path) in str(raised.value)
        spill.truncate(20)
        spill.append(numbered(20, 60), may_file=True)
        assert b"".join(spill) == lines(numbered(0, 60))


@pytest.mark.usefixtures("small")
def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    """M24: the error names it."""
    with spill_in(tmp_path / "gone") as spill, pytest.raises(SpillError, match="gone"):
        spill.append(numbered(0, 60), may_file=True)


@pytest.mark.usefixtures("small")
def test_a_file_that_somebody_has_cut_is_an_error_when_it_is_read(tmp_path: Path) -> None:
    """S3: fewer bytes than were written must never be taken for all."""
    with spill_in(tmp_path) as spill:
        spill.append(numbered(0, 60), may_file=True)
        (fd,) = deleted_files_of(os.getpid(), tmp_path)
        os.truncate(fd, 10)
        with pytest.raises(SpillError, match="shorter"):
            list(spill)


def deleted_files_of(pid: int, folder: Path) -> list[str]:
    """Return the files without a name, in a folder, that a process has open."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            if target.startswith(str(folder)) and target.endswith("(deleted)"):
                found.append(str(link))
    return found


CHILD = """
import sys
from llm_datagen.streams.spill import Spill

spill = Spill(sys.argv[1])
for _ in range(20):
    spill.append([b"x" * 1000] * 1000, may_file=True)
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_file_has_no_name_and_goes_with_its_process(tmp_path: Path) -> None:
    """M29, F2: kill -9 leaves nothing behind."""
    child = Program(["-c", CHILD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == "ready\n"
        (file,) = deleted_files_of(child.pid, tmp_path)
        assert Path(file).stat().st_size > 10_000_000
        assert list(tmp_path.iterdir()) == []
        child.send_signal(signal.SIGKILL)
        assert child.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []
