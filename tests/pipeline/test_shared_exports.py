"""Exports side by side: what two of them would have in common is refused by name, before there is a run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import llm_datagen
from llm_datagen import ConfigError, NodeFailedError, PipelineExistsError, StreamExistsError, UnifiedPipeline
from llm_datagen.testing import Fault, inject

from ..kit.s3 import S3Bucket
from ..kit.support import numbered, write_jsonl

pytestmark = pytest.mark.stores("s3", "gs")


def same(row: Any) -> Any:
    return row


def pipeline(folder: Path, output: str, **settings: Any) -> UnifiedPipeline:
    write_jsonl(folder / "in.jsonl", numbered(20))
    inputs = str(folder / "in.jsonl")
    return UnifiedPipeline([same], inputs, output, results_dir=folder / "results", log_file=None, **settings)


def create(folder: Path, pipeline_id: str, *also: Any, **settings: Any) -> UnifiedPipeline:
    """Create a run with an output of its own, and exports."""
    return pipeline(folder, str(folder / f"{pipeline_id}.jsonl"), also=list(also), **settings).create(pipeline_id)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("d/a-{shard}.csv", "d/b-{shard}.csv", "both would put FOLDER/d/_SUCCESS, which says that all files of one"),
        ("d/a-{shard}.csv", "d/{n}.jsonl", "both would put FOLDER/d/_SUCCESS, which says"),
        ("hf-folder:d", "csv:d/{shard}.csv", "both would put FOLDER/d/_SUCCESS, which says"),
        ("hf-folder:d", "chatml:d/state.json", "both would write FOLDER/d/state.json"),
        ("d/a-{shard}.csv", "d/a-7.csv", "FOLDER/d/a-7.csv is a name that a file of FOLDER/d/a-{shard}.csv may have"),
        ("x.csv", "chatml:x.csv", "both would write FOLDER/x.csv"),
        ("x.csv", "chatml:x.csv.errors.jsonl", "both would write FOLDER/x.csv.errors.jsonl"),
        ("d/a-{shard}.csv", "link/b-{shard}.csv", "both would put FOLDER/d/_SUCCESS"),
    ],
)
def test_two_exports_that_would_have_a_file_in_common_are_refused_by_name(
    tmp_path: Path, one: str, other: str, why: str
) -> None:
    """At create(), whether one run is to make both, or another run that has not ended is to make one of them."""
    (tmp_path / "link").symlink_to(tmp_path / "d")
    (tmp_path / "d").mkdir()
    one, other = (_in(tmp_path, target) for target in (one, other))
    words = re.escape(why.replace("FOLDER", str(tmp_path)))
    for pair in ((one, other), (other, one)):
        with pytest.raises(ConfigError, match=rf"are two exports, and {words}.*; give each a folder, or a name"):
            create(tmp_path, "both", *pair)
    create(tmp_path, "first", one)
    with pytest.raises(PipelineExistsError, match=rf"the run 'first' \(pending\) is to make .*: {words}"):
        create(tmp_path, "second", other)
    assert not (tmp_path / "results/second").exists()
    assert not (tmp_path / "results/both").exists()
    create(tmp_path, "elsewhere", _in(tmp_path, "other/{shard}.csv"), _in(tmp_path, "d-x.csv"))


def _in(folder: Path, target: str) -> str:
    kind, colon, path = target.rpartition(":")
    return f"{kind}{colon}{folder}/{path}"


def test_a_stream_whose_name_a_file_of_an_export_may_have_is_refused(tmp_path: Path) -> None:
    run = pipeline(tmp_path, str(tmp_path / "o/x.jsonl"), also=[f"jsonl:{tmp_path}/o/{{shard}}.jsonl"])
    words = rf"would be an export, and {tmp_path}/o/x.jsonl is the output of node_0 in the same run: a name that a file"
    with pytest.raises(ConfigError, match=words):
        run.create("job")
    assert not (tmp_path / "results/job").exists()


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("out.jsonl.errors.jsonl", "the dead letters of the output of node_0"),
        ("out.jsonl.rejected.jsonl", "the rejected rows of the output of node_0"),
        ("jsonl:out.jsonl.done", "the seal of the output of node_0"),
        ("jsonl:out.jsonl.commits", "the commit log of the output of node_0"),
        ("jsonl:out.jsonl.commits.tmp", "the commit log of the output of node_0, half written"),
        ("out.jsonl.{n}.jsonl", "the dead letters of the output of node_0"),
        ("out.jsonl.rejected.jsonl.errors.jsonl.csv", None),
        ("jsonl:results/job/runtime.json", "runtime.json of the run"),
        ("jsonl:run.log", "the platform log"),
        ("jsonl:in.jsonl", "the input"),
    ],
)
def test_an_export_that_would_lie_where_the_run_has_a_file_is_refused_by_name(
    tmp_path: Path, target: str, what: str | None
) -> None:
    settings: dict[str, Any] = {"results_dir": tmp_path / "results", "log_file": tmp_path / "run.log"}
    inputs = write_jsonl(tmp_path / "in.jsonl", numbered(2))
    run = UnifiedPipeline([same], str(inputs), str(tmp_path / "out.jsonl"), also=[_in(tmp_path, target)], **settings)
    if what is None:
        assert run.create("job").pipeline_id == "job"
        return
    with pytest.raises(ConfigError, match=rf"would be an export, and .* is {what} in the same run.*another path"):
        run.create("job")
    assert not (tmp_path / "results/job").exists()


def test_an_export_that_would_lie_beside_a_stream_of_another_run_is_refused_by_name(tmp_path: Path) -> None:
    """When that one has begun, and when it has not; also by a command when its own run is over."""
    beside = f"{tmp_path}/first.jsonl.errors.jsonl"
    first = create(tmp_path, "first")
    with pytest.raises(PipelineExistsError, match=r"would be an export, and the run 'first', .* to write the dead"):
        create(tmp_path, "second", beside)
    first.run(progress=False)
    said = rf"{beside} is where the dead letters of {tmp_path}/first.jsonl lie, a stream of a run; choose another"
    with pytest.raises(StreamExistsError, match=said):
        create(tmp_path, "second", beside)
    with pytest.raises(StreamExistsError, match=said):
        llm_datagen.export("first", beside, results_dir=tmp_path / "results")
    assert not Path(beside).exists()


def test_a_stream_that_would_lie_where_another_run_is_to_make_an_export_is_refused(tmp_path: Path) -> None:
    create(tmp_path, "first", f"{tmp_path}/x.jsonl")
    said = r"would be the output of node_0, and the run 'first', .* is to write an export there"
    with pytest.raises(PipelineExistsError, match=said):
        pipeline(tmp_path, str(tmp_path / "x.jsonl")).create("second")
    create(tmp_path, "third", f"{tmp_path}/y.jsonl.errors.jsonl")
    with pytest.raises(PipelineExistsError, match=r"would be the dead letters of .*'third'.* an export there"):
        create(tmp_path, "y")
    create(tmp_path, "fifth")


def test_a_folder_that_an_export_of_another_run_has_is_refused_with_its_name(tmp_path: Path) -> None:
    """When that one has ended, was killed in between, or was begun by a command; overwriting its own run is free."""
    mine, other = f"{tmp_path}/d/a-{{shard}}.csv", f"{tmp_path}/d/b-{{shard}}.csv"
    create(tmp_path, "first", mine).run(progress=False)
    with pytest.raises(StreamExistsError) as error:
        create(tmp_path, "second", other)
    assert str(error.value) == (
        f"{other} would share {tmp_path}/d/_SUCCESS with {mine}, which the run 'first' made, and that says that all "
        "files of one export are there; give each a folder of its own, or remove the other"
    )
    with pytest.raises(StreamExistsError, match="which the run 'first' made"):
        llm_datagen.export("first", other, results_dir=tmp_path / "results")
    set_folder = f"hf-folder:{tmp_path}/d"
    with pytest.raises(StreamExistsError, match="which the run 'first' made"):
        create(tmp_path, "second", set_folder)

    pipeline(tmp_path, str(tmp_path / "first.jsonl"), also=[other]).create("first", if_exists="overwrite").run(
        progress=False
    )
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [".b.csv.manifest", "_SUCCESS", "b-0.csv"]


def test_a_folder_in_which_an_export_was_killed_is_refused_with_its_name(tmp_path: Path) -> None:
    mine, other = f"hf-folder:{tmp_path}/d", f"{tmp_path}/d/b-{{shard}}.csv"
    run = create(tmp_path, "first", mine)
    fault = Fault(operation="rename", path="*/data-00000.arrow", action="raise", error="ENOSPC")
    with inject(fault), pytest.raises(NodeFailedError, match="make room, then resume"):
        run.run(progress=False)
    shutil.rmtree(tmp_path / "results")  # so that only what lies there tells of it
    with pytest.raises(StreamExistsError, match=r"would share .*d/_SUCCESS with .*/d, which the run 'first' began"):
        create(tmp_path, "second", other)


def test_a_run_that_failed_keeps_its_exports_for_its_resume(tmp_path: Path) -> None:
    mine = f"{tmp_path}/a.csv"
    write_jsonl(tmp_path / "in.jsonl", numbered(3))
    failing = UnifiedPipeline(
        [lambda row: row["none"]],
        str(tmp_path / "in.jsonl"),
        str(tmp_path / "first.jsonl"),
        also=[mine],
        results_dir=tmp_path / "results",
        log_file=None,
    ).create("first")
    with pytest.raises(NodeFailedError):
        failing.run(progress=False)
    with pytest.raises(PipelineExistsError, match=r"run 'first' \(failed\) is to make .*a.csv: both would write"):
        create(tmp_path, "second", mine)
    run = pipeline(tmp_path, str(tmp_path / "second.jsonl"), also=[mine]).create("second", if_exists="overwrite")
    assert run.run(progress=False).status == "completed"


@pytest.mark.slow
def test_exports_in_one_folder_of_a_store_are_refused_with_both_names(s3: S3Bucket, tmp_path: Path) -> None:
    mine, other = s3.uri("d/a-{shard}.csv"), s3.uri("d/b-{shard}.csv")
    with pytest.raises(ConfigError, match=r"both would put .*://.*/d/_SUCCESS, which says"):
        create(tmp_path, "both", mine, other)
    create(tmp_path, "first", mine).run(progress=False)
    for again in (other, f"hf-folder:{s3.uri('d')}"):
        with pytest.raises(StreamExistsError, match=r".*://.*/d/_SUCCESS with .*://.*/d/a-.*'first' made"):
            create(tmp_path, "second", again)
