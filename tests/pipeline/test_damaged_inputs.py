"""Inputs that are damaged in their middle, swell when they are unpacked, cannot be read, or are replaced in mid-run."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import NodeFailedError
from llm_datagen.errors import DatagenError, StreamChangedError

from ..kit.lazy import pa, pq
from ..kit.programs import run as run_program
from ..kit.support import Bench, Stopping, lines, numbered

ROWS = 6000


def rows_of(count: int = ROWS) -> list[dict[str, Any]]:
    chance = random.Random(1)
    return [{"n": n, "t": chance.randbytes(20).hex()} for n in range(count)]


def packed(rows: list[dict[str, Any]]) -> bytes:
    return gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode(), mtime=0)


def damage(path: Path, share: float) -> bytes:
    """Fill some bytes of a file with zeros; return what it was."""
    whole = path.read_bytes()
    at = int(len(whole) * share)
    path.write_bytes(whole[:at] + bytes(50) + whole[at + 50 :])
    return whole


def fail(bench: Bench, uri: str) -> str:
    """Run until it fails; return what is said."""
    with pytest.raises(NodeFailedError) as error:
        bench.pipeline([Stopping()], input_uri=uri).create("a").run()
    return str(error.value)


def test_a_table_that_is_damaged_in_its_middle_says_what_is_kept_and_what_to_do(bench: Bench) -> None:
    path = bench.folder / "in.parquet"
    pq.write_table(pa.Table.from_pylist(rows_of()), path, row_group_size=1000, write_page_checksum=True)
    whole = damage(path, 0.6)
    said = fail(bench, str(path))
    assert "in.parquet cannot be read behind row" in said
    assert "the file is damaged, and what is done is kept. Replace it with a whole one, and resume;" in said
    done = len(lines(bench.output))
    assert 0 < done < ROWS
    path.write_bytes(whole)
    with pytest.raises(StreamChangedError) as error:
        bench.pipeline([Stopping()], input_uri=str(path)).resume("a").run()
    assert str(error.value) == (
        f"{path} was edited: rows were read from it before the run was interrupted, and the file must stay as it was, "
        "as those rows, which are kept, could be others now. Restore it; or, if it was damaged and is mended, start "
        "afresh with if_exists='overwrite', which does all rows again"
    )
    assert len(lines(bench.output)) == done, "a refusal changes nothing"
    report = bench.pipeline([Stopping()], input_uri=str(path)).create("a", if_exists="overwrite").run()
    assert report.status == "completed"
    assert [(row["n"], row["t"]) for row in lines(bench.output)] == [(row["n"], row["t"]) for row in rows_of()]


def test_gzip_that_is_damaged_says_from_where_rows_may_be_wrong(bench: Bench) -> None:
    """Only the end of a member tells that it was damaged: rows of it may have been read before, and be wrong."""
    path = bench.folder / "in.jsonl.gz"
    first = packed(rows_of(3000))
    path.write_bytes(first + packed(rows_of(3000)))
    whole = damage(path, 0.75)
    said = fail(bench, str(path))
    if "this is not a row" not in said:  # else the damage made a line that is none
        assert "the gzip data is damaged (Error -3" in said
        assert f"perhaps from byte {len(first)} on, where the part begins that its checksum is of" in said
        assert "start afresh with if_exists='overwrite'; if none of its rows were done, resume" in said
    path.write_bytes(whole)
    report = bench.pipeline([Stopping()], input_uri=str(path)).create("a", if_exists="overwrite").run()
    assert report.rows_out == ROWS


def test_a_damaged_file_of_which_no_row_was_done_is_replaced_and_the_run_goes_on(bench: Bench) -> None:
    (bench.folder / "in").mkdir()
    (bench.folder / "in/a.jsonl.gz").write_bytes(packed(rows_of(2000)))
    second = bench.folder / "in/b.jsonl.gz"
    second.write_bytes(packed(rows_of(2000)))
    whole = damage(second, 0.01)
    assert "b.jsonl.gz" in fail(bench, f"{bench.folder}/in/*.jsonl.gz")
    second.write_bytes(whole)
    report = bench.pipeline([Stopping()], input_uri=f"{bench.folder}/in/*.jsonl.gz").resume("a").run()
    assert report.status == "completed"
    assert [row["n"] for row in lines(bench.output)] == [*range(2000), *range(2000)]


BOMB = """
import sys
from pathlib import Path
from llm_datagen import UnifiedPipeline

