"""Seals: what `.done` says, how it is taken away, and in which order things reach the medium."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import orjson
import pytest

from llm_datagen.errors import (
    ConfigError,
    StreamBusyError,
    StreamChangedError,
    StreamCorruptError,
    StreamExistsError,
    StreamMissingError,
)
from llm_datagen.streams import JsonlStream, Seal, Span, Stream
from llm_datagen.streams.storage.memory import MemoryStorage

from .storages import CrashStorage, RecordingStorage, contents, put, read_now, stream_of, stream_on, values_now


def written(rows: list[Any]) -> Stream:
    stream = stream_on(MemoryStorage())
    with stream.get_writer() as writer:
        writer.write(rows)
    return stream


def test_a_seal_says_what_the_stream_is() -> None:
    """M17, C1: counts, size, ids, coverage; the commit log is gone."""
    stream = stream_on(MemoryStorage())
    sink = stream.sink(source="jsonl://in.jsonl")
    sink.append(b"1\n2\n", rows=2, spans=[Span(0, 3, 0, 30)], filtered=1, ids=("0_1", 2), marks={"m": [1]})
    seal = sink.seal()
    assert seal == stream.read_seal()
    assert seal.sealed_at
    assert (seal.rows, seal.size, seal.filtered, seal.ids) == (2, 4, 1, ("0_1", 2))
    assert (seal.source, seal.cover, seal.marks) == ("jsonl://in.jsonl", (Span(0, 3, 0, 30),), {"m": [1]})
    assert seal.complete
    assert stream.storage.read_all(stream.commits_path) is None
    assert orjson.loads(stream.storage.read_all(stream.done_path) or b"")["rows"] == 2


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"done", b"[]", b"{}", b"1", b'{"format":1}', b'{"format":2,"size":1}', b'{"format":1,"cover":5}'],
)
def test_a_seal_that_another_program_made_counts(text: bytes) -> None:
    """M17: whatever it holds."""
    stream = stream_of(b"1\n2")
    stream.storage.replace(stream.done_path, text, sync=False)
    assert stream.is_sealed()
    assert stream.read_seal() is None
    assert list(stream.get_reader().read(9)) == [([1, 2], [0, 1])]
    stream.unseal()
    assert not stream.is_sealed()
    with pytest.raises(StreamExistsError):
        stream.sink()


def test_a_file_of_another_program_can_be_sealed() -> None:
    """M17: seal() is public; what is sealed is what is there."""
    stream = stream_of(b"1\n2")
    stream.seal()
    stream.seal()
    assert list(stream.get_reader().read(9)) == [([1, 2], [0, 1])]
    seal = stream.read_seal()
    assert seal is not None
    assert not seal.complete
    assert seal.rows is None
    stream.verify()
    stream.unseal()
    stream.unseal()
    assert stream.storage.size(stream.commits_path) is None


def test_what_does_not_exist_cannot_be_sealed() -> None:
    """M22: the error names the file."""
    with pytest.raises(StreamMissingError, match=r"out.jsonl does not exist, so it cannot be sealed"):
        stream_on(MemoryStorage()).seal()


def test_an_unfinished_stream_sealed_by_hand_ends_with_its_last_commit() -> None:
    """M17, S1: its torn tail is no part of it, and it stays readable; nor does it count as complete."""
    stream = stream_on(MemoryStorage())
    writer = stream.get_writer()
    writer.write([1, 2])
    with pytest.raises(StreamBusyError):
        stream.seal()
    writer._sink.close()
    put(stream, contents(stream) + b'{"_i":2,"da')
    stream.seal()
    assert list(stream.get_reader().read(9)) == [([1, 2], [0, 1])]
    seal = stream.read_seal()
    assert seal is not None
    assert (seal.rows, seal.complete) == (2, False)


def test_an_unfinished_stream_that_was_changed_is_not_sealed_by_hand() -> None:
    """S3: a seal vouches for what is there."""
    stream = stream_on(MemoryStorage())
    writer = stream.get_writer()
    writer.write([1, 2])
    writer._sink.close()
    put(stream, contents(stream).replace(b"1", b"7"))
    with pytest.raises(StreamCorruptError):
        stream.seal()
    assert not stream.is_sealed()


def test_an_unsealed_stream_is_continued_where_it_ended() -> None:
    """M17, M16: counts, ids, coverage and marks go on."""
    stream = written(["a"])
    for number in range(3):
        stream.unseal()
        assert [row["data"] for _, row in read_now(stream, follow=True)] == ["a", *range(number)]
        with stream.get_writer() as writer:
            writer.write([number])
    assert list(stream.get_reader().read(9)) == [(["a", 0, 1, 2], [0, 1, 2, 3])]
    seal = stream.read_seal()
    assert seal is not None
    assert (seal.rows, seal.ids) == (4, (0, 3))
    stream.verify()


@pytest.mark.parametrize("at", range(4))
def test_unsealing_and_sealing_may_be_interrupted_anywhere(at: int) -> None:
    """M21: with both a seal and a log, the stream is sealed; the next unseal takes it up."""
    stream = written(["a"])
    storage = CrashStorage(at, stream.storage if isinstance(stream.storage, MemoryStorage) else None)
    crashing = stream_on(storage)
    try:
        crashing.unseal()
        crashing.get_writer().close()
    except OSError:
        pass
    survivor = stream_on(storage.survivor())
    survivor.unseal()
    with survivor.get_writer() as writer:
        writer.write(["b"])
    assert [row["data"] for row in values_now(survivor)] == ["a", "b"]


@pytest.mark.parametrize("now", [b"", b'{"_i":0}\n', b'{"_i":0,"data":"a"}\n{"mine":1}\n'])
def test_a_stream_changed_after_its_seal_is_nobodys_once_it_is_unsealed(now: bytes) -> None:
    """M22: what a user added is neither cut off nor hidden, and what was removed is not waited for."""
    stream = written(["a"])
    put(stream, now)
    with pytest.raises(StreamChangedError, match=r"unseal\(\) it"):
        stream.readable()
    stream.unseal()
    assert len(values_now(stream)) == now.count(b"\n")
    if now:
        with pytest.raises(StreamExistsError):
            stream.sink()
    assert contents(stream) == now


def test_a_stream_edited_after_its_seal_is_found_out() -> None:
    """M22: of the same size: by verify(), and by whoever continues it."""
    stream = written(["a", "b"])
    stream.verify()
    put(stream, contents(stream).replace(b'"a"', b'"A"'))
    with pytest.raises(StreamCorruptError, match=r"out.jsonl, bytes 0 to \d+: the checksum"):
        stream.verify()
    stream.unseal()
    with pytest.raises(StreamCorruptError):
        stream.sink()


def test_verify_asks_nothing_of_what_nobody_accounts_for() -> None:
    """M22: there is nothing to compare it with."""
    stream_of(b"1\n").verify()
    stream_on(MemoryStorage()).verify()
    stream = written([1])
    stream.storage.remove(stream.path)
    with pytest.raises(StreamMissingError):
        stream.verify()


def test_an_empty_stream_can_be_sealed_and_continued() -> None:
    """S2: a source without rows gives a stream without rows, also in CSV."""
    for kind in ("jsonl", "csv"):
        stream = stream_on(MemoryStorage(), kind)
        stream.get_writer().close()
        assert contents(stream) == b""
        assert list(stream.get_reader().read()) == []
        stream.unseal()
        with stream.get_writer() as writer:
            writer.write([{"a": "x"}])
        assert values_now(stream)[0]["a"] == "x"


def test_a_seal_survives_being_written_and_read() -> None:
    """M17: the seal is JSON that comes back whole."""
    seal = Seal(size=5, rows=1, crc=2, cover=(Span(0, 1, 2, 3),), ids=("a", 5), marks={"x": None}, complete=True)
    assert Seal.parse(seal.dump()) == seal
    assert Seal.parse(seal.dump()[:-3]) is None


# The order of things.


class LateStorage(RecordingStorage):
    """A storage on which somebody tries to take the stream at the moment it is sealed."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0

    def replace(self, path: str, data: bytes, *, sync: bool) -> None:
        if path.endswith(".done"):
            with pytest.raises(StreamBusyError):
                stream_on(self).sink()
            self.refused += 1
        super().replace(path, data, sync=sync)


