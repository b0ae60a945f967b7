"""A cancel does not wait for an object store, or a hub, that hangs or has errors: what was committed is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from llm_datagen import INodeContext, Status, UnifiedPipeline
from llm_datagen.streams.storage import hub as hub_storage
from llm_datagen.streams.storage import object_clients, object_reading

from ..kit.hub import FakeHub
from ..kit.s3 import Fault, S3Bucket, hanging, status
from ..kit.support import PATIENCE_SECONDS, Bench, eventually, lines, until_cancelled

pytestmark = pytest.mark.stores("s3", "gs")

ROWS = [{"n": n, "text": "x" * 1000} for n in range(3000)]
"""More than is read at once."""


@pytest.fixture
def is_mended(s3: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """What makes a store that hangs go on; it does so at the end of the test."""
    monkeypatch.setattr(object_clients, "_clients", {})
    monkeypatch.setattr(object_reading, "MOST_BYTES", object_reading.FIRST_BYTES)  # so that much is left to be read
    event = threading.Event()
    yield event
    event.set()


def pipeline_of(s3: S3Bucket, bench: Bench, step: Any) -> UnifiedPipeline:
    return bench.pipeline(
        [step],
        input_uri=s3.uri("in.jsonl"),
        output_uri=s3.uri("out.jsonl"),
        writer_config={"flush_batch_size": 100},
        batch_size=50,
    )


def fault_of(kind: str, is_mended: threading.Event) -> Fault:
    return hanging(is_mended) if kind == "hangs" else status(503, "SlowDown")


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", ["hangs", "fails"])
@pytest.mark.parametrize(
    ("method", "key"), [("GET", "/in.jsonl"), ("PUT", ".parts/0"), ("PUT", ".commits")], ids=["read", "piece", "commit"]
)
def test_a_cancel_does_not_wait_for_a_store(
    s3: S3Bucket, bench: Bench, is_mended: threading.Event, kind: str, method: str, key: str
) -> None:
    s3.put("in.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in ROWS))
    is_reached = threading.Event()
    real = fault_of(kind, is_mended)
    installed: list[bool] = []

    def fault(*request: Any) -> Any:
        is_reached.set()
        return real(*request)

    def step(row: Any) -> Any:
        if not installed:
            installed.append(True)
            s3.server.fail(method, key, fault, times=100_000)
        return {"n": row["n"]}

    pipeline = pipeline_of(s3, bench, step).create("a")
    pipeline.start()
    assert is_reached.wait(PATIENCE_SECONDS)
    pipeline.cancel()
    report = pipeline.wait(PATIENCE_SECONDS)
    assert report.status == Status.CANCELED  # and the store is still as it was
    assert not is_mended.is_set()
    is_mended.set()
    s3.server.begin()
    pipeline_of(s3, bench, step).create("a", if_exists="resume").run()
    found = s3.get("out.jsonl")
    assert found is not None
    assert sorted(json.loads(line)["n"] for line in found.splitlines()) == [row["n"] for row in ROWS]


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", ["hangs", "fails"])
def test_a_cancel_does_not_wait_for_the_store_that_keeps_the_run_state(
    s3: S3Bucket, bench: Bench, is_mended: threading.Event, kind: str
) -> None:
    """The run is as one that was killed then: it is resumed."""
    bench.give(ROWS)
    is_broken = threading.Event()

    def step(row: Any, ctx: INodeContext) -> Any:
        if not is_broken.is_set():
            s3.server.fail("", "/runs/", fault_of(kind, is_mended), times=100_000)
            is_broken.set()
            until_cancelled(ctx)
        return {"n": row["n"]}

    def pipeline() -> UnifiedPipeline:
        return bench.pipeline([step], results_dir=s3.uri("runs"))

    made = pipeline().create("a")
    made.start()
    assert is_broken.wait(PATIENCE_SECONDS)
    made.cancel()
    assert made.wait(PATIENCE_SECONDS).status == Status.CANCELED
    assert not is_mended.is_set()
    is_mended.set()
    s3.server.begin()
    for thread in threading.enumerate():
        if thread.name == "store-request":
            thread.join(PATIENCE_SECONDS)
    assert pipeline().create("a", if_exists="resume").run().status == Status.COMPLETED
    assert sorted(row["n"] for row in lines(bench.output)) == [row["n"] for row in ROWS]


@pytest.mark.parametrize("kind", ["hangs", "fails"])
def test_a_cancel_does_not_wait_for_the_hub(
    bench: Bench, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(hub_storage, "RETRY_SECONDS", (10 * PATIENCE_SECONDS, 10 * PATIENCE_SECONDS))
    for part in (0, 1):
        rows = "".join(f'{{"n": {n}}}\n' for n in range(10 * part, 10 * part + 10))
        hub.files[f"data/train-0000{part}-of-00002.jsonl"] = rows.encode()

    def pipeline() -> UnifiedPipeline:
        return bench.pipeline([lambda row: {"n": row["n"]}], input_uri="hf://datasets/org/set?split=train")

    made = pipeline().create("a")
    if kind == "hangs":
        hub.answers.clear()
    else:
        hub.failures = 100_000
    asked = len(hub.requests)
    made.start()
    eventually(lambda: len(hub.requests) > asked, "a request for the second file")
    made.cancel()
    assert made.wait(PATIENCE_SECONDS).status == Status.CANCELED
    hub.failures = 0
    hub.answers.set()
    left = [thread for thread in threading.enumerate() if thread.name == "store-request"]
    for thread in left:
        thread.join(PATIENCE_SECONDS)
    assert pipeline().create("a", if_exists="resume").run().status == Status.COMPLETED
    assert sorted(row["n"] for row in lines(bench.output)) == list(range(20))
