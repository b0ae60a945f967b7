"""Streams in an object store: what lies there, who may write, and what is read of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_datagen import StreamFactory
from llm_datagen.streams.sink import Sink

from ..kit.s3 import S3Bucket
from ..kit.support import Bench, numbered

pytestmark = pytest.mark.stores("s3", "gs")


def jsonl(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def rows_of(data: bytes | None) -> list[dict[str, Any]]:
    assert data is not None
    return [json.loads(line) for line in data.splitlines()]


def add(sink: Sink, begin: int, end: int) -> None:
    sink.append(jsonl([{"_i": n, "n": n} for n in range(begin, end)]), rows=end - begin)


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "csv"])
def test_a_run_from_object_to_object_leaves_one_object_and_its_seal(s3: S3Bucket, bench: Bench, ending: str) -> None:
    with StreamFactory.create(s3.uri(f"in/a.{ending}")).get_writer() as writer:
        writer.write(numbered(50))
    pipeline = bench.pipeline(
        [lambda row: {"n": row["n"], "double": int(row["n"]) * 2}],
        input_uri=s3.uri(f"in/a.{ending}"),
        output_uri=s3.uri(f"out/b.{ending}"),
    )
    pipeline.run()
    found = [row for rows, _ in StreamFactory.create(s3.uri(f"out/b.{ending}")).get_reader().read(100) for row in rows]
    assert [int(row["double"]) for row in found] == [2 * n for n in range(50)]
    assert {key for key in s3.all_keys() if key.startswith("out/")} == {f"out/b.{ending}", f"out/b.{ending}.done"}


@pytest.mark.slow
def test_a_run_costs_no_more_requests_than_it_did(s3: S3Bucket, bench: Bench) -> None:
    """Each costs money, and the time of a round trip. It took 98 when this was written, and 191 with all there."""
    s3.put("in.jsonl", jsonl(numbered(50)))
    s3.server.begin()
    pipeline = bench.pipeline([lambda row: row], input_uri=s3.uri("in.jsonl"), output_uri=s3.uri("out.jsonl"))
    pipeline.run()
    assert len(s3.server.requests) <= 100
    assert not [key for _, key in s3.server.requests if ".state" in key or ".dispatched" in key], "never in a store"
    s3.server.begin()
    everything = {"base_path": s3.uri("between"), "results_dir": s3.uri("runs"), "output_uri": s3.uri("b.jsonl")}
    bench.pipeline([lambda row: row] * 2, input_uri=s3.uri("in.jsonl"), **everything).run()
    assert len(s3.server.requests) <= 200


def test_what_others_have_put_is_read_in_each_format(s3: S3Bucket) -> None:
    for key, data in {
        "a.jsonl": b'{"n": 1}\n',
        "a.json": b'[{"n": 1}]',
        "a.csv": b"n\n1\n",
        "a.txt": b"1\n",
    }.items():
        s3.put(key, data)
        [(rows, _)] = StreamFactory.source(s3.uri(key)).get_reader(follow=False).read(10)  # type: ignore[union-attr]
        assert len(rows) == 1