def test_nobody_else_gets_the_stream_between_its_last_row_and_its_seal() -> None:
    """M17, M23: else two writers would end it."""
    storage = LateStorage()
    with stream_on(storage).get_writer() as writer:
        writer.write([1])
    assert storage.refused == 1


EXPECTED: dict[str, list[str]] = {
    "never": [
        "replace log", "append data", "append log", "append data", "append log",
        "replace seal", "remove log", "remove dispatch log",
    ],
    "close": [
        "replace log", "append data", "append log", "append data", "append log",
        "sync data", "replace+sync seal", "remove log", "remove dispatch log",
    ],
    "flush": [
        "replace+sync log", "append data", "sync data", "append log", "sync log",
        "append data", "sync data", "append log", "sync log", "sync data", "replace+sync seal",
        "remove log", "remove dispatch log",
    ],
}  # fmt: skip


@pytest.mark.parametrize("fsync", ["never", "close", "flush"])
def test_data_reaches_the_medium_before_its_commit_and_the_commit_before_the_seal(
    fsync: Literal["never", "close", "flush"],
) -> None:
    """M20, S2: data → (fsync) → record → `.done`."""
    storage = RecordingStorage()
    writer = stream_on(storage).get_writer(fsync=fsync)
    writer.write([1])
    writer.write([2])
    writer.close()
    names = {
        "out.jsonl": "data",
        "out.jsonl.commits": "log",
        "out.jsonl.done": "seal",
        "out.jsonl.dispatched": "dispatch log",
    }
    done = [f"{what} {names[path]}" for what, path in storage.done if what != "close"]
    assert done == EXPECTED[fsync]


