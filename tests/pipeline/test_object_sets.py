"""Patterns, folders and tables in an object store as inputs."""

from __future__ import annotations

import gzip
import io
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from llm_datagen.errors import ConfigError, DatagenError, StreamChangedError, StreamMissingError
from llm_datagen.runs.trace import trace
from llm_datagen.runs.verify import verify
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.inputs.object_set import ObjectFileSet
from llm_datagen.streams.storage.bucket import Bucket
from llm_datagen.streams.storage.compression import compression_of
from llm_datagen.streams.storage.objects import OBJECT_STORAGE

from ..kit.s3 import S3Bucket, status
from ..kit.support import Bench, Stopping, lines

pytestmark = pytest.mark.stores("s3", "gs")


def text(values: Any) -> bytes:
    return "".join(f'{{"n": {n}}}\n' for n in values).encode()


def parquet(values: Any, group: int = 4) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    table = pa.table({"n": list(values), "more": [str(n) * 200 for n in values]})
    pq.write_table(table, file, row_group_size=group, compression="none", use_dictionary=False)
    return file.getvalue()


def fill(s3: S3Bucket) -> None:
    s3.put("in/a.jsonl", text(range(10)))
    s3.put("in/b/c.jsonl.gz", gzip.compress(text(range(10, 20)), mtime=0))
    s3.put("in/d.parquet", parquet(range(20, 30)))
    s3.put("in/_SUCCESS", b"")
    s3.put("in/.hidden.jsonl", b"no row")
    s3.put("in/a.jsonl.done", b"no row")
    s3.put("in2/a.jsonl", text([99]))


def ids_of(bench: Bench) -> list[tuple[int, int]]:
    return sorted((row["n"], row["_i"]) for row in lines(bench.output))


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("key", ["in/", "in/**/[a-d]*", "**/[a-d].[jp]*"])
def test_all_objects_are_one_input_whose_rows_are_numbered_through(s3: S3Bucket, bench: Bench, key: str) -> None:
    fill(s3)
    s3.put("in2/a.jsonl", b"") if key.startswith("*") else None
    assert bench.pipeline([Stopping()], input_uri=s3.uri(key)).create("a").run().rows_out == 30
    assert ids_of(bench) == [(n, n) for n in range(30)]
    assert [finding for account in verify(bench.run_state("a")) for finding in account.findings] == []


@pytest.mark.parametrize("key", ["a[1]/", "a*/", "a[1].jsonl"])
def test_what_an_address_names_is_read_though_it_has_signs_of_patterns(s3: S3Bucket, bench: Bench, key: str) -> None:
    s3.put(f"{key}x.jsonl" if key.endswith("/") else key, text(range(3)))
    s3.put("a1/x.jsonl", text([99]))
    assert bench.pipeline([Stopping()], input_uri=s3.uri(key)).create("a").run().rows_out == 3


def test_frames_of_zstandard_that_hold_nothing_are_passed_over_in_an_object(s3: S3Bucket, bench: Bench) -> None:
    nothing = b"\x50\x2a\x4d\x18" + (300_000).to_bytes(4, "little") + bytes(300_000)
    pack = compression_of(".zst").compress
    data = nothing + pack(text(range(5))) + nothing + pack(text(range(5, 9))) + nothing
    uri = s3.put("in.jsonl.zst", data)
    bench.pipeline([Stopping(6)], input_uri=uri).create("a").run()
    assert bench.pipeline([Stopping()], input_uri=uri).resume("a").run().status == "completed"
    assert ids_of(bench) == [(n, n) for n in range(9)]


def test_pieces_of_an_output_are_no_input_and_other_objects_in_a_folder_of_such_a_name_are(
    s3: S3Bucket, bench: Bench
) -> None:
    s3.put("in/set.v1.parts/part-0.jsonl", text(range(3)))
    s3.put("in/out.jsonl.parts/head", b"{}")
    s3.put(f"in/out.jsonl.parts/{0:020}-{'a' * 32}", text([99]))
    assert bench.pipeline([Stopping()], input_uri=s3.uri("in/")).create("a").run().rows_out == 3


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("stop", [5, 15, 25])
def test_a_resume_goes_on_with_objects_that_have_come_since_at_the_end(s3: S3Bucket, bench: Bench, stop: int) -> None:
    fill(s3)
    bench.pipeline([Stopping(stop)], input_uri=s3.uri("in/"), parallel_size=3).create("a").run()
    s3.put("in/a2.jsonl", text([30, 31]))
    assert bench.pipeline([Stopping()], input_uri=s3.uri("in/")).resume("a").run().status == "completed"
    assert ids_of(bench) == [(n, n) for n in range(32)]
    assert any("a2.jsonl came since the run began" in str(line) for line in bench.log_lines())


class Another(Stopping):
    version = "2"


