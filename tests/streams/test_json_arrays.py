"""JSON arrays in a file, streamed as rows, and files that are none."""

from __future__ import annotations

import gzip
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen import StreamFactory
from llm_datagen.config import DataConfig
from llm_datagen.errors import DatagenError, RowFormatError, StreamChangedError, StreamError
from llm_datagen.streams import cursor as cursor_module
from llm_datagen.streams.coverage import Coverage, Segment, Span

from ..kit.support import Bench, Stopping, lines
from ..pipeline.killing import run_killed_three_times

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ROWS = [{"n": n, "text": 'a "quote" \\ ] } [', "deep": [[{}], {"x": [1, None]}]} for n in range(200)]


def read(uri: str, segments: Any = None, into: list[Any] | None = None, **data: Any) -> list[Any]:
    """Return rows with their addresses: the number, the row, and where the next one begins."""
    stream = StreamFactory.create(uri).with_data(DataConfig(**data))
    found = [] if into is None else into
    with closing(stream.cursor(segments or [Segment(0, 0)], follow=False)) as cursor:
        while (block := cursor.read(7)) is not None:
            for at, record in enumerate(block.records):
                found.append((block.start + at, block.decode(record), block.offset_after(at + 1)))
    return found


def rows_of(path: Path | str, **data: Any) -> list[Any]:
    return [row for _, row, _ in read(str(path), **data)]


@settings(max_examples=60)
@given(
    rows=st.lists(VALUES, max_size=8),
    indent=st.none() | st.integers(0, 2),
    is_ascii=st.booleans(),
    block=st.integers(1, 40),
    mark=st.sampled_from(["", "\ufeff"]),
    tail=st.sampled_from(["", "\n", " \r\n\t "]),
)
def test_any_rows_come_back_from_an_array_however_it_is_laid_out_and_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Any],
    indent: int | None,
    is_ascii: bool,
    block: int,
    mark: str,
    tail: str,
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(mark + json.dumps(rows, indent=indent, ensure_ascii=is_ascii) + tail, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        whole = read(str(path))
        patch.setattr(cursor_module, "READ_BYTES", block)
        found = read(str(path))
        assert found == whole, "rows lie where they lie, whatever was read at once"
        assert [row for _, row, _ in found] == rows
        for number, _, end in found:  # each place is one to go on at
            assert read(str(path), [Segment(number + 1, end)]) == whole[number + 1 :]


@pytest.mark.parametrize("uri", ["{}/a.json", "json://{}/a.json", "{}/a.json.gz"])
def test_gaps_in_what_is_done_are_read_again(tmp_path: Path, uri: str) -> None:
    text = json.dumps(ROWS, indent=1).encode()
    (tmp_path / "a.json").write_bytes(text)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(text))
    ends = [end for _, _, end in read(uri.format(tmp_path))]
    done = Coverage([Span(0, 50, 0, ends[49]), Span(51, 120, ends[50], ends[119])])
    again = read(uri.format(tmp_path), list(done.gaps()))
    assert [(number, row) for number, row, _ in again] == [(n, ROWS[n]) for n in [50, *range(120, 200)]]


