"""The state of an operator: keys, the log, the table, and what is there again after a crash at any commit."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.errors import DiskError, StreamChangedError, StreamCorruptError, StreamError
from llm_datagen.streams import JsonlStream, MemoryStream, Stream
from llm_datagen.streams.state import store as store_module
from llm_datagen.streams.state.compared import compare_table
from llm_datagen.streams.state.keys import Key, decode_key, encode_key
from llm_datagen.streams.state.log import StateLog
from llm_datagen.streams.state.store import StateStore, check_state
from llm_datagen.streams.state.table import TableReader, applied_of

PARTS = st.one_of(
    st.text(max_size=4), st.integers(-(2**63), 2**63 - 1), st.sampled_from(["", "\0", "a\0", "\0\0", "é"])
)
KEYS = st.lists(PARTS, min_size=1, max_size=3).map(tuple)


def in_order(key: tuple[Any, ...]) -> list[tuple[bool, Any]]:
    return [(isinstance(part, str), part.encode() if isinstance(part, str) else part) for part in key]


@settings(max_examples=30)
@given(st.lists(KEYS, max_size=20))
def test_keys_come_back_and_are_in_order_as_bytes(keys: list[tuple[str | int, ...]]) -> None:
    for key in keys:
        assert decode_key(encode_key(key)) == (key if len(key) > 1 else key[0])
    assert sorted(keys, key=encode_key) == sorted(keys, key=in_order)


@pytest.mark.parametrize("key", [None, 1.5, True, b"a", ("a", None), (), 2**63, "\ud800", ["a"]])
def test_what_is_no_key_is_refused(key: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_key(key)


class Node:
    """What a node does with a state, and a dict that does the same."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.mark: list[int] | None = None
        self.committed: dict[Key, Any] = {}
        self.open()

    def open(self) -> None:
        self.store = StateStore(self.stream, self.mark)
        self.now = dict(self.committed)
        self.commit()  # as a sink does: the first commit says that there is a state

    def call(self, changes: list[tuple[Key, Any]], *, fails: bool) -> None:
        self.store.begin()
        before = dict(self.now)
        for key, value in changes:
            if value is None:
                if key in self.now:
                    del self.store[key], self.now[key]
                else:
                    with pytest.raises(KeyError):
                        del self.store[key]
            else:
                self.store[key], self.now[key] = value, value
            assert self.store.get(key) == self.now.get(key)
        if fails:
            self.now = before
        else:
            self.store.keep()

    def commit(self, *, durably: bool = True) -> None:
        taken = self.store.take()
        if taken is not None:
            self.store.append(taken, sync=False)
            self.store.committed(taken)
        if durably:
            self.store.sync()
            self.store.synced()
        self.mark, self.committed = self.store.mark, dict(self.now)

    def crash(self) -> None:
        taken = self.store.take()
        if taken is not None:  # written, and never committed
            self.store.append(taken, sync=False)
        self.store.close()
        self.open()

    def check(self) -> None:
        self.store.begin()
        compare_table(self.stream)  # whatever the table has taken over, and the log has dropped
        assert dict(self.store.items()) == self.now
        assert [key for key, _ in self.store.items()] == sorted(self.now, key=encode_key)
        for key in self.now:
            assert key in self.store
            assert self.store[key] == self.now[key]
        assert dict(self.store.items("a")) == {
            key: value for key, value in self.now.items() if (key if isinstance(key, tuple) else (key,))[0] == "a"
        }


SMALL_KEYS = st.sampled_from(["a", "b", ("a", 1), ("a", "x"), 7, -1])
STEPS: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.tuples(st.just("call"), st.lists(st.tuples(SMALL_KEYS, st.none() | st.integers() | st.text()), max_size=4)),
    st.tuples(st.just("failing call"), st.lists(st.tuples(SMALL_KEYS, st.none() | st.integers()), max_size=4)),
    st.tuples(st.sampled_from(["commit", "commit later", "crash", "check"]), st.just([])),
)


