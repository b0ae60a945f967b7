"""Bad weather between a run and its object store: what passes is repeated, what stays ends the run, nothing is lost."""

from __future__ import annotations

import gzip
import io
import json
import random
import time
from typing import Any
from urllib.parse import quote

import pytest

from llm_datagen import DatagenError, DiskError, FatalError, StreamChangedError, StreamFactory, UnifiedPipeline
from llm_datagen.streams.inputs.object_set import ObjectFileSet
from llm_datagen.streams.storage import object_clients, object_reading, object_requests
from llm_datagen.streams.storage.object_requests import Patience
from llm_datagen.streams.storage.objects import OBJECT_STORAGE

from ..kit.s3 import ENVIRONMENT, Fault, S3Bucket, lost_answer, reset, short, status
from ..kit.support import Bench, numbered

pytestmark = pytest.mark.stores("s3", "gs")

ROWS = numbered(40)
WIDE_ROWS = 1500
SECRETS = (ENVIRONMENT["AWS_SECRET_ACCESS_KEY"], ENVIRONMENT["AWS_ACCESS_KEY_ID"] + "/", "AKIA-secret")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_requests, "PATIENCE", Patience(tries=3, seconds=0.01))
    monkeypatch.setattr(object_clients, "RETRIES", 1)
    monkeypatch.setattr(object_clients, "_clients", {})


def rows_of(data: bytes | None) -> list[dict[str, Any]]:
    assert data is not None
    return [json.loads(line) for line in data.splitlines()]


def pipeline_of(s3: S3Bucket, bench: Bench, operator: Any = None, batch: int = 10) -> UnifiedPipeline:
    return bench.pipeline(
        [operator or (lambda row: {"n": row["n"]})],
        input_uri=s3.uri("in.jsonl"),
        output_uri=s3.uri("out.jsonl"),
        writer_config={"flush_batch_size": batch},
        batch_size=batch,
    )


