"""The writing end: commits, recovery, corruption. Every byte is cut, flipped, and crashed at."""

from __future__ import annotations

import os
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.config import Fsync
from llm_datagen.errors import (
    StreamBusyError,
    StreamChangedError,
    StreamCorruptError,
    StreamExistsError,
    StreamSealedError,
)
from llm_datagen.streams import CsvStream, JsonlStream, Sink, Span, Stream, commit_log
from llm_datagen.streams.checksum_chain import ChecksumChain
from llm_datagen.streams.position import Position
from llm_datagen.streams.storage.base import Storage
from llm_datagen.streams.storage.memory import MemoryStorage

from .storages import Crash, CrashStorage, contents, put, read_now, stream_on, values_now

SOURCE = "jsonl://in.jsonl"
WIDTH = 10
"""Every source row of these tests is so many bytes wide."""

ROWS = 30
"""Source rows of the run that is crashed at every byte."""


def span(start: int, end: int) -> Span:
    return Span(start, end, start * WIDTH, end * WIDTH)


def record(row: int) -> bytes:
    return b'{"_i":%d,"a":"%s"}\n' % (row, b"x" * (row % 5))


def commit(sink: Sink, start: int, end: int, *, empty: bool = False, marks: dict[str, Any] | None = None) -> None:
    """Commit the results of some source rows: one row each, or none."""
    rows = range(start, end)
    sink.append(
        b"" if empty else b"".join(map(record, rows)),
        rows=0 if empty else len(rows),
        spans=[span(start, end)],
        filtered=len(rows) if empty else 0,
        ids=(None, None) if empty else (start, end - 1),
        marks=marks,
    )


class State(NamedTuple):
    """What a stream is after a commit."""

    data: bytes
    spans: list[Span]
    rows: int
    filtered: int
    ids: tuple[Any, Any]
    marks: dict[str, Any]


def state_of(sink: Sink) -> State:
    position = sink.position
    assert position.bytes == len(contents(sink.stream))
    assert position.crc == zlib.crc32(contents(sink.stream))
    return State(
        contents(sink.stream), list(position.coverage), position.rows, position.filtered,
        (position.first_id, position.last_id), position.marks,
    )  # fmt: skip


def build(storage: Storage, steps: list[tuple[int, int, bool]]) -> tuple[Stream, list[State], list[int]]:
    """Commit steps; return the stream, its state after each commit, and the log's length then."""
    stream = stream_on(storage)
    sink = stream.sink(source=SOURCE)
    states, lengths = [state_of(sink)], [storage.size(stream.commits_path) or 0]
    for number, (start, end, empty) in enumerate(steps):
        commit(sink, start, end, empty=empty, marks={"n": number} if number % 2 else None)
        states.append(state_of(sink))
        lengths.append(storage.size(stream.commits_path) or 0)
    sink.close()
    return stream, states, lengths


STEPS = [(0, 2, False), (4, 6, False), (6, 7, True), (2, 3, False), (9, 11, False)]


def copied(stream: Stream, **changed: bytes) -> Stream:
    """Return a copy of the stream on another storage, with some files (data, commits, done) changed."""
    copy = stream_on(MemoryStorage())
    for name, path in (("data", stream.path), ("commits", stream.commits_path), ("done", stream.done_path)):
        data = changed.get(name, stream.storage.read_all(path))
        if data is not None:
            copy.storage.replace(path, data, sync=False)
    return copy


def log_of(stream: Stream) -> bytes:
    data = stream.storage.read_all(stream.commits_path)
    assert data is not None
    return data


def said(position: Position) -> dict[str, Any]:
    """Return a position as plain data."""
    return position.as_record(position.coverage)


def reopened(stream: Stream) -> State:
    """Open the stream for writing and return its state; reading must agree before, and the log must after."""
    readable = stream.readable()
    sink = stream.sink(source=SOURCE)
    state = state_of(sink)
    assert readable is not None
    assert readable == (len(state.data), False)
    sink.close()
    again = stream.sink(source=SOURCE)
    assert state_of(again) == state
    again.close()
    return state


