"""Parts of an input: runs on them have, together, the rows of one run on all of it."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_datagen.runs.store import RunFolder
from llm_datagen.runs.verify import verify
from llm_datagen.shards.plan import ShardPlan, plan_shards
from llm_datagen.streams import Stream, StreamFactory

from ..kit.support import Bench, lines


def mark(row: dict[str, Any]) -> dict[str, Any]:
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
    "parquet": parquet,
    "one row group": one_group,
    "arrow": arrow,
    "many": many_files,
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


def rows_of_parts(bench: Bench, plan: ShardPlan, **settings: Any) -> list[Any]:
    rows = []
    for each in plan.ranges:
        settings |= {"input_uri": plan.part_uri(each), "output_uri": f"{bench.folder}/out-{each.number}.jsonl"}
        report = bench.pipeline([mark], **settings).create(f"part-{each.number}").run()
        assert (report.status, report.rows_out) == ("completed", each.rows)
        run_state = RunFolder(bench.results, f"part-{each.number}").load()
        assert [account.findings for account in verify(run_state)] == [[]]
        rows += lines(bench.folder / f"out-{each.number}.jsonl")
    return rows


@pytest.mark.sampled(12)
@pytest.mark.parametrize("shards", [1, 2, 3, 7])
@pytest.mark.parametrize("kind", INPUTS)
def test_parts_have_together_the_rows_of_the_whole_with_their_ids(bench: Bench, kind: str, shards: int) -> None:
    """S2, C1: each row once, named as in one run on all of it; each part seals, and verifies clean."""
    uri = INPUTS[kind](bench.folder)
    settings = {"source_column": "from"}
    bench.pipeline([mark], input_uri=uri, **settings).create("whole").run()
    assert rows_of_parts(bench, planned(uri, shards), **settings) == lines(bench.output)