def give(s3: S3Bucket, rows: list[Any] = ROWS) -> None:
    s3.put("in.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def check_output(s3: S3Bucket, rows: list[Any] = ROWS) -> None:
    assert sorted(row["n"] for row in rows_of(s3.get("out.jsonl"))) == [row["n"] for row in rows]
    assert {key for key in s3.all_keys() if key.startswith("out")} == {"out.jsonl", "out.jsonl.done"}


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("method", "key", "fault", "times"),
    [
        ("GET", "/in.jsonl", status(503, "SlowDown"), 3),
        ("GET", "/in.jsonl", status(500, "InternalError"), 1),
        ("GET", "/in.jsonl", reset, 2),
        ("GET", "/in.jsonl", short, 2),
        ("HEAD", "/in.jsonl", reset, 1),
        ("PUT", ".parts/0", status(503, "SlowDown"), 3),
        ("PUT", ".parts/0", reset, 1),
        ("PUT", ".parts/0", lost_answer, 2),
        ("PUT", ".parts/head", lost_answer, 2),
        ("PUT", ".commits", lost_answer, 2),
        ("PUT", ".commits", status(500, "InternalError"), 2),
        ("PUT", "/out.jsonl.done", lost_answer, 1),
        ("POST", "", lost_answer, 1),
        ("GET", ".parts/0", short, 2),
        ("DELETE", "", status(503, "SlowDown"), 2),
        ("PUT", ".commits", status(400, "ExpiredToken"), 3),
        ("PUT", ".parts/0", status(403, "TokenRefreshRequired"), 1),
        ("GET", "/in.jsonl", status(400, "ExpiredToken"), 2),
        ("HEAD", "/in.jsonl", status(400), 2),
        ("PUT", ".commits", status(429, "SlowDown"), 3),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_passes_by_itself_is_not_noticed(
    s3: S3Bucket, bench: Bench, method: str, key: str, fault: Fault, times: int
) -> None:
    give(s3)
    s3.server.fail(method, key, fault, times=times)
    pipeline_of(s3, bench).run()
    check_output(s3)


@pytest.mark.slow
def test_an_object_that_was_put_together_is_known_though_the_answer_was_lost(s3: S3Bucket, bench: Bench) -> None:
    """Its put has a condition, so the second one is refused: what is there is compared."""
    give(s3)
    lost: list[str] = []

    def fault(environ: Any, start_response: Any, application: Any) -> Any:
        if not environ["PATH_INFO"].endswith("/out.jsonl") or len(lost) == 2:
            return application(environ, start_response)
        lost.append(environ.get({"s3": "HTTP_IF_NONE_MATCH", "gs": "HTTP_X_GOOG_IF_GENERATION_MATCH"}[s3.scheme], ""))
        return lost_answer(environ, start_response, application)

    s3.server.fail("PUT", "/out.jsonl", fault, times=1000)
    pipeline_of(s3, bench).run()
    assert lost == [{"s3": "*", "gs": "0"}[s3.scheme]] * 2
    check_output(s3)


@pytest.mark.slow
@pytest.mark.stores("gs")
@pytest.mark.parametrize("other", [b"", b"x" * (9 << 20)], ids=["ours", "of another writer"])
def test_an_upload_that_was_completed_is_known_though_the_answer_was_lost(s3: S3Bucket, other: bytes) -> None:
    """Google knows nothing of an upload that was completed: the client is told so when it asks again."""
    lost: list[str] = []

    def fault(environ: Any, start_response: Any, application: Any) -> Any:
        if "uploadId" not in environ["QUERY_STRING"] or lost:
            return application(environ, start_response)
        lost.append(environ["QUERY_STRING"])
        answer = lost_answer(environ, start_response, application)
        if other:
            s3.put("big", other)
        return answer

    s3.server.fail("POST", "/big", fault, times=1000)
    bucket, key = OBJECT_STORAGE.bucket_and_key(s3.uri("big"))
    pieces = [bytes([n]) * (1 << 20) for n in range(9)]
    if other:
        with pytest.raises(DiskError, match=r"the store answers with an error \(status 404 NoSuchUpload\)"):
            bucket.put_pieces(key, pieces)
    else:
        bucket.put_pieces(key, pieces)
    assert s3.get("big") == (other or b"".join(pieces))
    assert len(lost) == 1


@pytest.mark.slow
def test_a_store_that_takes_few_puts_per_second_to_an_object_slows_a_run_down(
    s3: S3Bucket, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's takes about one; here it is a tenth of a second, and the patience as much shorter."""
    monkeypatch.setattr(object_requests, "PATIENCE", Patience(tries=5, seconds=0.1))
    taken: dict[str, float] = {}
    refused: list[str] = []

    def fault(environ: Any, start_response: Any, application: Any) -> Any:
        path = environ["PATH_INFO"]
        if time.monotonic() < taken.get(path, 0.0) + 0.1:
            refused.append(path)
            return status(429, "SlowDown")(environ, start_response, application)
        taken[path] = time.monotonic()
        return application(environ, start_response)

    give(s3)
    s3.server.fail("PUT", "", fault, times=100_000)
    bench.pipeline(
        [lambda row: {"n": row["n"]}],
        input_uri=s3.uri("in.jsonl"),
        output_uri=s3.uri("out.jsonl"),
        results_dir=s3.uri("runs"),
        writer_config={"flush_batch_size": 5},
        batch_size=5,
    ).run()
    check_output(s3)
    assert f"/{s3.name}/out.jsonl.commits" in refused


def _text_of(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


def check_no_secrets(s3: S3Bucket, bench: Bench, *more: str) -> None:
    texts = [path.read_bytes() for path in bench.folder.rglob("*") if path.is_file()]
    texts += [s3.get(key) or b"" for key in s3.all_keys()]
    for text in [*texts, *(one.encode() for one in more)]:
        for secret in SECRETS:
            assert secret.encode() not in text


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("method", "key", "fault", "said"),
    [
        ("PUT", ".commits", status(400, "ExpiredToken"), "the store refuses the credentials .*ExpiredToken"),
        ("PUT", ".parts/0", status(403, "AccessDenied"), "the store refuses the credentials .*AccessDenied"),
        ("GET", "/in.jsonl", status(400, "ExpiredToken"), "the store refuses the credentials .*ExpiredToken"),
        ("PUT", ".parts/0", reset, "cannot be reached"),
        ("GET", "/in.jsonl", short, "less than what was asked for"),
    ],
)
def test_what_stays_ends_the_run_which_goes_on_when_it_is_mended(
    s3: S3Bucket, bench: Bench, method: str, key: str, fault: Fault, said: str
) -> None:
    give(s3)

    def at_the_middle(row: Any) -> Any:
        if row["n"] == 20 and not broken:
            broken.append(True)
            s3.server.fail(method, key, fault, times=1000)
        return {"n": row["n"]}

    broken: list[bool] = [True] if "in.jsonl" in key else []
    if broken:
        s3.server.fail(method, key, fault, times=1000)
    with pytest.raises(DatagenError, match=said) as caught:
        pipeline_of(s3, bench, at_the_middle).create("job").run()
    s3.server.begin()
    check_no_secrets(s3, bench, _text_of(caught.value))
    pipeline_of(s3, bench, at_the_middle).create("job", if_exists="resume").run()
    check_output(s3)


@pytest.mark.slow
def test_an_object_that_is_replaced_between_two_runs_is_refused_by_name(s3: S3Bucket, bench: Bench) -> None:
    give(s3)
    fails = [True]

    def step(row: Any) -> Any:
        if row["n"] == 30 and fails:
            raise FatalError("enough")
        return {"n": row["n"]}

    with pytest.raises(DatagenError, match="enough"):
        pipeline_of(s3, bench, step).create("job").run()
    fails.clear()
    give(s3, [{"n": row["n"] + 100} for row in ROWS])
    with pytest.raises(StreamChangedError, match="is another object"):
        pipeline_of(s3, bench, step).create("job", if_exists="resume").run()
    give(s3)  # the same bytes: the same object
    pipeline_of(s3, bench, step).create("job", if_exists="resume").run()
    check_output(s3)


@pytest.mark.slow
def test_credentials_that_have_expired_are_read_again(
    s3: S3Bucket, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(s3)
    for_old = {"s3": status(400, "ExpiredToken"), "gs": status(401, "AuthenticationRequired")}[s3.scheme]
    variable = {"s3": "AWS_ACCESS_KEY_ID", "gs": "GOOGLE_BEARER_TOKEN"}[s3.scheme]

    def fault(environ: Any, start_response: Any, application: Any) -> Any:
        if "fresh" not in environ["HTTP_AUTHORIZATION"]:
            return for_old(environ, start_response, application)
        return application({**environ, "HTTP_AUTHORIZATION": s3.server.authorization}, start_response)

    def at_the_middle(row: Any) -> Any:
        if row["n"] == 20:
            s3.server.fail("", "", fault, times=100_000)
            monkeypatch.setenv(variable, "fresh")
        return {"n": row["n"]}

    pipeline_of(s3, bench, at_the_middle).run()
    check_output(s3)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
def test_an_object_that_is_replaced_in_mid_run_ends_it_and_nothing_is_mixed(
    s3: S3Bucket, bench: Bench, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ETag is the condition of each read."""
    monkeypatch.setattr(object_reading, "MOST_BYTES", object_reading.FIRST_BYTES)  # else it may have been read by then
    first, other = (_packed(n, ending) for n in (0, 100_000))
    s3.put(f"in.{ending}", first)
    replaced: list[bool] = []

    def at_the_first(row: Any) -> Any:
        if not replaced:
            replaced.append(True)
            s3.put(f"in.{ending}", other)
        return {"n": row["n"]}

    def pipeline() -> UnifiedPipeline:
        input_uri, output_uri = s3.uri(f"in.{ending}"), s3.uri("out.jsonl")
        return bench.pipeline([at_the_first], input_uri=input_uri, output_uri=output_uri, batch_size=100)

    with pytest.raises(DatagenError, match="was replaced while it was read"):
        pipeline().create("job").run()
    with pytest.raises(StreamChangedError, match="is another object"):
        pipeline().create("job", if_exists="resume").run()
    s3.put(f"in.{ending}", first)
    pipeline().create("job", if_exists="resume").run()
    assert sorted(row["n"] for row in rows_of(s3.get("out.jsonl"))) == list(range(WIDE_ROWS))


def _packed(begin: int, ending: str) -> bytes:
    """Return a file of rows that are more than what is read at once, also packed."""
    dice = random.Random(begin)
    rows = [{"n": begin + n, "text": dice.randbytes(2000).hex()} for n in range(WIDE_ROWS)]
    if ending == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=100, compression="none")
        return file.getvalue()
    text = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return gzip.compress(text, 1, mtime=0) if ending == "jsonl.gz" else text


@pytest.mark.slow
def test_an_object_that_vanishes_in_mid_run_ends_it_to_be_resumed(s3: S3Bucket, bench: Bench) -> None:
    rows = [{"n": n, "text": "x" * 1000} for n in range(3000)]
    give(s3, rows)
    removed: list[bool] = []

    def at_the_first(row: Any) -> Any:
        if not removed:
            removed.append(True)
            OBJECT_STORAGE.remove(s3.uri("in.jsonl"))
        return {"n": row["n"]}

    with pytest.raises(DatagenError, match="was removed while it was read"):
        pipeline_of(s3, bench, at_the_first, 500).create("job").run()
    give(s3, rows)
    pipeline_of(s3, bench, at_the_first, 500).create("job", if_exists="resume").run()
    check_output(s3, rows)


@pytest.mark.parametrize("key", ["in/a//b.jsonl", "in/./b.jsonl", "in/tab\tb.jsonl"])
def test_a_key_that_cannot_be_listed_is_named_at_once(s3: S3Bucket, key: str) -> None:
    s3.server.put(f"{s3.name}/{quote(key)}", b"{}\n")
    s3.server.requests.clear()
    source = StreamFactory.source(s3.uri("in/*.jsonl"))
    assert isinstance(source, ObjectFileSet)
    with pytest.raises(DiskError, match="rename or remove it") as caught:
        source.is_there()
    assert caught.value.filename == s3.uri(key)
    assert len(s3.server.requests) == 1


def test_markers_of_folders_are_passed_over(s3: S3Bucket) -> None:
    for marker in ("in/", "in/sub/", "in/empty/"):
        s3.server.put(f"{s3.name}/{marker}", b"")
    s3.put("in/sub/a.jsonl", b'{"n":1}\n')
    for uri in ("in/", "in/**", "in/*/*"):
        source = StreamFactory.source(s3.uri(uri))
        assert isinstance(source, ObjectFileSet)
        assert source.streams.paths == [s3.uri("in/sub/a.jsonl")]


def test_half_of_a_small_object_is_asked_for_again(s3: S3Bucket) -> None:
    s3.put("log.commits", b"0123456789")
    s3.server.fail("GET", "log.commits", short)
    assert s3.get("log.commits") == b"0123456789"
