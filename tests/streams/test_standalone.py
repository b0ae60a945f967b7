"""Streams by themselves: writers and readers without a pipeline (M16, M18)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import (
    ColumnError,
    ConfigError,
    DiskError,
    RowFormatError,
    StreamIdleError,
    StreamMissingError,
    StreamSealedError,
)
from llm_datagen.streams import CsvStream, FileStream, JsonlStream, MemoryStream, Stream, reader_writer
from llm_datagen.streams.storage.memory import MemoryStorage
from llm_datagen.testing import Fault, inject

from .storages import blocks_of, contents, grow, put, stream_of, stream_on

KINDS: dict[str, Callable[[Path], Stream]] = {
    "jsonl": lambda folder: JsonlStream(f"jsonl://{folder}/out.jsonl"),
    "csv": lambda folder: CsvStream(f"csv://{folder}/out.csv"),
    "file": lambda folder: FileStream(f"file://{folder}/out.ndjson"),
    "memory": lambda folder: MemoryStream(f"memory://{folder}"),
}


@pytest.fixture(params=KINDS)
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stream]:
    made = KINDS[request.param](tmp_path / "deep")
    yield made
    made.delete()


class FakeTime:
    """Time that moves only when somebody sleeps; `on_sleep` may do what others would do meanwhile."""

    def __init__(self, on_sleep: Callable[[], None] = lambda: None) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self._on_sleep = on_sleep

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        assert len(self.slept) < 1000, "waits for ever"
        self._on_sleep()


def read_all(stream: Stream, batch_size: int = 1, **options: Any) -> list[tuple[list[Any], list[Any]]]:
    return list(stream.get_reader(**options).read(batch_size))


def test_rows_come_back_in_batches_with_their_ids(stream: Stream) -> None:
    """M16, M14: every protocol; rows without an id get their number in the stream."""
    with stream.get_writer() as writer:
        writer.write([{"a": "x"}, {"a": "y"}])
        writer.write([])
        writer.write({"a": text} for text in "z")
    assert stream.is_sealed()
    rows = [{"_i": number, "a": text} for number, text in enumerate("xyz")]
    assert read_all(stream, 2) == [(rows[:2], [0, 1]), (rows[2:], [2])]
    assert read_all(stream) == [([row], [row["_i"]]) for row in rows]
    assert read_all(stream, 3) == read_all(stream, 10**6) == [(rows, [0, 1, 2])]


def test_batches_are_full_whatever_the_blocks_are(tmp_path: Path) -> None:
    """M16: a batch is short only at the end."""
    stream = JsonlStream(str(tmp_path / "out.jsonl"))
    with stream.get_writer() as writer:
        writer.write(range(50))
    for size in (1, 30, 100):
        for batch in (1, 7, 50, 2000):
            with blocks_of(size):
                batches = read_all(stream, batch)
            assert [row for rows, _ in batches for row in rows] == list(range(50))
            assert [len(rows) for rows, _ in batches[:-1]] == [batch] * (len(batches) - 1)


def test_rows_keep_the_ids_they_have(stream: Stream) -> None:
    """M14: numbers and text; and the row's number counts on over those that have one."""
    given = [{"_i": "0_1", "a": "p"}, {"a": "q", "_i": None}, {"_i": 77, "a": "r"}, {"a": "s"}]
    with stream.get_writer() as writer:
        writer.write(given)
    assert given[1] == {"a": "q", "_i": None}  # what the user gave is not changed
    assert [ids for _, ids in read_all(stream)] == [["0_1"], [1], [77], [3]]
    seal = stream.read_seal()
    assert seal is not None
    assert seal.ids == ("0_1", 3)


