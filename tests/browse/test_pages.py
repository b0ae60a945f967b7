"""A page of a stream has the rows that reading from the beginning finds there, whatever the stream is."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import StreamFactory
from llm_datagen.errors import StreamError
from llm_datagen.runs.browse.absolute import with_absolute_paths
from llm_datagen.runs.browse.pages import Browser, Page
from llm_datagen.runs.browse.run_streams import RunStream, Seen, find_stream, streams_of_run
from llm_datagen.runs.store import RunFolder
from llm_datagen.shards.whole import Whole

from ..kit.s3 import S3Bucket
from ..kit.shards import in_shards
from ..kit.support import Bench, lines, numbered, write_jsonl

ROWS: list[dict[str, Any]] = [
    {"n": number, "text": f"row {number} " + "ä" * (number % 40) * 20} for number in range(9000)
]


def run_state(uri: str, output: Path) -> dict[str, Any]:
    entry = {"node_id": "node_0", "input_uri": uri, "output_uri": f"jsonl://{output}", "is_root": True}
    return {"nodes": [{**entry, "input_values": True}]}


def stream_of(uri: str, folder: Path) -> RunStream:
    return streams_of_run(run_state(uri, folder / "out.jsonl"))[0]


def numbers(page: Page) -> list[int]:
    return [row.item["n"] if isinstance(row.item["n"], int) else int(row.item["n"]) for row in page.rows]


def as_jsonl(folder: Path) -> str:
    return f"jsonl://{write_jsonl(folder / 'in.jsonl', ROWS)}"


def with_blank_lines(folder: Path) -> str:
    """JSON lines with a byte order mark, blank lines anywhere, and no newline at the end."""
    text = "\n\r\n\n".join(("\n" if row["n"] % 7 == 0 else "") + json.dumps(row) for row in ROWS)
    (folder / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    return f"jsonl://{folder}/in.jsonl"


def as_csv(folder: Path) -> str:
    """CSV whose fields hold line ends."""
    lines_of = "".join(f'{row["n"]},"{row["text"]}\n""x"""\n' for row in ROWS)
    (folder / "in.csv").write_text("n,text\n" + lines_of)
    return f"csv://{folder}/in.csv"


def as_gzip(folder: Path) -> str:
    """Two members."""
    halves = ROWS[:4000], ROWS[4000:]
    data = [gzip.compress("".join(json.dumps(row) + "\n" for row in half).encode()) for half in halves]
    (folder / "in.jsonl.gz").write_bytes(b"".join(data))
    return f"jsonl://{folder}/in.jsonl.gz"


def as_files(folder: Path) -> str:
    (folder / "in").mkdir()
    for number in range(0, 9000, 1000):
        write_jsonl(folder / "in" / f"{number:05}.jsonl", ROWS[number : number + 1000])
    return f"jsonl://{folder}/in/*.jsonl"


def as_parquet(folder: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS), folder / "in.parquet", row_group_size=700)
    return f"parquet://{folder}/in.parquet"


def as_parquet_files(folder: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "in").mkdir()
    for number in range(0, 9000, 3000):
        pq.write_table(pa.Table.from_pylist(ROWS[number : number + 3000]), folder / "in" / f"{number:05}.parquet")
    return f"parquet://{folder}/in/*.parquet"


FORMATS: list[Callable[[Path], str]] = [
    as_jsonl,
    with_blank_lines,
    as_csv,
    as_gzip,
    as_files,
]
ALL = [*FORMATS, *(pytest.param(make, marks=pytest.mark.slow) for make in (as_parquet, as_parquet_files))]


@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_a_page_begins_at_any_row(make: Callable[[Path], str], tmp_path: Path) -> None:
    """In any order: the index is there in part, or not, when a row is wanted."""
    browser, stream = Browser(), stream_of(make(tmp_path), tmp_path)
    for start in (5000, 0, 8990, 4999, 1000, 8999, 2999, 7500):
        page = browser.page(stream, start, 20)
        assert numbers(page) == list(range(start, min(start + 20, 9000)))
        assert [(row.number, row.id) for row in page.rows] == [(each, each) for each in numbers(page)]
        assert page.next == (start + 20 if start + 20 < 9000 else None)
    end = browser.page(stream, 9000, 20)
    assert (end.rows, end.total, end.is_total_exact, end.next) == ([], 9000, True, None)


@pytest.mark.slow
@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_a_search_goes_on_where_it_ended(make: Callable[[Path], str], tmp_path: Path) -> None:
    """A request is bounded in rows and in time; all of them together find each row once."""
    browser, stream = Browser(), stream_of(make(tmp_path), tmp_path)
    found: list[int] = []
    start: int | None = 0
    requests = 0
    while start is not None:
        page = browser.search(stream, "ROW 77", start, 4, seconds=0)
        found += numbers(page)
        assert page.searched_to == (9000 if page.next is None else page.next)
        start, requests = page.next, requests + 1
    assert found == [number for number in range(9000) if str(number).startswith("77")]
    assert requests > 4