pipeline = UnifiedPipeline(
    [lambda row: row], sys.argv[1], "out.jsonl", results_dir="r", log_file=None,
    on_error="dead_letter", data_config={"max_record_bytes": 1 << 20},
)
report = pipeline.create("a").run(progress=False)
peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024
print(report.rows_in, report.rows_out, report.failed, peak)
"""


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("ending", ["jsonl", "csv", "txt"])
def test_a_bomb_of_one_line_of_gzip_is_one_failed_row_and_takes_no_memory(tmp_path: Path, ending: str) -> None:
    """A line of 256 MiB of zeros, in 256 KiB of gzip: it is unpacked once, and only its beginning is kept."""
    text = {"jsonl": ('{"n": 0}', '{"n": 2}'), "csv": ("n\n0", "2"), "txt": ("first", "last")}[ending]
    zeros = gzip.compress(bytes(1 << 25), mtime=0)
    with (tmp_path / f"in.{ending}.gz").open("wb") as file:
        file.write(gzip.compress(f"{text[0]}\n".encode()))
        file.writelines([zeros] * 8)
        file.write(gzip.compress(f"\n{text[1]}\n".encode()))
    (tmp_path / "job.py").write_text(BOMB)
    done = run_program(["job.py", f"in.{ending}.gz"], cwd=tmp_path, env=dict(os.environ), timeout=120)
    assert done.returncode == 0, done.stderr
    rows_in, rows_out, failed, peak = map(int, done.stdout.split())
    assert (rows_in, rows_out, failed) == (3, 2, 1)
    assert peak < 200, f"{peak} MiB"
    (letter,) = lines(tmp_path / "out.jsonl.errors.jsonl")
    assert "it is longer than a record may be" in letter["error"]["text"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named_and_read_when_it_may(bench: Bench) -> None:
    bench.give(numbered(3))
    bench.input.chmod(0)
    try:
        with pytest.raises(DatagenError, match=r"in.jsonl.*(?i:permission denied)"):
            bench.pipeline([Stopping()]).create("a").run()
    finally:
        bench.input.chmod(0o644)
    assert bench.pipeline([Stopping()]).create("a", if_exists="resume").run().rows_out == 3


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz", "in.parquet"])
def test_a_file_that_is_replaced_in_mid_run_is_read_as_it_was_or_refused(bench: Bench, name: str) -> None:
    """A run reads the file that it opened to its end; a resume, which opens the new one, is refused."""
    path, new = bench.folder / name, bench.folder / f"new-{name}"

    def put(rows: list[dict[str, Any]], to: Path) -> None:
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(rows), to)
        else:
            text = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
            to.write_bytes(gzip.compress(text, mtime=0) if name.endswith(".gz") else text)

    put(rows_of(), path)
    others = [{"n": -1 - row["n"], "t": row["t"]} for row in rows_of()]
    put(others, new)

    def replace_at_100(row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] == 100:
            new.replace(path)
        if row["n"] == 200:
            raise RuntimeError("it stops here")
        return row

    pipeline = bench.pipeline([replace_at_100], input_uri=str(path)).create("a")
    with pytest.raises(NodeFailedError, match="it stops here"):
        pipeline.run()
    kept = [row["n"] for row in lines(bench.output)]
    assert kept == list(range(len(kept)))
    assert len(kept) > 100
    with pytest.raises(StreamChangedError, match=r"was edited|restore it, or start afresh"):
        pipeline.resume("a").run()
    assert [row["n"] for row in lines(bench.output)] == kept
