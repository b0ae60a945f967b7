"""Nodes whose outputs are in an object store: what the engine keeps beside these is there, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, Route, StreamFactory, UnifiedNode, UnifiedNodePipeline
from llm_datagen.operators import INodeContext
from llm_datagen.streams.scan import rows_of

from ..kit.s3 import S3Bucket
from ..kit.support import Bench, Stopping, instrument, numbered

pytestmark = pytest.mark.stores("s3", "gs")

QUICK = {"flush_interval": 0.02}


def rows_in(s3: S3Bucket, key: str) -> list[int]:
    return sorted(int(row["n"]) for _, row, _ in rows_of(StreamFactory.create(s3.uri(key))))


def give(s3: S3Bucket, key: str, rows: list[dict[str, Any]]) -> str:
    with StreamFactory.create(s3.uri(key)).get_writer() as writer:
        writer.write(rows)
    return s3.uri(key)


@pytest.mark.slow
def test_what_is_routed_and_merged_is_kept_in_the_store(
    s3: S3Bucket, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.folder)
    input_uri = give(s3, "in.jsonl", numbered(30))

    def pipeline(stop: int | None) -> UnifiedNodePipeline:
        sort = UnifiedNode("sort", follow_input=False, writer_config=QUICK)
        sort.bind_io(input_uri, {"even": s3.uri("even.jsonl"), "odd": s3.uri("odd.csv.gz")})
        sort.set_operator(lambda row: Route("odd" if row["n"] % 2 else "even", row))
        both = UnifiedNode("both", writer_config=QUICK, batch_size=1)
        both.bind_io({"a": s3.uri("even.jsonl"), "b": s3.uri("odd.csv.gz")}, s3.uri("out.jsonl"))
        both.set_operator(instrument(Stopping(stop)))
        return UnifiedNodePipeline([sort, both], results_dir=bench.results, log_file=bench.log)

    pipeline(11).create("a").run()
    assert pipeline(None).resume("a").run().status == "completed"
    assert rows_in(s3, "even.jsonl") == list(range(0, 30, 2))
    assert rows_in(s3, "odd.csv.gz") == list(range(1, 30, 2))
    assert rows_in(s3, "out.jsonl") == list(range(30))
    names = {"in.jsonl", "even.jsonl", "odd.csv.gz", "out.jsonl", "even.jsonl.routed.jsonl", "out.jsonl.merged.jsonl"}
    assert s3.all_keys() == names | {f"{name}.done" for name in names}
    assert {path.name for path in Path().iterdir()} == {"results", "platform.log"}


@pytest.mark.slow
def test_rows_with_their_ids_are_kept_in_the_store(s3: S3Bucket, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.folder)
    settings: dict[str, Any] = {
        "input_uri": give(s3, "in.jsonl", numbered(30)),
        "output_uri": s3.uri("out.jsonl.gz"),
        "base_path": s3.uri("between"),
        "keep_ids": False,
        "batch_size": 1,
    }
    bench.pipeline([lambda row: row, Stopping(11)], **settings).create("a").run()
    assert bench.pipeline([lambda row: row, Stopping()], **settings).resume("a").run().status == "completed"
    assert rows_in(s3, "out.jsonl.gz") == list(range(30))
    names = {"in.jsonl", "between/a/node_0.jsonl", "out.jsonl.gz.rows.jsonl", "out.jsonl.gz"}
    assert s3.all_keys() == names | {f"{name}.done" for name in names}
    assert {path.name for path in Path().iterdir()} == {"results", "platform.log"}


@pytest.mark.slow
def test_rows_that_are_called_at_most_once_are_not_written_to_a_store(s3: S3Bucket, bench: Bench) -> None:
    bench.give(numbered(3))
    pipeline = bench.pipeline([lambda row: row], output_uri=s3.uri("out.jsonl"), delivery="at_most_once")
    with pytest.raises(ConfigError, match="at_most_once' needs an output that only one process can have open"):
        pipeline.create("a")
    assert not s3.all_keys()
    assert bench.files() == {"in.jsonl"}, "no run is left that could never begin"


def counting(row: Any, ctx: INodeContext) -> Any:
    ctx.state["rows"] = ctx.state.get("rows", 0) + 1
    return row


counting.keeps_state = True  # type: ignore[attr-defined]


def test_state_on_a_store_is_refused_before_there_is_a_run(s3: S3Bucket, bench: Bench) -> None:
    bench.give(numbered(3))
    refused = r"node_0: counting keeps state, which lies beside the output, and .*://.*out.jsonl is not on this machine"
    with pytest.raises(ConfigError, match=refused):
        bench.pipeline([counting], output_uri=s3.uri("out.jsonl")).create("a")
    node = UnifiedNode("counts").set_operator(counting)
    node.bind_io(f"jsonl://{bench.input}", {"all": s3.uri("all.jsonl")}, route=lambda row: "all")
    with pytest.raises(ConfigError, match="counts: counting keeps state"):
        UnifiedNodePipeline([node], results_dir=bench.results).create("a")
    assert not s3.all_keys()
    assert bench.files() == {"in.jsonl"}


def test_addresses_of_what_is_kept_beside_an_output() -> None:
    for output, beside in {
        "s3://bucket/a/out.jsonl.zst": "s3://bucket/a/out.jsonl.zst.routed.jsonl",
        "az://box/out.csv": "az://box/out.csv.routed.jsonl",
        "jsonl://out.jsonl": "jsonl://out.jsonl.routed",
        "/data/out.csv.gz": "jsonl:///data/out.csv.gz.routed",
        "memory://out": "memory://out.routed",
    }.items():
        assert StreamFactory.create(output).uri_beside("routed") == beside