@pytest.mark.parametrize("kind", ["jsonl", "memory"])
def test_values_that_are_no_objects_come_back_as_they_were(kind: str, tmp_path: Path) -> None:
    """M15: stored as `data`, and an object that has a field `data` is not mistaken for one."""
    stream = KINDS[kind](tmp_path)
    values = [5, "x", None, [1, {"a": 2}], True, {"data": 7}, {"data": 7, "a": 1}, {}, {"_i": "k", "data": [0]}]
    with stream.get_writer() as writer:
        writer.write(values)
    ((rows, ids),) = read_all(stream, 20)
    assert rows[:5] == values[:5]
    assert rows[5:] == [{"data": 7, "_i": 5}, {"data": 7, "a": 1, "_i": 6}, {"_i": 7}, {"_i": "k", "data": [0]}]
    assert ids == [0, 1, 2, 3, 4, 5, 6, 7, "k"]
    assert b'{"_i":0,"data":5}\n' in contents(stream)


def test_bare_values_in_csv_come_back_as_text(tmp_path: Path) -> None:
    """M15, M19: the values of CSV are text."""
    stream = CsvStream(str(tmp_path / "out.csv"))
    with stream.get_writer() as writer:
        writer.write(["x,\n", 5])
    assert read_all(stream, 2) == [(["x,\n", "5"], [0, 1])]


@pytest.mark.parametrize("rows", [{"a": 1}, "text", b"bytes"])
def test_a_row_that_is_given_as_rows_is_an_error(rows: Any) -> None:
    """M16: it would be written as its keys or letters."""
    with stream_on(MemoryStorage()).get_writer() as writer, pytest.raises(TypeError, match=r"write\(\) takes rows"):
        writer.write(rows)


def test_of_rows_of_which_one_cannot_be_written_none_is(stream: Stream) -> None:
    """S3: write() is all or nothing, and the stream goes on."""
    writer = stream.get_writer()
    writer.write([{"a": "before"}])
    with pytest.raises((TypeError, ValueError)):
        writer.write([{"a": "fine"}, {"a": [object()]}])

    def rows() -> Iterator[Any]:
        yield {"a": "fine"}
        raise KeyError("the user's own")

    with pytest.raises(KeyError):
        writer.write(rows())
    writer.write([{"a": "after"}])
    writer.close()
    assert [(row["_i"], row["a"]) for rows, _ in read_all(stream) for row in rows] == [(0, "before"), (1, "after")]


def test_a_column_that_the_file_lacks_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    """M19: the header of the file decides, not the rows of this run."""
    stream = CsvStream(str(tmp_path / "out.csv"))
    with pytest.warns(ResourceWarning, match="unclosed file"):
        stream.get_writer().write([{"a": 1}])  # and the writer is forgotten, which frees the file
    writer = stream.get_writer()
    with pytest.raises(ColumnError, match="'b'"):
        writer.write([{"a": 1, "b": 2}])
    writer.write([{"_i": "x"}])
    writer.close()
    assert contents(stream) == b"a,_i\n1,0\n,x\n"


def test_a_writer_that_fails_leaves_an_unsealed_stream_that_is_continued(stream: Stream) -> None:
    """M17, S1: only success seals; what was written is there for the next writer."""

    def fail() -> None:
        with stream.get_writer() as writer:
            writer.write([{"a": "x"}])
            raise RuntimeError("the user's own")

    with pytest.raises(RuntimeError, match="the user's own"):
        fail()
    assert not stream.is_sealed()
    assert read_all(stream, 5, follow=False) == [([{"_i": 0, "a": "x"}], [0])]
    with stream.get_writer() as writer:
        writer.write([{"a": "y"}])
    assert read_all(stream, 5) == [([{"_i": 0, "a": "x"}, {"_i": 1, "a": "y"}], [0, 1])]


