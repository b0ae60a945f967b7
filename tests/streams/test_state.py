"""The state of an operator: keys, the log, the table, and what is there again after a crash at any commit."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.errors import StreamChangedError, StreamCorruptError, StreamError
from llm_datagen.streams import JsonlStream, MemoryStream, Stream
from llm_datagen.streams.state import store as store_module
from llm_datagen.streams.state.keys import Key, decode_key, encode_key
from llm_datagen.streams.state.log import StateLog
from llm_datagen.streams.state.store import StateStore, check_state
from llm_datagen.streams.state.table import applied_of

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