def test_a_rerun_reads_objects_in_the_order_of_the_run_and_so_does_who_looks(s3: S3Bucket, bench: Bench) -> None:
    fill(s3)
    bench.pipeline([Stopping()], input_uri=s3.uri("in/")).create("a").run()
    s3.put("in/a2.jsonl", text([30, 31]))
    bench.pipeline([Another()], input_uri=s3.uri("in/")).resume("a", on_change="rerun").run()
    assert ids_of(bench) == [(n, n) for n in range(32)]
    assert [step.item["n"] for step in trace(bench.run_state("a"), 15)] == [15, 15]
    OBJECT_STORAGE.remove(s3.uri("in/b/c.jsonl.gz"))
    bench.pipeline([Another()], input_uri=s3.uri("in/")).resume("a").run()
    assert any("b/c.jsonl.gz is gone; rows that are done stay" in str(line) for line in bench.log_lines())
    (account,) = verify(bench.run_state("a"))
    assert len(account.findings) == 1
    assert "b/c.jsonl.gz is gone" in account.findings[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s3: s3.put("in/a.jsonl", text(range(1, 11))), r"a\.jsonl is not what it was"),
        (lambda s3: OBJECT_STORAGE.remove(s3.uri("in/d.parquet")), r"d\.parquet is gone"),
    ],
    ids=["changed", "gone"],
)
def test_an_object_that_is_gone_or_was_changed_is_named(
    s3: S3Bucket, bench: Bench, change: Callable[[S3Bucket], object], says: str
) -> None:
    fill(s3)
    bench.pipeline([Stopping(15)], input_uri=s3.uri("in/")).create("a").run()
    change(s3)
    with pytest.raises(StreamChangedError, match=says):
        bench.pipeline([Stopping()], input_uri=s3.uri("in/")).resume("a").run()


def test_an_object_that_is_replaced_between_a_look_and_the_read_is_not_read(s3: S3Bucket) -> None:
    s3.put("in/a.jsonl", b'{"n":1}\n')
    source = StreamFactory.source(s3.uri("in/*.jsonl"))
    assert isinstance(source, ObjectFileSet)
    source.fingerprint(follow=False)  # a run has begun
    s3.put("in/a.jsonl", b'{"n":2}\n')
    with pytest.raises(StreamChangedError, match="was replaced since the run began to read"):
        source.streams[0].open_data()


def test_of_parquet_only_the_wanted_columns_and_rows_are_downloaded(
    s3: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = parquet(range(4000), 4000)
    uri = s3.put("x.parquet", data)
    sizes = []
    read = Bucket.read

    def counted(self: Bucket, key: str, begin: int, end: int, *rest: Any) -> bytes:
        sizes.append(end - begin)
        return read(self, key, begin, end, *rest)

    monkeypatch.setattr(Bucket, "read", counted)
    stream = StreamFactory.create(f"{uri}?columns=n")
    rows = [row for rows, _ in stream.get_reader(follow=False).read(4096) for row in rows]
    assert [row["n"] for row in rows] == list(range(4000))
    assert "more" not in rows[0]
    assert sum(sizes) < len(data) // 10


def test_a_store_that_fails_is_not_taken_for_a_damaged_table(
    s3: S3Bucket, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = s3.put("x.parquet", parquet(range(10)))
    source = bench.pipeline([Stopping()], input_uri=uri).create("a")
    s3.server.fail("GET", "x.parquet", status(403, "AccessDenied"), times=1000)
    with pytest.raises(DatagenError) as failed:
        source.run()
    assert "damaged" not in str(failed.value)
    assert "replace it" not in str(failed.value)
    s3.server.begin()
    assert bench.pipeline([Stopping()], input_uri=uri).resume("a").run().rows_out == 10


def test_what_is_not_there_or_not_written_is_refused(s3: S3Bucket, bench: Bench) -> None:
    with pytest.raises(StreamMissingError, match="no object"):
        bench.pipeline([Stopping()], input_uri=s3.uri("none/*.jsonl")).create("a").run()
    fill(s3)
    with pytest.raises(ConfigError, match="one of the files that it reads"):
        bench.pipeline([Stopping()], input_uri=s3.uri("in/"), output_uri=s3.uri("in/x.jsonl")).create("b")


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_object_in_which_it_was(s3: S3Bucket, bench: Bench) -> None:
    fill(s3)
    code = (
        "import os, signal, sys, llm_datagen\n"
        "def step(row):\n"
        "    if row['n'] == 27 and sys.argv[1] == 'create': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return row\n"
        f"made = llm_datagen.UnifiedPipeline([step], '{s3.uri('in/')}', 'out.jsonl', results_dir='results',\n"
        "    log_file=None, writer_config={'flush_batch_size': 1})\n"
        "getattr(made, sys.argv[1])('a').run()\n"
    )
    run = [sys.executable, "-c", code]
    killed = subprocess.run([*run, "create"], cwd=bench.folder, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert lines(bench.output)
    subprocess.run([*run, "resume"], cwd=bench.folder, check=True)
    assert ids_of(bench) == [(n, n) for n in range(30)]
