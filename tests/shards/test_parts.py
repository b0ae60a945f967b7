"""Parts of an input: runs on them have, together, the rows of one run on all of it."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_datagen.config import DataConfig
from llm_datagen.errors import ConfigError, RowFormatError, StreamBusyError, StreamMissingError
from llm_datagen.runs.store import RunFolder
from llm_datagen.runs.verify import verify
from llm_datagen.shards.plan import ShardPlan, plan_shards
from llm_datagen.streams import Stream, StreamFactory
from llm_datagen.streams.inputs.file_set_cursor import FILE_STRIDE
from llm_datagen.streams.storage.compression import compression_of

from ..kit.support import Bench, write_jsonl


def seen(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "seen": True}


def json_lines(rows: int) -> str:
    return "".join(json.dumps({"n": n, "text": "x" * (n % 7)}) + "\n" for n in range(rows))


def quoted_csv(rows: int) -> str:
    return "n,text\n" + "".join(f'{n},"a ""{n}""\nb, c"\n' for n in range(rows))


def table(rows: int) -> pa.Table:
    return pa.table({"n": list(range(rows)), "text": [str(n) for n in range(rows)]})


def many_files(folder: Path) -> str:
    (folder / "many").mkdir()
    for number in range(5):
        text = "".join(f'{{"n": {number * 7 + n}}}\n' for n in range(7)).encode()
        if number % 2:
            (folder / "many" / f"{number}.jsonl").write_bytes(text)
        else:
            (folder / "many" / f"{number}.jsonl.gz").write_bytes(gzip.compress(text))
    pq.write_table(table(20), folder / "many" / "9.parquet", row_group_size=4)
    return f"{folder}/many"


def files_without_rows(folder: Path) -> str:
    for number in range(3):
        (folder / f"{number}.csv").write_text("n,text\n")
    return f"csv://{folder}/*.csv"


def text_file(name: str, text: str, pack: Callable[[bytes], bytes] = bytes) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        (folder / name).write_bytes(pack(text.encode()))
        return str(folder / name)

    return write


def parquet(folder: Path) -> str:
    pq.write_table(table(50), folder / "in.parquet", row_group_size=7)
    return f"{folder}/in.parquet"


def one_group(folder: Path) -> str:
    pq.write_table(table(50), folder / "in.parquet")
    return f"{folder}/in.parquet?columns=n"


def arrow(folder: Path) -> str:
    with pa.ipc.new_stream(folder / "in.arrow", table(1).schema) as writer:
        writer.write_table(table(50), max_chunksize=6)
    return f"{folder}/in.arrow"


def saved_dataset(folder: Path) -> str:
    """Save a data set as the library `datasets` does: Arrow files, and their order."""
    (folder / "set").mkdir()
    names = ["data-1.arrow", "data-0.arrow"]
    for number, name in enumerate(names):
        with pa.ipc.new_stream(folder / "set" / name, table(1).schema) as writer:
            writer.write_table(table(50).slice(25 * number, 25), max_chunksize=4)
    (folder / "set" / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return f"{folder}/set"


INPUTS: dict[str, Callable[[Path], str]] = {
    "jsonl": text_file("in.jsonl", json_lines(50)),
    "with ids": text_file("in.jsonl", "".join(f'{{"_i": "row-{n}", "n": {n}}}\n' for n in range(50))),
    "csv": text_file("in.csv", "n,text\n" + "".join(f"{n},t{n}\n" for n in range(50))),
    "quoted csv": text_file("in.csv", quoted_csv(50)),
    "text": text_file("in.txt", "\n".join(f"line {n}" * (n % 3) for n in range(50))),
    "array": text_file("in.json", json.dumps([{"n": n} for n in range(50)], indent=1)),
    "gz": text_file("in.jsonl.gz", json_lines(500), gzip.compress),
    "gz members": text_file(
        "in.jsonl.gz", json_lines(500), lambda data: b"".join(gzip.compress(line) for line in data.splitlines(True))
    ),
    "bz2": text_file("in.csv.bz2", quoted_csv(50), bz2.compress),
    "xz": text_file("in.txt.xz", "\n".join(f"line {n}" for n in range(50)), lzma.compress),
    "zst": text_file("in.jsonl.zst", json_lines(500), compression_of(".zst").compress),
    "parquet": parquet,
    "saved data set": saved_dataset,
    "one row group": one_group,
    "arrow": arrow,
    "many": many_files,
    "many without rows": files_without_rows,
    "no final newline": text_file("in.jsonl", json_lines(9)[:-1]),
    "blank lines": text_file("in.jsonl", "\n\r\n" + json_lines(9).replace("\n", "\n\n\r\n") + "\r"),
    "crlf": text_file("in.csv", quoted_csv(9).replace("\n", "\r\n")),
    "empty": text_file("in.jsonl", ""),
    "one row": text_file("in.jsonl", '{"n": 0}'),
    "header only": text_file("in.csv", "n,text\n"),
    "a huge line": text_file("in.jsonl", json_lines(9) + json.dumps({"n": "x" * 100_000}) + "\n" + json_lines(9)),
    "a huge first line": text_file("in.jsonl", json.dumps({"n": "x" * 100_000}) + "\n" + json_lines(9)),
    "mark of order": text_file("in.jsonl", "\ufeff" + json_lines(9)),
}


def planned(uri: str, shards: int, grain: int = 16) -> ShardPlan:
    source = StreamFactory.source(uri)
    assert isinstance(source, Stream)
    plan = plan_shards(source, shards, grain)
    assert len(plan.ranges) == shards
    assert ShardPlan.parse(json.loads(json.dumps(plan.as_dict()))) == plan
    return plan


def rows_of_parts(bench: Bench, plan: ShardPlan, **settings: Any) -> bytes:
    """Run each part; return their outputs, one behind the other."""
    rows = b""
    for each in plan.ranges:
        settings |= {"input_uri": plan.part_uri(each), "output_uri": f"{bench.folder}/out-{each.number}.jsonl"}
        report = bench.pipeline([seen], **settings).create(f"part-{each.number}").run()
        assert (report.status, report.rows_out) == ("completed", each.rows)
        run_state = RunFolder(bench.results, f"part-{each.number}").load()
        assert [account.findings for account in verify(run_state)] == [[]]
        rows += (bench.folder / f"out-{each.number}.jsonl").read_bytes()
    return rows


@pytest.mark.sampled(3)
@pytest.mark.parametrize("shards", [1, 2, 3, 7])
@pytest.mark.parametrize("kind", INPUTS)
def test_parts_have_together_the_rows_of_the_whole_with_their_ids(bench: Bench, kind: str, shards: int) -> None:
    """S2, C1: each row once, named as in one run on all of it; each part seals, and verifies clean."""
    uri = INPUTS[kind](bench.folder)
    settings = {"source_column": "from"}
    bench.pipeline([seen], input_uri=uri, **settings).create("whole").run()
    assert rows_of_parts(bench, planned(uri, shards), **settings) == bench.output.read_bytes()


def test_settings_of_the_data_apply_to_parts(bench: Bench) -> None:
    """S1: another encoding, separator and quote, and no header."""
    (bench.folder / "in.csv").write_bytes("".join(f"{n};'é;\n{n}'\n" for n in range(40)).encode("latin-1"))
    data = DataConfig(encoding="latin-1", separator=";", quote="'", header=["n", "text"], dtypes={"n": "int"})
    uri = f"{bench.folder}/in.csv"
    settings = {"data_config": data}
    bench.pipeline([seen], input_uri=uri, **settings).create("whole").run()
    source = StreamFactory.source(uri)
    assert isinstance(source, Stream)
    whole = bench.output.read_bytes()
    last = json.loads(whole.decode("latin-1").splitlines()[-1])
    assert last == {"n": 39, "text": "é;\n39", "_i": 39, "seen": True}
    assert rows_of_parts(bench, plan_shards(source.with_data(data), 3), **settings) == whole


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", ["jsonl", "quoted csv", "array", "gz members", "bz2", "parquet", "arrow", "many"])
def test_a_range_may_be_split_at_any_of_its_cuts(bench: Bench, kind: str) -> None:
    uri = INPUTS[kind](bench.folder)
    plan = planned(uri, 2, 4)
    cuts = {each.number: plan.cuts_in(each) for each in plan.ranges}
    assert all(cuts.values())
    for number, cut in [(number, cut) for number, some in cuts.items() for cut in reversed(some)]:
        plan = plan.split(number, cut)
    bench.pipeline([seen], input_uri=uri, source_column="from").create("whole").run()
    assert rows_of_parts(bench, plan, source_column="from") == bench.output.read_bytes()


def test_ranges_are_about_equal_and_those_of_too_few_rows_are_empty(tmp_path: Path) -> None:
    def rows_of(text: str, shards: int) -> list[int]:
        (tmp_path / "in.jsonl").write_text(text)
        return [each.rows for each in planned(f"{tmp_path}/in.jsonl", shards).ranges]

    assert rows_of('{"n": 1}\n' * 1600, 4) == [400, 400, 400, 400]
    assert rows_of('{"n": 1}\n' * 3, 5) == [1, 1, 1, 0, 0]
    huge, *others = rows_of(f'"{"x" * 9000}"\n' + '{"n": 1}\n' * 1000, 5)
    assert huge == 1
    assert sum(others) == 1000
    assert all(240 < rows < 260 for rows in others)


def test_tables_are_cut_at_row_groups_that_are_near(tmp_path: Path) -> None:
    pq.write_table(table(1000), tmp_path / "in.parquet", row_group_size=110)
    plan = planned(f"{tmp_path}/in.parquet", 3, 1)
    assert [each.first.row for each in plan.ranges] == [0, 330, 660]
    assert [each.first.row for each in planned(f"{tmp_path}/in.parquet", 30, 1).ranges][:4] == [0, 33, 66, 110]


def test_small_files_are_cut_only_where_they_begin(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.jsonl").write_text('{"n": 1}\n' * 10)
    plan = planned(f"{tmp_path}/*.jsonl", 4, 4)
    assert [(each.first.row, each.first.at // FILE_STRIDE) for each in plan.ranges] == [
        (0, 0), (100, 10), (200, 20), (300, 30)
    ]  # fmt: skip
    assert {cut.at % FILE_STRIDE for cut in plan.cuts} == {0}
    assert [len(plan.fingerprint_of(each)["files"]) for each in plan.ranges] == [10, 10, 10, 10]


@pytest.mark.slow
def test_a_part_of_a_compressed_file_is_found_without_unpacking_what_is_before(tmp_path: Path) -> None:
    """The plan keeps where the member begins; only the beginning, which says the format, is read besides."""
    path = tmp_path / "in.jsonl.gz"
    rows = [json.dumps({"n": n, "text": f"{n:04}" * 5000}) + "\n" for n in range(400)]
    path.write_bytes(b"".join(gzip.compress(row.encode(), 1) for row in rows))
    plan = planned(str(path), 4)
    last = plan.ranges[3]
    assert len(last.first.seek) == 2
    assert last.first.seek[0] <= last.first.at
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    path.write_bytes(data)
    part = StreamFactory.create(plan.part_uri(last))
    found = [row["n"] for some, _ in part.get_reader(follow=False).read(100) for row in some]
    assert found == list(range(last.first.row, 400))
    assert last.first.row > 250


def test_planning_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    with path.open("wb") as file:
        for number in range(100):
            file.seek(number * 2_000_000)
            file.write(b"one\ntwo\n")
        file.truncate(200_000_000)
    tracemalloc.start()
    try:
        plan = planned(str(path), 4)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert plan.rows == 201
    assert [each.first.row for each in plan.ranges] == [0, 51, 101, 151]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("part://in.jsonl", "in.jsonl: a part of an input is written as part://URI"),
        ("part://in.jsonl?rows=3-2&at=0-9", "a part cannot end before it begins"),
        ("part://in.jsonl?rows=1-2&at=9-0", "a part cannot end before it begins"),
        ("part://cycle://in.jsonl?rows=1-2&at=0-9", "cycle://in.jsonl has no parts; give a file, or files"),
        ("part://part://in.jsonl?rows=1-2&at=0-9?rows=1-2&at=0-9", "has no parts; give a file, or files"),
    ],
)
def test_what_is_no_part_is_refused(uri: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        StreamFactory.create(uri)


def test_what_cannot_be_split_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", [{"n": 1}])
    for uri in (f"cycle://{path}?times=2", f"merge://named?a={path}&b={path}"):
        with pytest.raises(ConfigError, match="cannot be split into shards; write its rows to a file first"):
            plan_shards(StreamFactory.source(uri), 2)
    with pytest.raises(StreamMissingError, match=r"away\.jsonl does not exist; check the path of the input"):
        planned(f"{tmp_path}/away.jsonl", 2)
    with pytest.raises(StreamMissingError, match="there is no file in"):
        planned(f"{tmp_path}/*.csv", 2)
    (tmp_path / "torn.json").write_text("[1, 2")
    with pytest.raises(RowFormatError, match="the array is torn"):
        planned(f"{tmp_path}/torn.json", 2)
    (tmp_path / "in.jsonl.commits").touch()
    with pytest.raises(StreamBusyError, match="unfinished output of another run"):
        planned(str(path), 2)