def test_a_wrong_fsync_is_an_error_before_anything_is_touched() -> None:
    """M3, M20: it names the setting and the choices."""
    stream = stream_on(MemoryStorage())
    wrong: Any = "always"
    with pytest.raises(ConfigError, match="fsync must be one of 'never', 'close', 'flush', not 'always'"):
        stream.get_writer(fsync=wrong)
    assert not stream.exists()


def test_a_commit_without_rows_syncs_no_data() -> None:
    """M20: but its record is put on the medium."""
    storage = RecordingStorage()
    sink = stream_on(storage).sink(fsync="flush")
    storage.done.clear()
    sink.append(b"", rows=0, spans=[Span(0, 1, 0, 5)], filtered=1)
    assert storage.done == [("append", "out.jsonl.commits"), ("sync", "out.jsonl.commits")]
    sink.close()


def test_a_compacted_log_is_put_on_the_medium_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """M20: a commit survives the loss of power with fsync="flush", whichever way it is written."""
    monkeypatch.setattr("llm_datagen.streams.commit_log.COMPACT_BYTES", 1)
    storage = RecordingStorage()
    sink = stream_on(storage).sink(fsync="flush")
    for _ in range(3):
        sink.append(b"1\n", rows=1)
    sink.close()
    log = [what for what, path in storage.done if path.endswith(".commits") and what != "close"]
    assert log == ["replace+sync", "append", "sync", "replace+sync", "append", "sync"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at the open files of this process")
def test_on_this_machine_the_file_and_its_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M20: a new file is durable only once its folder is."""
    synced: list[str] = []
    real = __import__("os").fsync

    def fsync(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        real(fd)

    monkeypatch.setattr("os.fsync", fsync)
    with JsonlStream(str(tmp_path / "out.jsonl")).get_writer(fsync="flush") as writer:
        writer.write([1])
    folder = tmp_path.name
    assert synced == [
        "out.jsonl.commits.tmp", folder,
        "out.jsonl", folder, "out.jsonl.commits", folder,
        "out.jsonl", "out.jsonl.done.tmp", folder,
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.jsonl.done"]