def test_a_writer_that_cannot_be_sealed_lets_go_of_its_file(tmp_path: Path) -> None:
    """F2, M16: after a write that failed, `close()` says so, and the next writer goes on with what was committed."""
    stream = JsonlStream(f"jsonl://{tmp_path / 'out.jsonl'}")
    with inject(Fault(operation="write", path="*/out.jsonl", hit=2, action="tear", keep=3, error="ENOSPC")):
        writer = JsonlStream(stream.uri).get_writer()
        writer.write([{"n": 0}])
        with pytest.raises(DiskError):
            writer.write([{"n": 1}])
        with pytest.raises(StreamSealedError, match="failed before; it cannot be sealed"):
            writer.close()
    assert not stream.is_sealed()
    with stream.get_writer() as again:
        again.write([{"n": 1}])
    assert [row["n"] for rows, _ in stream.get_reader().read() for row in rows] == [0, 1]


def test_a_seal_that_the_disk_refuses_lets_go_of_the_file(tmp_path: Path) -> None:
    """F2, S2: what was committed is sealed by the next try."""
    stream = JsonlStream(f"jsonl://{tmp_path / 'out.jsonl'}")
    with inject(Fault(operation="rename", path="*.done", action="raise", error="EIO")):
        writer = JsonlStream(stream.uri).get_writer()
        writer.write([{"n": 0}])
        with pytest.raises(DiskError):
            writer.close()
    stream.get_writer().close()
    assert stream.is_sealed()


def test_a_closed_writer_writes_no_more() -> None:
    """M17: a sealed stream has ended."""
    writer = stream_on(MemoryStorage()).get_writer()
    writer.close()
    with pytest.raises(StreamSealedError):
        writer.write([1])
    with pytest.raises(StreamSealedError):
        writer.close()


def test_rows_are_on_disk_when_write_returns(stream: Stream) -> None:
    """M16, S1: a reader beside it sees them at once, and no end."""
    writer = stream.get_writer()
    for number in range(3):
        writer.write([{"a": str(number)}])
        assert sum(len(rows) for rows, _ in read_all(stream, follow=False)) == number + 1
    writer.close()


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, None, True])
def test_a_batch_size_that_is_none_is_an_error(batch_size: Any) -> None:
    """M3: it names the parameter."""
    with pytest.raises(ConfigError, match="batch_size"):
        next(stream_of(b"1\n").get_reader().read(batch_size))


@pytest.mark.parametrize("wrong", [{"retry_interval": 0}, {"idle_timeout": -1}, {"idle_timeout": "1"}])
def test_a_wrong_time_is_an_error(wrong: Any) -> None:
    """M3: it names the parameter, at once."""
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must be a positive number of seconds"):
        stream_of(b"1\n").get_reader(**wrong)


def test_who_does_not_follow_takes_what_is_there_now(stream: Stream) -> None:
    """M16: committed rows of an unfinished stream, without waiting for its end; and nothing of a missing one."""
    with pytest.raises(StreamMissingError, match="does not exist"):
        read_all(stream, follow=False)
    writer = stream.get_writer()
    assert read_all(stream, follow=False) == []
    writer.write([{"a": "x"}])
    assert len(read_all(stream, follow=False)) == 1
    writer.close()


# Waiting.


