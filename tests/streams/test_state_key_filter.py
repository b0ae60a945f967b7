"""The filter before the table of a state: it never denies a key that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_datagen.streams.state import key_filter
from llm_datagen.streams.state.key_filter import KeyFilter
from llm_datagen.streams.state.keys import encode_key
from llm_datagen.streams.state.table import StateTable


def test_a_key_that_is_there_is_never_denied_and_most_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_filter, "_LAYER_BYTES", (256, 2048, 8192))
    known = KeyFilter()
    keys = [encode_key(f"key {number}") for number in range(6000)]
    for begin in range(0, 6000, 7):
        known.add(keys[begin : begin + 7])
    assert all(key in known for key in keys)
    others = sum(encode_key(("other", number)) in known for number in range(6000))
    assert others < 900


def test_a_table_that_was_there_learns_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_datagen.streams.state.table._MISSES_BEFORE_FILTER", 10)
    path = str(tmp_path / "state.sqlite")
    keys = [encode_key(number) for number in range(100)]
    table = StateTable(path)
    table.apply(dict.fromkeys(keys, b"1"), 1)
    assert [table.get(key) for key in keys] == [b"1"] * 100
    table.close()
    table = StateTable(path)
    for _ in range(2):
        assert [table.get(encode_key(number)) for number in range(90, 120)] == [b"1"] * 10 + [None] * 20
    table.apply({encode_key(115): b"2", encode_key(95): None}, 2)
    assert [table.get(encode_key(number)) for number in (94, 95, 115, 116)] == [b"1", None, b"2", None]
    table.close()
