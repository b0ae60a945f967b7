"""Exports to an object store: the same files as on this machine, whole or not there, by one process at a time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import (
    ConfigError,
    DiskError,
    LeaseLostError,
    StreamBusyError,
    StreamError,
    StreamExistsError,
)
from llm_datagen.streams.outputs import Exported, ExportOptions, Target, Work, check_parts, export_rows, place_of
from llm_datagen.streams.storage import lease
from llm_datagen.streams.storage.bucket import Bucket
from llm_datagen.streams.storage.objects import OBJECT_STORAGE

from ..kit.s3 import S3Bucket, at_write, lost_answer, without_conditions
from ..kit.support import eventually
from .test_outputs import BAD_ROWS, ROWS, TARGETS, export, files, stream_of

pytestmark = pytest.mark.stores("s3", "gs")


def export_to(s3: S3Bucket, stream: Any, target: str, **options: Any) -> Exported:
    """Export to the folder `to` of a bucket."""
    overwrite = options.pop("overwrite", False)
    kind, colon, path = target.partition("!")
    text = f"{kind}:{s3.uri(f'to/{path}')}" if colon else s3.uri(f"to/{target}")
    return export_rows(stream, Target.of(text), ExportOptions(**options), overwrite=overwrite)


def objects(s3: S3Bucket, *, with_manifest: bool = False) -> dict[str, bytes]:
    """Return what a reader finds; a manifest names the bucket, so it differs from one to the other."""
    return {
        key.removeprefix("to/"): s3.get(key) or b""
        for key in s3.all_keys()
        if key.startswith("to/") and (with_manifest or not key.endswith(".manifest"))
    }


def seen(s3: S3Bucket) -> dict[str, bytes]:
    return {key: data for key, data in objects(s3).items() if "/." not in f"/{key}"}


def refuse(*_: Any) -> None:
    raise DiskError(5, "cut", "here")


def on_this_machine(folder: Path, kind: str) -> dict[str, bytes]:
    """Return what an export makes in a folder."""
    folder.mkdir()
    target, options = TARGETS[kind]
    export(folder, stream_of(folder, BAD_ROWS), target, **options)
    names = files(folder).items()
    return {n: data for n, data in names if not n.startswith("rows.jsonl") and not n.endswith(".manifest")}


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", TARGETS)
def test_objects_are_the_files_of_an_export_to_a_folder(s3: S3Bucket, tmp_path: Path, kind: str) -> None:
    expected = on_this_machine(tmp_path / "here", kind)
    target, options = TARGETS[kind]
    stream = stream_of(tmp_path, BAD_ROWS)
    made = export_to(s3, stream, target, **options)
    assert objects(s3) == expected
    assert {path.removeprefix(s3.uri("to/")) for path in made.paths} <= expected.keys()
    assert (made.rows, made.failed) == (25 + (kind == "csv"), int(kind != "csv"))
    assert export_to(s3, stream, target, **options).was_there
    assert objects(s3) == expected
    place = place_of(made.target)
    manifest = Work(made.target, place).manifest()
    assert manifest is not None
    assert check_parts(made.target, manifest, place) == []


def test_what_a_killed_process_has_left_of_a_check_of_the_store_goes_with_the_rest(
    s3: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, delete = stream_of(tmp_path, BAD_ROWS), Bucket.delete
    monkeypatch.setattr(OBJECT_STORAGE, "_able", set())
    monkeypatch.setattr(Bucket, "delete", lambda *_: refuse())
    with pytest.raises(DiskError):
        export_to(s3, stream, "out.csv.gz")
    assert any("/probe-" in key for key in s3.all_keys())
    monkeypatch.setattr(Bucket, "delete", delete)
    export_to(s3, stream, "out.csv.gz")
    assert sorted(objects(s3, with_manifest=True)) == ["out.csv.gz", "out.csv.gz.manifest"]


@pytest.mark.slow
@pytest.mark.sampled(1, of=4)
@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("kind", TARGETS)
def test_wherever_an_export_is_cut_short_it_goes_on_to_the_same_objects(
    s3: S3Bucket, tmp_path: Path, kind: str, is_late: bool
) -> None:
    expected = on_this_machine(tmp_path / "here", kind)
    target, options = TARGETS[kind]
    stream = stream_of(tmp_path, BAD_ROWS)

    number, was_cut = 0, [True]

    def cut() -> None:
        was_cut[0] = True
        raise DiskError(5, "cut", "here")

    while was_cut[0]:
        number, was_cut[0] = number + (2 if is_late else 3), False
        bucket = S3Bucket(s3.server, s3.scheme)
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(DiskError):
            at_write(patch.setattr, number, cut, is_late=is_late)
            export_to(bucket, stream, target, **options)
        assert seen(bucket).items() <= expected.items()  # whatever a reader sees is whole
        export_to(bucket, stream, target, **options)
        assert objects(bucket) == expected
    assert number > 10


KILLED = """
import os, signal, sys
from llm_datagen.streams import JsonlStream
from llm_datagen.streams.outputs import ExportOptions, Target, export_rows
from tests.kit.s3 import at_write
rows, target, options, number = sys.argv[1:]
at_write(setattr, int(number), lambda: os.kill(os.getpid(), signal.SIGKILL), is_late=int(number) % 2 == 0)
export_rows(JsonlStream(f"jsonl://{rows}"), Target.of(target), ExportOptions(**eval(options)))
"""


@pytest.mark.sampled(1, of=5)
@pytest.mark.parametrize("number", [9, 8, 11, 12])
@pytest.mark.parametrize("kind", TARGETS)
def test_killed_in_the_middle_it_goes_on_to_the_same_objects(
    s3: S3Bucket, tmp_path: Path, kind: str, number: int
) -> None:
    expected = on_this_machine(tmp_path / "here", kind)
    target, options = TARGETS[kind]
    stream = stream_of(tmp_path, BAD_ROWS)
    head, colon, path = target.partition("!")
    text = f"{head}:{s3.uri(f'to/{path}')}" if colon else s3.uri(f"to/{target}")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "rows.jsonl"), text, repr(options), str(number)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], env=dict(os.environ), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert seen(s3).items() <= expected.items()
    export_to(s3, stream, target, **options)  # at once: who had the lease is dead, on this machine
    assert objects(s3) == expected


@pytest.mark.slow
def test_what_is_in_the_place_of_a_target_is_refused_and_only_what_an_export_made_is_removed(
    s3: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_of(tmp_path, ROWS)
    s3.put("to/x-7.jsonl", b"of somebody else")
    s3.put("to/x-y/7.jsonl", b"another folder")
    with pytest.raises(StreamExistsError, match=r"to/x-7.jsonl is there already, and no export made it"):
        export_to(s3, stream, "x-{shard}.jsonl", rows_per_shard=10)
    with pytest.raises(StreamExistsError, match="no export made it"):
        export_to(s3, stream, "x-{shard}.jsonl", rows_per_shard=10, overwrite=True)
    assert s3.all_keys() == {"to/x-7.jsonl", "to/x-y/7.jsonl"}
    OBJECT_STORAGE.remove(s3.uri("to/x-7.jsonl"))

    export_to(s3, stream, "x-{shard}.jsonl", rows_per_shard=10)
    with pytest.raises(StreamExistsError, match="made with other options"):
        export_to(s3, stream, "x-{shard}.jsonl", rows_per_shard=20)
    s3.put("to/x.txt", b"mine")
    export_to(s3, stream, "x-{shard}.jsonl", rows_per_shard=20, overwrite=True)
    names = {"to/x-0.jsonl", "to/x-1.jsonl", "to/.x.jsonl.manifest", "to/_SUCCESS"}
    assert s3.all_keys() == {*names, "to/x.txt", "to/x-y/7.jsonl"}


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("target", ["x-{shard}.jsonl", "{lang}/x-{shard}.jsonl"])
@pytest.mark.parametrize("is_remote", [True, False])
def test_a_part_that_was_put_and_not_noted_is_removed_when_another_export_takes_the_place(
    s3: S3Bucket, tmp_path: Path, target: str, is_remote: bool
) -> None:
    stream = stream_of(tmp_path, ROWS)

    def make(**options: Any) -> None:
        if is_remote:
            export_to(s3, stream, target, **options)
        else:
            export(tmp_path, stream, f"to/{target}", **options)

    def made() -> set[str]:
        there = set(objects(s3)) if is_remote else set(files(tmp_path / "to"))
        return {name for name in there if name.endswith(".jsonl")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Work, "note_window", refuse)
        with pytest.raises(DiskError):
            make(rows_per_shard=10)
    assert made()
    with pytest.raises(StreamExistsError, match="another export was begun there"):
        make(rows_per_shard=100)
    make(rows_per_shard=100, overwrite=True)
    parts = {"x-0.jsonl"} if target.startswith("x") else {"de/x-0.jsonl", "en/x-0.jsonl"}
    assert made() == parts


def test_two_processes_do_not_export_to_one_target(s3: S3Bucket, tmp_path: Path) -> None:
    stream = stream_of(tmp_path, ROWS)
    target = Target.of(s3.uri("to/out.jsonl"))
    with Work(target, place_of(target)).locked():
        with pytest.raises(StreamBusyError, match=r"to/out.jsonl is being exported by process \d+ on .*wait until it"):
            export_to(s3, stream, "out.jsonl")
        export_to(s3, stream, "other.jsonl")
    assert s3.all_keys() == {"to/other.jsonl", "to/other.jsonl.manifest"}


def test_who_has_lost_the_target_puts_nothing_there_any_more(s3: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.05)
    target = Target.of(s3.uri("to/out.jsonl"))
    place = place_of(target)
    with place.lock(target.work_path, target.path) as lock:
        assert isinstance(lock, lease.Lease)
        part = place.new_file(target.path, "")
        part.write(b"x" * (9 << 20))
        s3.put("to/.out.jsonl.export/lease.json", b"of another one")
        eventually(lambda: lock.is_lost)
        with pytest.raises(LeaseLostError, match="could not be renewed"):
            part.put()
        with pytest.raises(LeaseLostError):
            place.put_new(target.manifest_path, b"{}", "")
        with pytest.raises(LeaseLostError):
            place.remove(target.path)
        part.abandon()
    assert s3.all_keys() == {"to/.out.jsonl.export/lease.json"}


def test_a_lease_that_could_not_be_given_back_does_not_keep_its_own_process_out(s3: S3Bucket, tmp_path: Path) -> None:
    stream = stream_of(tmp_path, ROWS)
    with pytest.MonkeyPatch.context() as patch:

        def refuse_all(*_: Any) -> None:
            patch.setattr(Bucket, "put_if", refuse)
            refuse()

        patch.setattr(Work, "note_window", refuse_all)
        with pytest.raises(DiskError):
            export_to(s3, stream, "out.jsonl")
    assert b'"pid"' in objects(s3)[".out.jsonl.export/lease.json"]
    assert export_to(s3, stream, "out.jsonl").rows == 25


def test_a_store_without_conditional_puts_is_refused(
    s3: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OBJECT_STORAGE, "_able", set())

    s3.server.fail("PUT", "", without_conditions, times=1000)
    with pytest.raises(StreamError, match="so two writers could both write"):
        export_to(s3, stream_of(tmp_path, ROWS), "out.jsonl")
    assert not s3.all_keys()


def test_an_answer_that_is_lost_changes_nothing(s3: S3Bucket, tmp_path: Path) -> None:
    s3.server.fail("PUT", "out.jsonl.manifest", lost_answer)
    export_to(s3, stream_of(tmp_path, ROWS), "out.jsonl")
    assert objects(s3, with_manifest=True).keys() == {"out.jsonl", "out.jsonl.manifest"}


@pytest.mark.slow
def test_a_large_part_is_put_in_pieces_and_odd_values_are_names(s3: S3Bucket, tmp_path: Path) -> None:
    rows = [{"text": "x" * (1 << 20), "k": {0: "a b/ü%2F#?", 1: ".."}.get(n), "n": n} for n in range(12)]
    made = export_to(s3, stream_of(tmp_path, rows), "k={k}/out.jsonl")
    assert made.rows == 12
    assert {key: len(data) for key, data in objects(s3).items() if key.endswith(".jsonl")} == {
        part["path"]: part["bytes"] for part in made.parts
    }
    assert len(made.parts) == 3
    assert max(part["bytes"] for part in made.parts) > 10 << 20
    place = place_of(made.target)
    manifest = Work(made.target, place).manifest()
    assert manifest is not None
    assert check_parts(made.target, manifest, place) == []
    OBJECT_STORAGE.remove(made.paths[0])
    s3.put(made.paths[1].partition(f"{s3.name}/")[2], b"y" * made.parts[1]["bytes"])
    gone, changed = check_parts(made.target, manifest, place)
    assert gone == f"{made.paths[0]} is gone"
    assert changed == f"{made.paths[1]} was changed: its checksum differs"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("s3://{lang}/x.jsonl", "all parts go into one bucket"),
        ("parquet:s3:/bucket/x", "lost a slash"),
        (Path("s3://bucket/x.parquet"), "lost a slash"),
        ("hf-folder:s3://bucket", "no address of an object"),
        ("s3://user:secret@bucket/x.parquet", "credentials, tokens and signatures are no part"),
        ("s3://bucket/x.bin", "does not say a format"),
        ("sftp://bucket/x.parquet", "the format 'sftp' is not known"),
    ],
)
def test_a_target_that_is_none_is_refused(target: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        Target.of(target)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("target", "root", "manifest"),
    [
        ("s3://b/x.parquet", "s3://b", "s3://b/x.parquet.manifest"),
        ("parquet:s3://b/d/x", "s3://b/d", "s3://b/d/x.manifest"),
        ("parquet://s3://b/d/x", "s3://b/d", "s3://b/d/x.manifest"),
        ("gs://b/d/{lang}/x-{shard:05}.csv.gz", "gs://b/d", "gs://b/d/.x.csv.gz.manifest"),
        ("hf-folder:az://b/d/", "az://b/d", "az://b/d.manifest"),
    ],
)
def test_everything_lies_beside_the_target(target: str, root: str, manifest: str) -> None:
    made = Target.of(target).absolute()
    assert (made.root, made.manifest_path) == (root, manifest)
    assert Target.of(f"{made.kind}:{made.path}") == made


@pytest.mark.slow
@pytest.mark.stores("s3")
def test_other_programs_read_the_same_rows_from_the_store(s3: S3Bucket, tmp_path: Path) -> None:
    import polars as pl
    import pyarrow.dataset as ds
    from pyarrow.fs import S3FileSystem

    stream = stream_of(tmp_path, ROWS)
    export_to(s3, stream, "train-{shard:05}.parquet", rows_per_shard=10)
    environment = s3.server.environment
    endpoint = environment["AWS_ENDPOINT_URL"]
    secrets = (environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
    system = S3FileSystem(access_key=secrets[0], secret_key=secrets[1], endpoint_override=endpoint, region="us-east-1")
    by_arrow = ds.dataset(f"{s3.name}/to", filesystem=system, format="parquet", exclude_invalid_files=True)
    expected = [{"_i": str(n), **row} for n, row in enumerate(ROWS)]
    assert by_arrow.to_table().sort_by("n").to_pylist() == expected
    options = {
        "aws_access_key_id": secrets[0],
        "aws_secret_access_key": secrets[1],
        "aws_endpoint_url": endpoint,
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    by_polars = pl.scan_parquet(s3.uri("to/train-*.parquet"), storage_options=options).collect()
    assert by_polars.sort("n").to_dicts() == expected


@pytest.mark.slow
@pytest.mark.stores("s3")
def test_datasets_reads_a_folder_that_is_fetched_from_the_store(s3: S3Bucket, tmp_path: Path) -> None:
    from datasets import load_from_disk

    export_to(s3, stream_of(tmp_path, ROWS), "hf-folder!set", rows_per_shard=10)
    for name, data in objects(s3).items():
        path = tmp_path / "fetched" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert [row["n"] for row in load_from_disk(str(tmp_path / "fetched" / "set"))] == list(range(25))