@pytest.mark.parametrize("kind", ["file", "memory"])
@settings(max_examples=25)
@given(steps=st.lists(STEPS, max_size=30))
def test_a_state_is_after_each_crash_what_was_committed(
    kind: str, steps: list[tuple[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("state")
    stream: Stream = (
        JsonlStream(f"jsonl://{folder}/out.jsonl") if kind == "file" else MemoryStream(f"memory://{folder}")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "APPLY_BYTES", 20)  # so that the table and the log are changed all the time
        patch.setattr(store_module, "SHORTEN_BYTES", 60)
        node = Node(stream)
        for step, changes in steps:
            if step == "call":
                node.call(changes, fails=False)
            elif step == "failing call":
                node.call(changes, fails=True)
            elif step == "crash":
                node.crash()
            elif step == "check":
                node.check()
            else:
                node.commit(durably=step == "commit")
        node.check()
        node.crash()
        node.check()
        node.store.close()
    stream.delete()
    shutil.rmtree(folder)


@pytest.fixture
def kept(tmp_path: Path) -> Node:
    """A state of 200 keys, closed; its log was shortened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "APPLY_BYTES", 200)
        patch.setattr(store_module, "SHORTEN_BYTES", 1000)
        node = Node(JsonlStream(f"jsonl://{tmp_path}/out.jsonl"))
        for number in range(200):
            node.call([(f"key {number}", number)], fails=False)
            node.commit()
        node.store.close()
    assert StateLog(node.stream.storage, node.stream.state_path).begin > 1000
    return node


def test_a_log_is_shortened_and_the_state_is_whole(kept: Node) -> None:
    assert Path(kept.stream.state_path).stat().st_size < 2000
    kept.open()
    assert dict(kept.store.items()) == {f"key {number}": number for number in range(200)}
    kept.store.close()


def damaged(node: Node, how: str) -> None:
    log, table = Path(node.stream.state_path), Path(node.stream.state_table_paths[0])
    if how == "log gone":
        log.unlink()
    elif how == "log cut":
        log.write_bytes(log.read_bytes()[:-5])
    elif how == "log changed":
        data = log.read_bytes()
        log.write_bytes(data[:-4] + bytes([data[-4] ^ 1]) + data[-3:])
    elif how == "header changed":
        log.write_bytes(b"x" + log.read_bytes())
    elif how == "table gone":
        table.unlink()
    elif how == "table with nulls":
        with contextlib.closing(sqlite3.connect(table)) as database, database:
            database.executescript(
                "DROP TABLE log; CREATE TABLE log (applied, times); INSERT INTO log VALUES (NULL, 0)"
            )
    elif how == "table no table":
        table.write_bytes(b"x" * 5000)
    else:
        assert node.mark is not None
        node.mark = [node.mark[0] - 10_000, node.mark[1]]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("log gone", StreamChangedError),
        ("log cut", StreamChangedError),
        ("log changed", StreamCorruptError),
        ("header changed", StreamCorruptError),
        ("table gone", StreamChangedError),
        ("table no table", StreamCorruptError),
        ("table with nulls", StreamCorruptError),
        ("commit log older", StreamError),
    ],
)
def test_a_state_that_is_not_what_was_committed_is_refused_by_name(
    kept: Node, how: str, error: type[StreamError]
) -> None:
    damaged(kept, how)
    assert kept.mark is not None
    with pytest.raises(error, match=r"out\.jsonl\.state.*if_exists='overwrite'"):
        check_state(kept.stream, kept.mark)


def test_a_look_at_a_table_changes_nothing(kept: Node, tmp_path: Path) -> None:
    path = kept.stream.state_table_paths[0]
    before = Path(path).read_bytes()
    assert (applied_of(path) or 0) > 1000
    empty = tmp_path / "empty.sqlite"
    empty.touch()
    assert applied_of(str(empty)) == 0
    assert applied_of(str(tmp_path / "none")) is None
    assert (Path(path).read_bytes(), empty.stat().st_size) == (before, 0)


def table_of(folder: Path, monkeypatch: pytest.MonkeyPatch, *, is_shortened: bool) -> Path:
    """Return the table of a state, closed, that has all of it; the log has it too, or only the end of it."""
    monkeypatch.setattr(store_module, "APPLY_BYTES", 20)
    if is_shortened:
        monkeypatch.setattr(store_module, "SHORTEN_BYTES", 60)
    node = Node(JsonlStream(f"jsonl://{folder}/out.jsonl"))
    for number in range(40):
        node.call([(("seen", number), {"text": "x" * 40})], fails=False)
        node.commit()
    node.call([(("seen", 7), None), ("last", 1)], fails=False)
    node.commit()
    node.store.close()
    assert (StateLog(node.stream.storage, node.stream.state_path).begin > 0) is is_shortened
    StateStore(node.stream, node.mark).close()
    return Path(f"{folder}/out.jsonl.state.sqlite")


@pytest.mark.slow
@pytest.mark.parametrize("is_shortened", [False, True])
def test_a_byte_of_the_table_that_is_another_one_is_found_or_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_shortened: bool
) -> None:
    """SQLite has no checksums. What its own check does not see, the log does, as far as it goes back."""
    path = table_of(tmp_path, monkeypatch, is_shortened=is_shortened)
    stream = JsonlStream(f"jsonl://{tmp_path}/out.jsonl")
    data = path.read_bytes()
    with TableReader(str(path)) as reader:
        content = list(reader.items())
    compare_table(stream)
    found = 0
    for at in range(3, len(data), 97):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x04]) + data[at + 1 :])
        try:
            compare_table(stream)
        except (StreamCorruptError, DiskError):
            found += 1
            continue
        with TableReader(str(path)) as reader:
            changed = dict(reader.items())
        assert len(changed) == len(content)
        assert is_shortened or list(changed.items()) == content, at
    assert found > 10


def test_a_value_of_the_table_that_is_another_one_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the table, a resume makes it anew of the log."""
    path = table_of(tmp_path, monkeypatch, is_shortened=False)
    stream = JsonlStream(f"jsonl://{tmp_path}/out.jsonl")
    data = path.read_bytes()
    at = data.index(b"x" * 40) + 5
    path.write_bytes(data[:at] + b"y" + data[at + 1 :])
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    says = (
        r"out.jsonl.state.sqlite is damaged: the key \('seen', \d+\) has another value than what .*out.jsonl.state says"
    )
    with pytest.raises(StreamCorruptError, match=f"{says}; remove it"):
        compare_table(stream)
    for each in stream.state_table_paths:
        Path(each).unlink(missing_ok=True)
    log = StateLog(stream.storage, stream.state_path)
    size = path.parent.joinpath("out.jsonl.state").stat().st_size - log._header_bytes
    crc = zlib.crc32(b"".join(log._pieces(0, size)))
    StateStore(stream, [size, crc]).close()
    compare_table(stream)
    with TableReader(str(path)) as reader:
        assert len(list(reader.items())) == 40