def test_what_json_escapes_is_found(tmp_path: Path) -> None:
    rows = [{"n": 0, "text": 'say "hi"\nÄ'}, {"n": 1, "text": "say hi"}]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    browser, stream = Browser(), stream_of(f"jsonl://{path}", tmp_path)
    for text, expected in [('"hi"\n', [0]), ("Ä", [0]), ("SAY", [0, 1]), ("Say h", [1])]:
        assert numbers(browser.search(stream, text)) == expected


def test_a_stream_that_grows(tmp_path: Path) -> None:
    """Only what is committed is shown; an index that is there goes on."""
    output = StreamFactory.create(f"jsonl://{tmp_path}/out.jsonl")
    stream = find_stream(streams_of_run(run_state(as_jsonl(tmp_path), tmp_path / "out.jsonl")), "node_0")
    browser = Browser()
    with pytest.raises(StreamError, match=r"out\.jsonl is not there: nothing was written to it yet"):
        browser.page(stream)
    with output.get_writer() as writer:
        for begin in range(0, 9000, 1000):
            writer.write(ROWS[begin : begin + 1000])
            with Path(output.path).open("ab") as file:  # what no commit speaks of
                file.write(b'{"n": -1}\n')
            page = browser.page(stream, begin + 995, 50)
            assert numbers(page) == list(range(begin + 995, begin + 1000))
            assert (page.total, page.next) == (begin + 1000, None)
            os.truncate(output.path, Path(output.path).stat().st_size - len(b'{"n": -1}\n'))
    assert stream.look().is_sealed


def test_another_stream_at_the_same_place_is_noticed(tmp_path: Path) -> None:
    browser, stream = Browser(), stream_of(as_jsonl(tmp_path), tmp_path)
    assert numbers(browser.page(stream, 8000, 2)) == [8000, 8001]
    write_jsonl(tmp_path / "in.jsonl", [{**row, "more": "x" * 50} for row in ROWS])
    assert numbers(browser.page(stream, 8000, 2)) == [8000, 8001]
    write_jsonl(tmp_path / "in.jsonl", ROWS[:10])
    assert numbers(browser.page(stream, 8, 4)) == [8, 9]


def test_streams_that_are_gone_are_refused_by_name(tmp_path: Path) -> None:
    streams = streams_of_run(run_state(as_jsonl(tmp_path), tmp_path / "out.jsonl"))
    (tmp_path / "in.jsonl").unlink()
    with pytest.raises(StreamError, match=r"in\.jsonl is not there: the input was moved or deleted; put it back"):
        Browser().page(streams[0])
    output = StreamFactory.create(f"jsonl://{tmp_path}/out.jsonl")
    with output.get_writer() as writer:
        writer.write(ROWS[:5])
    (tmp_path / "out.jsonl").unlink()
    with pytest.raises(StreamError, match=r"out\.jsonl is gone, though rows of it were committed; restore it"):
        Browser().page(streams[1])
    in_memory = run_state("memory://of-another-process", tmp_path / "out.jsonl")
    with pytest.raises(StreamError, match="memory of the process of the run"):
        Browser().page(streams_of_run(in_memory)[0])


def test_dead_letters_that_are_gone_are_refused_by_name(bench: Bench) -> None:
    bench.give(numbered(10))
    bench.pipeline([picky], on_error="dead_letter").create("one").run()
    stream = find_stream(streams_of_run(bench.run_state("one")), "node_0:dead_letters")
    Path(f"{bench.output}.errors.jsonl").unlink()
    with pytest.raises(StreamError, match=r"out\.jsonl\.errors\.jsonl is gone, though rows of it were committed"):
        Browser().page(stream)