def test_a_stream_is_reopened_as_it_was_left() -> None:
    """S1: coverage with its holes, counts, ids and marks."""
    stream, states, _ = build(MemoryStorage(), STEPS)
    assert reopened(stream) == states[-1]
    assert states[-1] == State(
        b"".join(map(record, [0, 1, 4, 5, 2, 9, 10])), [span(0, 3), span(4, 7), span(9, 11)], 7, 1, (0, 10), {"n": 3}
    )


@pytest.mark.parametrize("tail", [b"", b'{"_i', b'{"_i":3}\n', b'{"_i":3}\n{"_i":4}\n\n\x00\x00'])
def test_what_was_never_committed_is_cut_off(tail: bytes) -> None:
    """S1, M22: a torn tail is not a change; it is cut and made again."""
    stream, states, _ = build(MemoryStorage(), STEPS)
    put(stream, contents(stream) + tail)
    assert reopened(stream) == states[-1]


def test_a_stream_cut_at_any_byte_is_an_error_that_names_it() -> None:
    """M22: rows that were committed and are gone are not made again silently."""
    stream, states, _ = build(MemoryStorage(), STEPS)
    data = states[-1].data
    for length in range(len(data)):
        cut = copied(stream, data=data[:length])
        says = f"out.jsonl has {length} bytes, but {len(data)} were committed"
        with pytest.raises(StreamChangedError, match=says):
            cut.sink(source=SOURCE)
        assert contents(cut) == data[:length]
        assert log_of(cut) == log_of(stream)
        with pytest.raises(StreamChangedError, match=f"ends at byte {length}"):
            read_now(cut)


def test_a_commit_log_cut_at_any_byte_gives_the_state_of_its_last_whole_commit() -> None:
    """S1: a torn commit was promised to nobody; without any, nothing is guessed and nothing is cut."""
    stream, states, lengths = build(MemoryStorage(), STEPS)
    log = log_of(stream)
    for length in range(len(log)):
        cut = copied(stream, commits=log[:length])
        known = [state for state, end in zip(states, lengths, strict=True) if end <= length]
        if known:
            assert reopened(cut) == known[-1]
            continue
        for attempt in (cut.readable, lambda cut=cut: cut.sink(source=SOURCE), cut.seal):
            with pytest.raises(StreamCorruptError, match=rf"out.jsonl.commits ends at byte {length}"):
                attempt()
        assert contents(cut) == states[-1].data


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 400), st.integers(0, 1500), st.binary(max_size=20))
def test_both_files_cut_give_a_commit_or_an_error(data_length: int, log_length: int, tail: bytes) -> None:
    """S1: whatever a loss of power leaves, the stream is as after some commit, or refused."""
    stream, states, lengths = build(MemoryStorage(), STEPS)
    cut = copied(stream, data=contents(stream)[:data_length] + tail, commits=log_of(stream)[:log_length])
    known = [state for state, end in zip(states, lengths, strict=True) if end <= log_length]
    try:
        state = reopened(cut)
    except (StreamChangedError, StreamCorruptError):
        assert not known or not contents(cut).startswith(known[-1].data)
    else:
        assert state == known[-1]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_a_commit_log_with_a_changed_byte_gives_a_commit_or_an_error(flip: int) -> None:
    """S1, S3: never a state that the stream was not in."""
    stream, states, lengths = build(MemoryStorage(), STEPS)
    log = log_of(stream)
    seen = Counter[str]()
    for at in range(len(log)):
        changed = copied(stream, commits=log[:at] + bytes([log[at] ^ flip]) + log[at + 1 :])
        try:
            state = reopened(changed)
        except StreamCorruptError:
            seen["refused"] += 1
            assert contents(changed) == states[-1].data
            with pytest.raises(StreamCorruptError, match=r"^out\.jsonl\.commits "):
                changed.readable()
        else:
            is_last = at >= lengths[-2] - 1  # the newline before the last commit ties it to the one before
            seen["last" if is_last else "other"] += 1
            assert state in states
            assert is_last or state == states[-1], f"byte {at} of an earlier commit was passed over"
    assert seen["refused"]
    assert seen["last"]