@pytest.mark.parametrize(
    ("text", "count", "why"),
    [
        ('[{"n": 0}, {"n": 1}', 1, "the array is torn"),
        ('[{"n": 0}, {"n": 1},', 2, "the array is torn"),
        ('[{"n": 0}, {"n": "x', 1, "the array is torn"),
        ("[", 0, "the array is torn"),
        ('[{"n": 0}, {"n": 1},]', 2, "an element is missing between ',' and ']'"),
        ('[{"n": 0},,{"n": 1}]', 1, "an element is missing between ',' and ',{"),
        ('[,{"n": 0}]', 0, "begins with a comma"),
        ('[{"n": 0}] {"n": 1}', 1, "behind the end of the array stands '{"),
        ('[{"n": 0}]\n[{"n": 1}]\n', 1, "behind the end of the array"),
        ('[{"n": 0} {"n": 1}]', 0, "',' or ']' must stand behind an element"),
        ('[{"n": 0}, {"n": [1}]', 1, "brackets of an element do not match"),
    ],
)
def test_an_array_that_is_wrong_somewhere_gives_its_rows_up_to_there_and_then_says_so(
    tmp_path: Path, text: str, count: int, why: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    found: list[Any] = []
    with pytest.raises(RowFormatError, match=rf"a\.json, line 1.*({why})"):
        read(f"json://{path}", into=found)
    assert [row for _, row, _ in found] == [{"n": n} for n in range(count)]


def test_elements_that_are_no_json_are_records_that_fail_by_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[1, {"a": nope}, {"b": [1, 2,]}, :, 2]')
    stream = StreamFactory.create(str(path))
    with closing(stream.cursor(follow=False)) as cursor:
        block = cursor.read(10)
    assert block is not None
    assert block.records == [b"1", b'{"a": nope}', b'{"b": [1, 2,]}', b":", b"2"]


def test_an_element_that_is_too_long_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"a": 1}, {"a": "x" * 5000}]))
    assert len(rows_of(path)) == 2
    with pytest.raises(RowFormatError, match=r"longer than the 1000 bytes .* max_record_bytes"):
        read(str(path), max_record_bytes=1000)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.json", '{"data": [{"n": 1}, {"n": 2}]}', r"rows in its 'data'.* jq -c '\.data\[\]' a\.json > rows\.jsonl"),
        ("a.json", '{\n  "my rows": [\n {"n": 1}]}\n', r"""jq -c '\."my rows"\[\]'"""),
        ("a.json", '{\n "n": 1\n}\n', "over several lines"),
        ("a.jsonl", '[\n{"n": 1}]', "read it with json://, or name it .json"),
        ("a.jsonl", '{\n "n": 1\n}\n', "over several lines"),
    ],
)
def test_what_is_no_rows_is_refused_with_what_to_do(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(StreamError, match=why):
        StreamFactory.create(str(tmp_path / name)).check_source()


@pytest.mark.parametrize(
    "text", ['{"n": 1}\n{"n": 2}\n', '{"messages": [{"role": "user"}]}', '{"data": [1]}\n{"data": [2]}\n', "1\n2\n", ""]
)
def test_json_lines_in_a_json_file_are_read_as_before(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    StreamFactory.create(str(path)).check_source()
    assert rows_of(path) == [json.loads(line) for line in text.splitlines()]


def test_what_is_no_array_is_told_where_an_array_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1}\n')
    with pytest.raises(RowFormatError, match=r"begins with '\['"):
        rows_of(f"json://{path}")
    for text in ("", " \n", "[]", "\ufeff[ \n]\n"):
        path.write_text(text)
        assert rows_of(f"json://{path}") == []


def test_a_json_output_is_json_lines_and_is_read_as_that(bench: Bench) -> None:
    output = bench.folder / "out.json"
    bench.give([{"n": 1}])
    bench.pipeline([lambda item: [[1, item["n"]]]], output_uri=str(output)).create("a").run()
    assert [row["data"] for row in lines(output)] == [[1, 1]]
    with pytest.raises(DatagenError, match=r"json://.* is only read: a JSON array cannot be appended to"):
        bench.pipeline([len], output_uri=f"json://{bench.folder}/b.json").create("b")


@pytest.mark.parametrize("stop", [0, 1, 77, 199])
def test_a_run_goes_on_in_the_middle_of_an_array(bench: Bench, stop: int) -> None:
    path = bench.folder / "in.json"
    path.write_text(json.dumps(ROWS, indent=2))
    given = {"input_uri": str(path), "parallel_size": 3}
    bench.pipeline([Stopping(stop)], **given).create("a").run()
    bench.pipeline([Stopping()], **given).resume("a").run()
    assert sorted((row["n"], row["_i"]) for row in lines(bench.output)) == [(n, n) for n in range(200)]


def test_a_torn_array_ends_the_run_and_is_read_on_when_it_was_mended(bench: Bench) -> None:
    path = bench.folder / "in.json"
    text = json.dumps(ROWS)
    path.write_text(text[: len(text) * 2 // 3])
    pipeline = bench.pipeline([Stopping()], input_uri=str(path)).create("a")
    with pytest.raises(DatagenError, match="the array is torn"):
        pipeline.run()
    path.write_text(text)
    bench.pipeline([Stopping()], input_uri=str(path)).resume("a").run()
    assert [row["n"] for row in lines(bench.output)] == list(range(200))


def test_an_array_that_was_edited_where_it_was_read_is_refused(bench: Bench) -> None:
    path = bench.folder / "in.json"
    path.write_text(json.dumps(ROWS))
    bench.pipeline([Stopping(100)], input_uri=str(path)).create("a").run()
    path.write_text(json.dumps([{"n": -1}, *ROWS[1:]]))
    with pytest.raises(StreamChangedError, match=r"in\.json"):
        bench.pipeline([Stopping()], input_uri=str(path)).resume("a")


KILLED = """
import sys
from pathlib import Path
from llm_datagen import UnifiedPipeline
folder, action = Path(sys.argv[1]), sys.argv[2]
def passed(item):
    return {"n": item["n"]}
pipeline = UnifiedPipeline(
    [passed], str(folder / "in.json"), str(folder / "out.jsonl"), results_dir=str(folder / "results"),
    writer_config={"flush_batch_size": 50, "fsync": "never"}, rate=4000,
)
(pipeline.create if action == "create" else pipeline.resume)("a").run(progress=False)
"""


def test_a_run_that_is_killed_in_the_middle_of_an_array_goes_on_there(bench: Bench) -> None:
    script = bench.folder / "job.py"
    script.write_text(KILLED)
    (bench.folder / "in.json").write_text(json.dumps([{"n": n, "t": "x],[" * 50} for n in range(4000)], indent=1))
    run_killed_three_times(script, bench.folder, bench.output, seed=3)
    assert [(row["n"], row["_i"]) for row in lines(bench.output)] == [(n, n) for n in range(4000)]