def test_a_stream_that_grows_while_it_is_read_has_no_row_behind_its_total(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_of(as_jsonl(tmp_path), tmp_path)
    monkeypatch.setattr(RunStream, "look", lambda self: Seen(10, is_sealed=False, bytes=100))  # as it was before
    page = Browser().page(stream, 20, 5)
    assert (numbers(page), page.total, page.next) == ([20, 21, 22, 23, 24], 25, 25)
    assert Browser().page(stream, 9500, 5).total == 10


def picky(row: dict[str, Any]) -> dict[str, Any] | None:
    if row["n"] % 10 == 7:
        raise ValueError(f"no row {row['n']}")
    return row if row["n"] % 3 else None


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return row


def test_the_streams_of_a_run(bench: Bench) -> None:
    bench.give(numbered(100))
    bench.pipeline([picky, plain], on_error="dead_letter").create("one").run()
    state = bench.run_state("one")
    streams = streams_of_run(state)
    assert [(stream.key, stream.kind, stream.node_id, stream.look().rows) for stream in streams] == [
        ("input:0", "input", None, None),
        ("node_0", "between", "node_0", 59),
        ("node_0:dead_letters", "dead_letters", "node_0", 10),
        ("node_1", "output", "node_1", 59),
        ("node_1:dead_letters", "dead_letters", "node_1", 0),
    ]
    dead = Browser().page(find_stream(streams, "node_0:dead_letters"), 3, 2)
    assert [(row.number, row.id, row.item["input"]["n"]) for row in dead.rows] == [(3, 37, 37), (4, 47, 47)]
    assert (dead.total, dead.next, "check" in dead.rows[0].item) == (10, 5, False)
    assert Browser().page(find_stream(streams, "node_1:dead_letters")).rows == []
    with pytest.raises(StreamError, match="no stream 'node_7'; it has input:0, node_0, "):
        find_stream(streams, "node_7")


def states_of(whole: Whole) -> list[Mapping[str, Any]]:
    return [shard.state for shard in whole.shards if shard.state]


@pytest.mark.parametrize("merge", [pytest.param("shards", marks=pytest.mark.slow), "concat"])
def test_a_run_in_shards_is_browsed_as_one(bench: Bench, merge: Any) -> None:
    bench.give(numbered(100))
    pipeline = bench.pipeline([plain, picky], ordered=True, on_error="dead_letter")
    in_shards(pipeline, shards=3, merge=merge).create("one").run()
    whole = Whole.find(RunFolder(bench.results, "one"))
    assert whole is not None
    streams = streams_of_run(whole.see().state, states_of(whole))
    browser, kept = Browser(), [n for n in range(100) if n % 10 != 7 and n % 3]
    for key in ("node_0", "node_1"):
        expected = kept if key == "node_1" else list(range(100))
        for start in (30, 0, 59):
            page = browser.page(find_stream(streams, key), start, 25)
            assert numbers(page) == expected[start : start + 25]
            assert [row.number for row in page.rows] == list(range(start, min(start + 25, len(expected))))
            assert page.total == len(expected)
    dead = browser.page(find_stream(streams, "node_1:dead_letters"))
    assert [row.id for row in dead.rows] == list(range(7, 100, 10))
    assert numbers(browser.page(find_stream(streams, "input:0"), 97)) == [97, 98, 99]


def test_relative_paths_count_from_a_directory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.give(numbered(20))
    monkeypatch.chdir(bench.folder)
    bench.pipeline([plain], input_uri="jsonl://in.jsonl", output_uri="out.jsonl").create("one").run()
    monkeypatch.chdir("/")
    state = with_absolute_paths(bench.run_state("one"), bench.folder)
    for key in ("input:0", "node_0"):
        assert numbers(Browser().page(find_stream(streams_of_run(state), key), 15)) == [15, 16, 17, 18, 19]
    merged = "merge://named?left.static=jsonl://a.jsonl&right=s3://b/c.jsonl"
    entry = {**state["nodes"][0], "input_uri": merged, "output_uri": "cycle://x/*.parquet?times=2"}
    found = with_absolute_paths({"nodes": [entry]}, "/home")["nodes"][0]
    assert found["input_uri"] == "merge://named?left.static=jsonl:///home/a.jsonl&right=s3://b/c.jsonl"
    assert found["output_uri"] == "cycle:///home/x/*.parquet?times=2"


@pytest.mark.slow
def test_rows_in_an_object_store(s3: S3Bucket, tmp_path: Path) -> None:
    uri = f"s3://{s3.name}/out.jsonl"
    output = StreamFactory.create(uri)
    with output.get_writer() as writer:
        for begin in range(0, 9000, 3000):
            writer.write(ROWS[begin : begin + 3000])
            state = {"nodes": [{**run_state(as_jsonl(tmp_path), tmp_path)["nodes"][0], "output_uri": uri}]}
            page = Browser().page(find_stream(streams_of_run(state), "node_0"), begin + 2990)
            assert numbers(page) == list(range(begin + 2990, begin + 3000))
            assert page.total == begin + 3000
    assert len(lines(tmp_path / "in.jsonl")) == 9000


def test_rows_are_counted_on_while_nobody_waits(tmp_path: Path) -> None:
    rows = 300_000
    write_jsonl(tmp_path / "in.jsonl", ({"n": n} for n in range(rows)))
    stream, browser = stream_of(f"jsonl://{tmp_path}/in.jsonl", tmp_path), Browser()
    assert browser.page(stream).total is None
    browser.count_on(stream, seconds=0)
    assert browser.page(stream).total is None  # some more, in any case
    browser.count_on(stream, seconds=600)
    assert browser.page(stream).total == rows
    assert numbers(browser.page(stream, rows - 2)) == [rows - 2, rows - 1]