def test_a_stream_with_a_changed_byte_is_an_error_that_names_the_place() -> None:
    """M22, S3: whichever flush the byte was part of, and also when the last commit added none."""
    for steps in (STEPS, [*STEPS, (11, 12, True)]):
        stream, states, _ = build(MemoryStorage(), steps)
        data = states[-1].data
        for at in range(len(data)):
            changed = copied(stream, data=data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            with pytest.raises(StreamCorruptError) as caught:
                changed.sink(source=SOURCE)
            found = re.search(r"out\.jsonl, bytes (\d+) to (\d+): the checksum is", str(caught.value))
            assert found
            assert int(found[1]) <= at < int(found[2])
            with pytest.raises(StreamCorruptError):
                changed.verify()
        stream.verify()


def test_a_row_that_was_edited_is_refused_even_if_the_last_commits_added_no_rows() -> None:
    """M22: the file is not cut in the middle of a row, either."""
    stream, states, _ = build(MemoryStorage(), [(0, 3, False), (3, 4, True), (4, 5, True)])
    put(stream, states[-1].data.replace(b"x", b"longer"))
    with pytest.raises(StreamCorruptError, match=r"out.jsonl, bytes 0 to"):
        stream.sink(source=SOURCE)


@pytest.mark.parametrize("ending", [b"\n", b'{"rows":1}\n', b"00000000 {}\n", b"d3d99e8b []\n", b"\x00" * 9 + b"\n"])
def test_a_last_line_of_the_log_that_is_none_is_dropped(ending: bytes) -> None:
    """S1: it is no commit; what is before it stands."""
    stream, states, _ = build(MemoryStorage(), STEPS)
    assert reopened(copied(stream, commits=log_of(stream) + ending)) == states[-1]


@pytest.mark.parametrize(
    "value",
    [
        {"rows": 1},
        {"rows": 1, "bytes": 2, "crc": 3, "last": [0, 0], "filtered": 0, "ids": [0, 0], "cover": [[0, 1, 0, 10]]},
        {"rows": 1, "bytes": 2, "crc": 3, "last": [0], "filtered": 0, "ids": [0, 0], "cover": []},
        {"rows": 1, "bytes": 2, "crc": 3, "last": [0, 0], "filtered": 0, "ids": [0, 0], "cover": [[50]]},
    ],
)
def test_a_commit_that_makes_no_sense_is_an_error_with_its_place(value: dict[str, Any]) -> None:
    """S3: its checksum is right, so it was not torn: rows covered twice, or not a commit at all."""
    stream, _, lengths = build(MemoryStorage(), STEPS)
    last = log_of(stream).splitlines()[-1][:8]
    changed = copied(stream, commits=log_of(stream) + ChecksumChain(last).line(orjson.dumps(value)))
    with pytest.raises(StreamCorruptError, match=rf"out.jsonl.commits cannot be read at byte {lengths[-1]} \(line 8\)"):
        changed.sink(source=SOURCE)


def test_a_log_of_another_format_is_an_error() -> None:
    """S3: what a later version wrote is not guessed at."""
    stream, _, _ = build(MemoryStorage(), STEPS)
    _, _, rest = log_of(stream).partition(b"\n")
    header = ChecksumChain().line(orjson.dumps({"format": 99, "source": SOURCE}))
    changed = copied(stream, commits=header + rest)
    with pytest.raises(StreamCorruptError, match=r"byte 0 \(line 1\): format 99 is not 2"):
        changed.sink(source=SOURCE)


def unchained(log: bytes) -> bytes:
    """Return a commit log as versions before the chain of lines have written it."""
    payloads = [line[18:].replace(b'"format":2', b'"format":1') for line in log.splitlines()]
    return b"".join(b"%08x %s\n" % (zlib.crc32(payload), payload) for payload in payloads)


def test_a_log_of_the_version_before_is_continued_and_written_anew() -> None:
    """S1: with all that was committed. From there on, its lines are a chain."""
    stream, states, _ = build(MemoryStorage(), STEPS)
    older = copied(stream, commits=unchained(log_of(stream)))
    assert log_of(older).startswith(b"%08x {" % zlib.crc32(log_of(older).split(b"\n")[0][9:]))
    assert reopened(older) == states[-1]
    assert b'"format":2' in log_of(older)


@pytest.mark.parametrize("change", ["away", "twice", "swapped"])
def test_a_line_of_a_log_that_is_removed_doubled_or_moved_is_an_error(change: str) -> None:
    """S3: whichever it is, though each line that is left is whole. Nothing can be done twice by that."""
    stream, _, _ = build(MemoryStorage(), STEPS)
    lines = log_of(stream).splitlines(keepends=True)
    for at in range(len(lines) - 1):
        changed = {
            "away": lines[:at] + lines[at + 1 :],
            "twice": [*lines[: at + 1], *lines[at:]],
            "swapped": [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
        }[change]
        refused = copied(stream, commits=b"".join(changed))
        with pytest.raises(StreamCorruptError, match=r"out.jsonl.commits cannot be read at byte \d+ \(line \d+\)"):
            refused.sink(source=SOURCE)
        assert log_of(refused) == b"".join(changed), "a refusal changes nothing"


def test_a_line_that_was_removed_from_a_log_of_the_version_before_shows_in_the_bytes() -> None:
    """S3: its lines are no chain, but each says where its flush began."""
    stream, _, _ = build(MemoryStorage(), [step for step in STEPS if not step[2]])
    lines = unchained(log_of(stream)).splitlines(keepends=True)
    assert len(lines) == 6
    for at in range(2, len(lines) - 1):
        with pytest.raises(StreamCorruptError, match="a line was removed"):
            copied(stream, commits=b"".join(lines[:at] + lines[at + 1 :])).sink(source=SOURCE)


# Crashes: at every byte that a run writes.


def run_on(storage: Storage, rows: int, step: int, seed: int) -> None:
    """Do what is left of a run: cover all source rows in any order, and seal."""
    stream = stream_on(storage)
    if stream.is_sealed():
        return
    sink = stream.sink(source=SOURCE)
    try:
        todo: list[tuple[int, int]] = []
        for gap in sink.position.coverage.gaps():
            end = rows if gap.end is None else gap.end
            assert gap.offset == gap.start * WIDTH
            todo += [(at, min(at + step, end)) for at in range(gap.start, end, step)]
        random.Random(seed).shuffle(todo)
        for start, end in todo:
            commit(sink, start, end, empty=start % 7 == 3, marks={"at": start})
        sink.seal()
    finally:
        sink.close()


def check_run(storage: Storage, rows: int, *, may_keep_log: bool = False) -> None:
    """Every source row is covered once, and its result is in the file once or, filtered, not at all."""
    stream = stream_on(storage)
    seal = stream.read_seal()
    assert seal is not None
    assert seal.complete
    assert seal.cover == (span(0, rows),)
    left = commit_log.read_log(storage, stream.commits_path)
    assert left is None or may_keep_log, "the log goes with the seal"
    if left is not None:  # a crash between the two: then it says the same
        assert said(left[1]) == said(seal.position())
    found = Counter(row["_i"] for row in values_now(stream))
    assert set(found.values()) <= {1}
    assert seal.rows == len(found)
    assert seal.rows + seal.filtered == rows
    assert (seal.size, seal.crc) == (len(contents(stream)), zlib.crc32(contents(stream)))
    stream.verify()


def check_crashed(storage: Storage) -> None:
    """What can be read of an interrupted stream is whole rows, each of them covered."""
    stream = stream_on(storage)
    readable = stream.readable()
    if readable is None or readable.ended:
        return
    logged = commit_log.read_log(storage, stream.commits_path)
    covered = {row for part in (logged[1].coverage if logged else ()) for row in range(part.start, part.end)}
    found = [row["_i"] for _, row in read_now(stream)]
    assert len(found) == len(set(found)) == (logged[1].rows if logged else 0)
    assert set(found) <= covered


@pytest.mark.slow
def test_a_crash_at_any_byte_loses_nothing_and_repeats_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """M21, S1, S2: with commits in any order, compaction, filtered rows, and the seal."""
    monkeypatch.setattr(commit_log, "COMPACT_BYTES", 300)
    whole = CrashStorage(1 << 30)
    run_on(whole, ROWS, 2, seed=1)
    check_run(whole.inner, ROWS)
    for budget in range(whole.spent):
        storage = CrashStorage(budget)
        with pytest.raises(Crash):
            run_on(storage, ROWS, 2, seed=1)
        survivor = storage.survivor()
        check_crashed(survivor)
        is_sealed = stream_on(survivor).is_sealed()
        run_on(survivor, ROWS, 2, seed=2)
        check_run(survivor, ROWS, may_keep_log=is_sealed)


@settings(max_examples=75, deadline=None)
@given(
    st.lists(st.integers(0, 900), max_size=8), st.integers(0, 2000), st.integers(1, 9), st.sampled_from([80, 300, 9999])
)
def test_crashes_upon_crashes_lose_nothing_and_repeat_nothing(
    budgets: list[int], seed: int, step: int, compact: int
) -> None:
    """M21: also when recovery itself is interrupted, again and again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit_log, "COMPACT_BYTES", compact)
        storage = MemoryStorage()
        for number, budget in enumerate(budgets):
            crashing = CrashStorage(budget, storage)
            try:
                run_on(crashing, 25, step, seed + number)
            except Crash:
                storage = crashing.survivor()
                check_crashed(storage)
        is_sealed = stream_on(storage).is_sealed()
        run_on(storage, 25, step, seed)
        check_run(storage, 25, may_keep_log=is_sealed)


def write_csv(storage: Storage, rows: int) -> None:
    with stream_on(storage, "csv").get_writer() as writer:
        for number in range(writer._sink.position.rows, rows):
            writer.write([{"a": f'"{number}",\n', "b": None}])


def test_a_crash_at_any_byte_leaves_one_header_and_whole_records() -> None:
    """M21, M19: also when it hits the header."""
    whole = CrashStorage(1 << 30)
    write_csv(whole, 3)
    for budget in range(whole.spent):
        storage = CrashStorage(budget)
        with pytest.raises(Crash):
            write_csv(storage, 3)
        survivor = storage.survivor()
        stream = stream_on(survivor, "csv")
        if not stream.is_sealed():
            write_csv(survivor, 3)
        assert contents(stream) == whole.inner.read_all("out.csv")
    assert [row["_i"] for row in values_now(stream)] == [0, 1, 2]


@pytest.mark.parametrize("where", ["data", "commit"])
def test_a_disk_that_fails_midway_leaves_what_was_committed(where: str) -> None:
    """S1, M26: the writer stops, says no more than is committed, and the stream recovers."""
    storage = CrashStorage(1 << 30)
    stream = stream_on(storage)
    sink = stream.sink(source=SOURCE)
    commit(sink, 0, 2)
    before = state_of(sink)
    storage.budget = storage.spent + (5 if where == "data" else len(record(5)) + 20)
    with pytest.raises(Crash):
        commit(sink, 5, 6)
    assert sink.position.coverage.rows == 2
    assert (sink.position.rows, sink.position.bytes) == (2, len(before.data))
    storage.budget = 1 << 30
    for attempt in (lambda: commit(sink, 5, 6), sink.seal):
        with pytest.raises(StreamSealedError, match="closed, or failed before"):
            attempt()
    assert not stream.is_sealed()
    sink.close()
    assert reopened(stream) == before


def test_a_source_row_that_is_covered_already_is_refused_before_it_is_written() -> None:
    """S1: a repeat is a bug of the writer's owner; nothing of it gets into the stream."""
    stream, states, _ = build(MemoryStorage(), STEPS)
    sink = stream.sink(source=SOURCE)
    with pytest.raises(StreamCorruptError, match="source rows 2 to 4 were delivered twice"):
        sink.append(b"3\n", rows=1, spans=[span(3, 4), span(2, 4)])
    assert state_of(sink) == states[-1]
    commit(sink, 3, 4)
    sink.close()


# Who may write.


@pytest.fixture(params=["jsonl", "csv", "memory"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Stream:
    if request.param == "memory":
        return stream_on(MemoryStorage())
    made: Callable[[str], Stream] = JsonlStream if request.param == "jsonl" else CsvStream
    return made(str(tmp_path / "folder" / f"out.{request.param}"))


def test_only_one_writer_at_a_time_has_a_stream(stream: Stream) -> None:
    """M23: the second is refused; closing, sealing and failing to open let go of it."""
    sink = stream.sink()
    for attempt in (stream.sink, stream.seal):
        with pytest.raises(StreamBusyError, match="is being written by another writer"):
            attempt()
    sink.close()
    sink.close()
    with pytest.raises(StreamChangedError):
        stream.sink(source="jsonl://other.jsonl")
    sink = stream.sink()
    sink.seal()
    stream.unseal()
    stream.sink().close()


def test_closing_twice_does_not_take_the_stream_from_the_next_writer() -> None:
    """M23: an old handle has no say any more."""
    storage = MemoryStorage()
    first = storage.open_append("x")
    first.close()
    second = storage.open_append("x")
    first.close()
    with pytest.raises(StreamBusyError):
        storage.open_append("x")
    second.close()


def test_a_file_of_somebody_else_is_not_written_to(stream: Stream) -> None:
    """M4: nothing that a user paid for is lost silently."""
    stream.sink().close()
    stream.storage.remove(stream.commits_path)
    put(stream, b"1\n2\n")
    with pytest.raises(StreamExistsError, match=r"has 4 bytes that no commit log accounts for"):
        stream.sink()
    assert contents(stream) == b"1\n2\n"
    stream.delete()
    assert not stream.exists()
    stream.sink().close()


def test_an_empty_file_of_somebody_else_is_taken() -> None:
    """M17: `touch out.jsonl` loses nothing; nor does a crash before the first commit log."""
    stream = stream_on(MemoryStorage())
    put(stream, b"")
    stream.sink().close()


def test_a_stream_is_continued_only_from_its_own_source(stream: Stream) -> None:
    """M22: both sources are named."""
    stream.sink(source="jsonl://a.jsonl").close()
    with pytest.raises(StreamChangedError, match=r"was made from 'jsonl://a.jsonl'.*from 'jsonl://b.jsonl'"):
        stream.sink(source="jsonl://b.jsonl")
    stream.sink(source="jsonl://a.jsonl").close()


def test_a_stream_that_has_ended_is_not_written_to(stream: Stream) -> None:
    """M17: whoever sealed it."""
    stream.sink().seal()
    with pytest.raises(StreamSealedError, match=r"has ended \(.*\.done is there\)"):
        stream.sink()
    stream.unseal()
    stream.storage.replace(stream.done_path, b"", sync=False)
    with pytest.raises(StreamSealedError):
        stream.get_writer()


def test_a_stray_seal_does_not_make_a_file() -> None:
    """M17: a writer that is refused touches nothing."""
    stream = stream_on(MemoryStorage())
    stream.storage.replace(stream.done_path, b"", sync=False)
    with pytest.raises(StreamSealedError):
        stream.sink()
    assert stream.storage.size(stream.path) is None


# Compaction.


def test_the_commit_log_is_kept_short_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """S1: its length follows the rows in flight, not the rows written."""
    monkeypatch.setattr(commit_log, "COMPACT_BYTES", 500)
    stream = stream_on(MemoryStorage())
    sink = stream.sink(source=SOURCE)
    order = list(range(300))
    random.Random(3).shuffle(order)
    order.sort(key=lambda row: row // 20)  # at most about 20 holes
    longest = 0
    for row in order:
        commit(sink, row, row + 1, empty=row % 3 == 0, marks={"row": row})
        longest = max(longest, len(log_of(stream)))
        logged = commit_log.read_log(stream.storage, stream.commits_path)
        assert logged is not None
        assert logged[0] == SOURCE
        assert said(logged[1]) == said(sink.position)
        assert logged[1].marks == {"row": row}
    assert longest < 500 + 2000
    state = state_of(sink)
    sink.close()
    assert reopened(stream) == state


def test_a_long_stream_is_on_its_way_to_the_medium_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M20: with fsync="close" the last sync has little left to wait for; the other kinds ask for nothing."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, offset, length, advice: asked.append((offset, length)))
    kinds: tuple[Fsync, ...] = ("never", "close", "flush")
    for fsync in kinds:
        sink = JsonlStream(f"jsonl://{tmp_path}/{fsync}.jsonl").sink(fsync=fsync)
        for _ in range(20):
            sink.append(b'"' + b"x" * (1 << 20) + b'"\n', rows=1)
        sink.seal()
        ends = [offset + length for offset, length in asked]
        assert [offset for offset, _ in asked] == [0, *ends[:-1]][: len(asked)], "all of it, and nothing twice"
        assert len(asked) == (2 if fsync == "close" else 0)
        asked.clear()
