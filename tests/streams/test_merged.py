"""Several streams that are read as one: numbers, names, and what is left to read (M14, M31)."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_datagen.errors import RowFormatError
from llm_datagen.streams import Coverage, MergedStream, Span, StreamFactory, inputs_of
from llm_datagen.streams.coverage import INPUT_STRIDE
from llm_datagen.streams.scan import rows_of
from llm_datagen.streams.source import size_of

from ..kit.support import write_jsonl


def merged(folder: Path, *inputs: list[Any], naming: Any = "named") -> MergedStream:
    """Return a stream of the inputs a, b, …, each a sealed file with these rows."""
    uris = {}
    for name, rows in zip("abcdefgh", inputs, strict=False):
        path = write_jsonl(folder / f"{name} &=+.jsonl", rows)
        uris[name] = f"jsonl://{path}"
        Path(f"{path}.done").touch()
    stream = StreamFactory.source(MergedStream.uri_of(naming, uris))
    assert isinstance(stream, MergedStream)
    assert inputs_of(stream.uri) == uris
    return stream


@pytest.mark.slow
@given(st.lists(st.lists(st.booleans(), max_size=12), min_size=1, max_size=4), st.integers(1, 5))
def test_what_is_not_covered_is_read_in_the_order_of_each_input(inputs: list[list[bool]], rows: int) -> None:
    """S1, S2, R2: any rows of any input may be done; the others are read once, and complete the coverage."""
    with TemporaryDirectory() as folder:
        stream = merged(Path(folder), *([{"k": k} for k in range(len(merge_input))] for merge_input in inputs))
        places: dict[int, Span] = {}
        cursor = stream.cursor()
        while (block := cursor.read(1)) is not None:
            places[block.start] = block.span
        cursor.close()
        assert sorted(places) == [
            at * INPUT_STRIDE + k for at, merge_input in enumerate(inputs) for k in range(len(merge_input))
        ]
        is_done = {
            at * INPUT_STRIDE + k: is_in for at, merge_input in enumerate(inputs) for k, is_in in enumerate(merge_input)
        }
        done = Coverage(places[row] for row, is_in in is_done.items() if is_in)
        last = [max((k + 1 for k, is_in in enumerate(merge_input) if is_in), default=0) for merge_input in inputs]
        assert done.holes == sum(last) - done.rows
        found: list[int] = []
        coverage = done.copy()
        cursor = stream.cursor(done.gaps())
        while (block := cursor.read(rows)) is not None:
            found += range(block.start, block.end)
            assert [block.decode(record).item_of(block.start)[1]["k"] for record in block.records[:1]] == [
                block.start % INPUT_STRIDE
            ]
            assert coverage.add(block.span)
        assert cursor.ended()
        assert (cursor.start, cursor.limit) == (sum(map(len, inputs)), size_of(stream) or 0)
        cursor.close()
        assert sorted(found) == [row for row, is_in in is_done.items() if not is_in]
        for at in range(len(inputs)):
            assert [row for row in found if row // INPUT_STRIDE == at] == sorted(
                row for row in found if row // INPUT_STRIDE == at
            )
        assert coverage.holes == 0
        assert (done.holes == 0) == all(merge_input == sorted(merge_input, reverse=True) for merge_input in inputs)


def test_rows_are_named_by_their_input_or_by_themselves(tmp_path: Path) -> None:
    rows = [{"n": 1}, {"_i": "7_0", "n": 2}, "text", {"_i": 5, "data": [6]}]
    stream = merged(tmp_path, rows, rows)
    found = {row_id: item for row_id, item, _ in rows_of(stream)}
    names = ["0", "7_0", "2", "5"]
    assert list(found) == [f"{name}_{merge_input}" for merge_input in "ab" for name in names]
    assert (found["0_b"], found["2_b"], found["5_a"]) == ({"n": 1, "_i": "0_b"}, "text", [6])
    assert [stream.inputs[1].original(row_id) for row_id in ("7_0_b", "5_b", "5_a", 5)] == ["7_0", 5, None, None]
    by_number = merged(tmp_path, rows, rows, naming="numbered")
    assert by_number.inputs[1].named(5) == 50001
    assert [by_number.inputs[1].original(row_id) for row_id in (50001, 50000, "5")] == [5, None, None]
    with pytest.raises(RowFormatError, match=r"a &=\+.jsonl, line 2: .*'7_0' has no numeric id"):
        list(rows_of(by_number))


def test_inputs_are_read_in_turn(tmp_path: Path) -> None:
    """M31: a long one keeps no other waiting; one that is written is read up to where its writer says."""
    stream = merged(tmp_path, [1] * 9, [2] * 9, [3] * 2)
    stream.inputs[2].stream.storage.remove(stream.inputs[2].stream.done_path)
    cursor = stream.cursor()
    inputs = [block.start // INPUT_STRIDE for _ in range(9) if (block := cursor.read(3))]
    assert sorted(inputs[:3]) == [0, 1, 2]
    assert sorted(inputs) == [0, 0, 0, 1, 1, 1, 2]
    assert not cursor.ended()
    with open(stream.inputs[2].stream.path, "a") as file:  # noqa: PTH123
        file.write("3\n")
    cursor.extend(6, stream.inputs[2].stream.place)
    block = cursor.read(3)
    assert block is not None
    assert (block.start, block.offset) == (2 * INPUT_STRIDE + 2, 2 * INPUT_STRIDE + 4)
    cursor.close()
