"""Streams side by side, by the ids of their rows."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import StreamFactory
from llm_datagen.runs.comparison import KINDS, VALUE, Comparison, Pair
from llm_datagen.streams import Stream

from ..kit.support import write_jsonl


def stream(path: Path, rows: list[Any]) -> Stream:
    """Return a file of rows that have ids."""
    return StreamFactory.create(f"jsonl://{write_jsonl(path, rows)}")


def test_rows_are_found_by_their_ids_whatever_their_order(tmp_path: Path) -> None:
    a = [{"_i": 0, "n": 0}, {"_i": 1, "n": 1, "x": "old"}, {"_i": "2_0", "n": 2}, {"_i": 3, "n": 3}]
    b = [{"_i": 4, "n": 4}, {"_i": "2_0", "n": 2}, {"_i": 1, "x": "new", "n": 1}, {"n": 0, "_i": 0}]
    with Comparison(stream(tmp_path / "a.jsonl", a), stream(tmp_path / "b.jsonl", b)) as found:
        assert found.counts() == {"same": 2, "changed": 1, "a": 1, "b": 1}
        assert (found.rows, found.repeated) == ({"a": 4, "b": 4}, {"a": 0, "b": 0})
        changed = Pair(id=1, kind="changed", columns=("x",), a={"n": 1, "x": "old"}, b={"x": "new", "n": 1})
        only_a = Pair(id=3, kind="a", columns=(), a={"n": 3})
        only_b = Pair(id=4, kind="b", columns=(), b={"n": 4})
        assert found.page(("changed", "a", "b"), limit=9) == [changed, only_a, only_b]
        assert found.page(("changed", "a", "b"), limit=1, offset=1) == [only_a]
        assert [pair.id for pair in found.page(("same",), limit=9)] == [0, "2_0"]
        assert found.page(KINDS, limit=9, offset=5) == []


def test_what_counts_as_a_change(tmp_path: Path) -> None:
    """A column that came or went, and values within; not the order of fields, nor what was spent (`_meta`)."""
    same = {"deep": {"x": [1, {"y": None}], "_meta": 1}, "big": 2**70}
    a = [
        {"_i": 0, **same, "_meta": {"tokens": 1}},
        {"_i": 1, "kept": 1, "gone": 2},
        {"_i": 2, "deep": {"_meta": 1}, "n": 1},
        {"_i": 3, "data": "text"},
        {"_i": 4, "n": 1},
    ]
    b = [
        {"_i": 0, "big": 2**70, "deep": {"_meta": 1, "x": [1, {"y": None}]}, "_meta": {"tokens": 2}},
        {"_i": 1, "kept": 1, "new": 2},
        {"_i": 2, "deep": {"_meta": 2}, "n": 1.0},
        {"_i": 3, "data": "other"},
        {"_i": 4, "n": "1"},
    ]
    streams = []
    for name, rows in (("a", a), ("b", b)):
        written = StreamFactory.create(f"jsonl://{tmp_path / name}.jsonl")
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
        streams.append(written)
    with Comparison(*streams) as found:
        pages = {pair.id: pair for pair in found.page(KINDS, limit=9)}
    assert {row_id: pair.columns for row_id, pair in pages.items()} == {
        0: (),
        1: ("gone", "new"),
        2: ("deep", "n"),
        3: (VALUE,),
        4: ("n",),
    }
    assert pages[0].kind == "same"
    assert pages[0].a["_meta"] == {"tokens": 1}, "it is shown, though it is not compared"


def test_values_that_are_no_objects_are_compared_as_a_whole(tmp_path: Path) -> None:
    streams = []
    for name, values in (("a", ["x", 1]), ("b", ["y", 1])):
        made = StreamFactory.create(f"jsonl://{tmp_path / name}.jsonl")
        with made.get_writer() as writer:
            writer.write(values)
        streams.append(made)
    with Comparison(*streams) as found:
        (pair,) = found.page(("changed",), limit=9)
    assert (pair.columns, pair.a, pair.b) == ((VALUE,), "x", "y")


def test_a_stream_that_is_not_there_has_no_rows_and_ids_that_come_twice_are_counted(tmp_path: Path) -> None:
    a = stream(tmp_path / "a.jsonl", [{"_i": 1, "n": 1}, {"_i": 1, "n": 2}])
    with Comparison(a, StreamFactory.create(f"jsonl://{tmp_path}/none.jsonl")) as found:
        assert found.counts() == {"same": 0, "changed": 0, "a": 1, "b": 0}
        assert found.repeated == {"a": 1, "b": 0}


def test_nothing_is_left_of_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    a = stream(tmp_path / "a.jsonl", [{"_i": 1}])
    with Comparison(a, a) as found:
        assert list((tmp_path / "temporary").iterdir())
        assert found.counts()["same"] == 1
    torn = tmp_path / "torn.jsonl"
    made = StreamFactory.create(f"jsonl://{torn}")
    with made.get_writer() as writer:
        writer.write([{"n": 1}])
    torn.write_bytes(b"")
    with pytest.raises(Exception, match="torn"):
        Comparison(a, made)
    assert not list((tmp_path / "temporary").iterdir())


MEASURED = """
import sys
from llm_datagen import StreamFactory
from llm_datagen.runs.comparison import Comparison
a, b = (StreamFactory.create(f"jsonl://{name}") for name in sys.argv[1:])
with Comparison(a, b) as found:
    print(found.counts(), len(found.page(("changed",), limit=20, offset=1000)))
from tests.pipeline.memory import peak
print(peak())
"""


@pytest.mark.slow
def test_memory_is_bounded_for_streams_in_any_order(tmp_path: Path) -> None:
    """150,000 rows of each, shuffled: the index has a cache of 64 MB, and nothing else grows."""
    count, dice = 150_000, random.Random(7)
    for name in ("a", "b"):
        numbers = list(range(count))
        dice.shuffle(numbers)
        with (tmp_path / f"{name}.jsonl").open("w") as file:
            for n in numbers:
                text = "changed" if name == "b" and n % 100 == 0 else "x" * 100
                file.write(f'{{"_i": {n}, "text": "{text}"}}\n')
    paths = [str(tmp_path / f"{name}.jsonl") for name in ("a", "b")]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *paths], cwd=root, capture_output=True, text=True, check=True
    )
    counts, peak = done.stdout.splitlines()
    assert counts == "{'same': 148500, 'changed': 1500, 'a': 0, 'b': 0} 20"
    assert 20 < float(peak) < 165  # MB