@pytest.mark.integration
def test_a_waiting_reader_gets_rows_as_they_are_written_by_another_thread(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M17, M18: it waits for more until the seal; the file need not be there when it begins."""
    monkeypatch.setattr(reader_writer, "EOF_RETRY_SECONDS", 0.001)
    waiting, seen = threading.Event(), threading.Semaphore(0)

    def write() -> None:
        assert waiting.wait(10)
        with stream.get_writer() as writer:
            for number in range(3):
                writer.write([{"a": str(number)}])
                assert seen.acquire(timeout=10)

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write)
        found = []
        for rows, _ in stream.get_reader(retry_interval=0.001, on_retry=lambda _: waiting.set()).read():
            found += rows
            seen.release()
        written.result(10)
    assert [row["a"] for row in found] == ["0", "1", "2"]


def test_a_reader_looks_five_times_then_waits_at_its_own_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """M18: 0.1 s apart, each said; then every `retry_interval`; after a row it begins anew."""
    stream = stream_of(b"")
    time = FakeTime()
    said: list[int] = []

    def meanwhile() -> None:
        if len(time.slept) == 8:
            grow(stream, b"1\n")
        elif len(time.slept) == 11:
            stream.seal()

    time = FakeTime(meanwhile)
    monkeypatch.setattr(reader_writer, "time", time)
    assert read_all(stream, retry_interval=3.0, on_retry=said.append) == [([1], [0])]
    assert said == [1, 2, 3, 4, 5, 1, 2, 3]
    assert time.slept == [0.1] * 5 + [3.0] * 3 + [0.1] * 3


def test_a_reader_tells_when_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """M18: with `idle_timeout` it raises, and says what is missing."""
    time = FakeTime()
    monkeypatch.setattr(reader_writer, "time", time)
    with pytest.raises(StreamIdleError, match=r"out.jsonl gave nothing new for 2.\d s.*out.jsonl.done is missing"):
        read_all(stream_on(MemoryStorage()), idle_timeout=2.0, retry_interval=0.5)
    assert 2.0 <= time.now < 2.6


def test_a_half_written_line_is_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """M18: however long it grows, it is not a row; the retries are not counted anew for it."""
    stream = stream_of(b"1\n2")
    said: list[int] = []
    time = FakeTime(lambda: grow(stream, b"2"))
    monkeypatch.setattr(reader_writer, "time", time)
    found: list[Any] = []
    reading = stream.get_reader(idle_timeout=2.0, on_retry=said.append).read()
    with pytest.raises(StreamIdleError):
        found.extend(row for rows, _ in reading for row in rows)
    assert found == [1]
    assert said == [1, 2, 3, 4, 5]


def test_the_time_that_the_rows_are_worked_on_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """M18: idle_timeout is about the stream, not about its reader."""
    stream = stream_of(b"1\n2\n")
    time = FakeTime()
    monkeypatch.setattr(reader_writer, "time", time)
    reading = stream.get_reader(idle_timeout=5.0).read()
    found = []
    for _ in range(2):
        found += next(reading)[0]
        time.now += 100
    with pytest.raises(StreamIdleError):
        next(reading)
    assert found == [1, 2]
    assert 205 <= time.now < 206


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at the open files of this process")
def test_a_reader_that_is_left_lets_go_of_the_file(tmp_path: Path) -> None:
    """F2: no file is left open."""
    path = tmp_path / "in.jsonl"
    path.write_text("1\n2\n3\n")
    reading = JsonlStream(str(path)).get_reader(follow=False).read()
    assert next(reading) == ([1], [0])
    opened = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert path in opened
    reading.close()  # type: ignore[attr-defined]
    opened = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert path not in opened


# Memory.


def test_streams_in_memory_of_one_name_are_one_stream() -> None:
    """M16: until it is deleted."""
    first, second = MemoryStream("memory://one"), MemoryStream("memory://one")
    with first.get_writer() as writer:
        writer.write([1, {"a": 2}])
        assert second.rows() == [1, {"a": 2, "_i": 1}]
        assert not second.is_sealed()
    assert second.is_sealed()
    assert second.rows() == [1, {"a": 2, "_i": 1}]
    assert MemoryStream("memory://two").rows() == []
    second.delete()
    assert first.rows() == []
    assert not first.exists()


def test_a_stream_in_memory_may_be_made_of_rows() -> None:
    """M16: sealed after them; whatever it held before is gone."""
    stream = MemoryStream("memory://made", [1, 2])
    assert read_all(stream, 5) == [([1, 2], [0, 1])]
    assert MemoryStream("memory://made", []).rows() == []
    assert stream.is_sealed()
    stream.delete()


def test_an_error_in_memory_names_the_stream() -> None:
    """M24: as for files."""
    stream = MemoryStream("memory://bad")
    put(stream, b"1\n{\n")
    with pytest.raises(RowFormatError, match="bad, line 2"):
        stream.rows()
    stream.delete()
