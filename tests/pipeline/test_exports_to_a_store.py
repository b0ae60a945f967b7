"""Exports that a run makes in an object store of its last stream."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest

from llm_datagen import NodeFailedError, StreamError, StreamExistsError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.exports import verify_exports
from llm_datagen.streams.outputs import Work
from llm_datagen.streams.storage.objects import OBJECT_STORAGE

from ..kit.s3 import S3Bucket, without_conditions
from ..kit.support import Bench, Stopping, numbered

pytestmark = pytest.mark.stores("s3", "gs")


def rows_of(s3: S3Bucket, key: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return list(pq.read_table(BytesIO(s3.get(key) or b"")).to_pylist())


def made(s3: S3Bucket, prefix: str = "to/") -> set[str]:
    return {key for key in s3.all_keys() if key.startswith(prefix)}


@pytest.mark.slow
def test_an_output_and_further_ones_are_made_in_a_store_and_verify_reads_them(s3: S3Bucket, bench: Bench) -> None:
    bench.give({**row, "k": row["n"] % 2} for row in numbered(20))
    also = [s3.uri("to/more/k={k}/out-{shard}.jsonl"), {"to": f"hf-folder:{s3.uri('to/set')}", "keep_ids": False}]
    run = bench.pipeline([Stopping()], output_uri=s3.uri("to/x.parquet"), also=also)
    assert run.create("a").run().status == "completed"
    assert [row["n"] for row in rows_of(s3, "to/x.parquet")] == list(range(20))
    assert made(s3) == {
        "to/x.parquet",
        "to/x.parquet.manifest",
        "to/more/k=0/out-0.jsonl",
        "to/more/k=1/out-0.jsonl",
        "to/more/.out.jsonl.manifest",
        "to/more/_SUCCESS",
        "to/set/data-00000.arrow",
        "to/set/state.json",
        "to/set/dataset_info.json",
        "to/set/_SUCCESS",
        "to/set.manifest",
    }
    state = RunFolder(bench.folder / "results", "a").load()
    assert verify_exports(state) == []
    OBJECT_STORAGE.remove(s3.uri("to/more/k=1/out-0.jsonl"))
    s3.put("to/set/data-00000.arrow", b"-")
    changed, gone = sorted(verify_exports(state), key=lambda finding: "is gone" in finding)
    assert gone == f"{s3.uri('to/more/k=1/out-0.jsonl')} is gone"
    assert changed.startswith(f"{s3.uri('to/set/data-00000.arrow')} has 1 bytes, not ")
    with pytest.raises(StreamExistsError, match="was made by the run 'a' already"):
        bench.pipeline([Stopping()], output_uri=s3.uri("to/x.parquet")).create("b")
    bench.pipeline([Stopping()], output_uri=s3.uri("to/x.parquet")).create("a", if_exists="overwrite")
    assert made(s3) == set()


@pytest.mark.slow
def test_a_run_that_was_cut_short_in_an_export_makes_it_when_it_is_resumed_elsewhere(
    s3: S3Bucket, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.give(numbered(20))
    settings: dict[str, Any] = {
        "output_uri": s3.uri("to/x-{shard}.parquet"),
        "export_options": {"rows_per_shard": 6},
        "results_dir": s3.uri("runs"),
        "base_path": s3.uri("between"),
    }
    assert bench.pipeline([Stopping()], **settings).create("a").run().status == "completed"
    expected = {key: s3.get(key) for key in made(s3)}
    bench.pipeline([Stopping()], **settings).create("a", if_exists="overwrite")

    def cut(*_: Any) -> None:
        raise StreamError("cut")

    again = bench.pipeline([Stopping()], **settings).resume("a")
    with monkeypatch.context() as patch:
        patch.setattr(Work, "note_window", cut)
        with pytest.raises(NodeFailedError, match="StreamError: cut"):
            again.run()
    assert "to/x-0.parquet" in made(s3)
    assert "to/_SUCCESS" not in made(s3)
    assert bench.pipeline([Stopping()], **settings).resume("a").run().status == "completed"
    now = {key: s3.get(key) for key in made(s3)}
    assert {key: data for key, data in now.items() if "manifest" not in key} == {
        key: data for key, data in expected.items() if "manifest" not in key
    }
    assert RunFolder(s3.uri("runs"), "a").load()["exports"][0]["parts"] == 4
    assert verify_exports(RunFolder(s3.uri("runs"), "a").load()) == []


@pytest.mark.slow
def test_a_store_without_conditional_puts_is_refused_before_the_run_begins(
    s3: S3Bucket, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OBJECT_STORAGE, "_able", set())
    bench.give(numbered(1))
    s3.server.fail("PUT", "", without_conditions, times=1000)
    with pytest.raises(StreamError, match="so two writers could both write"):
        bench.pipeline([Stopping()], also=[s3.uri("to/x.parquet")]).create("a")
    assert not s3.all_keys()
