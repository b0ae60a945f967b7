"""The benchmarks measure right results: a fast engine that loses a row would be no use."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from .__main__ import main
from .child import do
from .compare import Bench
from .data import Data
from .failing import SIDES, measured
from .job import UnsupportedError
from .kinds import Scale, Workload
from .llm import main as llm_main
from .revisions import checked_out
from .rows import References, WrongResultError
from .schedule import ideal_seconds
from .shards import ENGINE
from .shards import main as shards_main
from .telemetry import main as telemetry_main
from .workloads import WORKLOADS

TINY = Scale(rows=0.0003, sleep_factor=0.02)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
@pytest.mark.slow
def test_all_sides_of_a_workload_make_the_same_rows_with_the_same_ids(workload: Workload, tmp_path: Path) -> None:
    references = References(tmp_path / "reference")
    for side, run in workload.runs(TINY).items():
        job = replace(run.job, input=str(run.data.file(tmp_path)), folder=str(tmp_path / side))
        if job.what not in {"plain", "engine", "resume"}:
            continue
        Path(job.folder).mkdir()
        try:
            if job.what == "resume":
                begun = do(replace(job, what="begin"))
                assert begun["rows"] < run.data.rows or job.stop_at < 0
            do(job)
        except UnsupportedError as error:
            pytest.skip(str(error))
        references.check(job.output, Path(job.input), workload.reference or workload.operators)


@pytest.mark.slow
def test_the_command_writes_figures_and_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    assert main(["clean", "--quick", "--repeat", "1", "--folder", str(tmp_path / "bench"), "--json", str(file)]) == 0
    found = json.loads(file.read_bytes())["workloads"]["clean"]
    assert found["figures"]["ratio"] > 0
    assert [len(found["samples"][side]) for side in ("plain", "engine")] == [1, 1]
    assert found["samples"]["engine"][0]["rows"] == 5000
    assert {"work", "process", "cpu", "peak"} <= found["samples"]["engine"][0].keys()
    assert "clean" in capsys.readouterr().out
    assert not (tmp_path / "bench" / "work").exists()


@pytest.mark.slow
def test_the_first_row_is_on_disk_before_a_small_pipeline_ends(tmp_path: Path) -> None:
    workload = next(workload for workload in WORKLOADS if workload.name == "first-row")
    [sample] = Bench(folder=tmp_path, scale=TINY, repeat=1).measure(workload).samples["first_row"]
    assert 0 < sample["work"] <= sample["process"] - 0.1  # its operator sleeps for 11 rows more


@pytest.mark.process
def test_other_rows_than_those_of_the_plain_loop_are_no_figures(tmp_path: Path) -> None:
    workload = Workload(name="wrong", about="", operators=("identity",), reference=("clean",))
    with pytest.raises(WrongResultError, match="which are not the 30"):
        Bench(folder=tmp_path, scale=TINY, repeat=1).measure(workload)


def test_a_result_that_lacks_a_row_or_has_another_id_is_found(tmp_path: Path) -> None:
    given = Data("500b", 12).file(tmp_path)
    references, output = References(tmp_path / "reference"), tmp_path / "out.jsonl"
    rows = [{**json.loads(line), "_i": n} for n, line in enumerate(given.read_text().splitlines())]
    for wrong in (rows[:-1], [*rows[:-1], {**rows[-1], "_i": 12}], [*rows[:-1], rows[0]]):
        output.write_text("".join(json.dumps(row) + "\n" for row in wrong))
        with pytest.raises(WrongResultError):
            references.check(output, given, ("identity",))
    output.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    references.check(output, given, ("identity",))


def test_rows_have_the_size_that_their_name_says(tmp_path: Path) -> None:
    for kind, size in (("20b", 20), ("500b", 500), ("50kb", 50_000), ("csv", 500)):
        rows = 4_000_000 // size
        found = Data(kind, rows).file(tmp_path).stat().st_size / rows  # type: ignore[arg-type]
        assert 0.9 * size <= found <= 1.1 * size, kind


def test_the_ideal_is_what_a_list_schedule_takes() -> None:
    assert ideal_seconds([1.0] * 10, 5) == 2.0
    assert ideal_seconds([1.0] * 11, 5) == 3.0
    assert ideal_seconds([1.0, 1.0, 3.0], 2) == 4.0
    assert ideal_seconds([2.0], 50) == 2.0


@pytest.mark.process
def test_another_revision_is_checked_out_and_removed(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "src").mkdir(parents=True)

    def git(*arguments: str) -> str:
        names = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
        done = subprocess.run(["git", *names, *arguments], cwd=repository, check=True, capture_output=True, text=True)
        return done.stdout

    git("init", "--quiet")
    for text in ("old = 1\n", "new = 1\n"):
        (repository / "src" / "module.py").write_text(text)
        git("add", ".")
        git("commit", "--quiet", "-m", "change")
    with checked_out("HEAD~1", repository) as source:
        assert (source / "module.py").read_text() == "old = 1\n"
    assert not source.exists()
    assert len(git("worktree", "list").splitlines()) == 1
    with pytest.raises(SystemExit, match="nowhere"), checked_out("nowhere", repository):
        pass


@pytest.mark.slow
def test_the_benchmark_of_calls_measures_the_window_of_both_sides(capsys: pytest.CaptureFixture[str]) -> None:
    assert llm_main(["stages", "--rows", "20", "--at-once", "10", "--repeat", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["engine_ideal_s"] == 0.3  # two rounds of 100 ms, and a call more
    for side in ("bare", "engine"):
        assert 0.3 <= found[f"{side}_window_s"] <= found[f"{side}_wall_s"]


@pytest.mark.slow
def test_the_benchmark_of_rows_that_fail_compares_each_side_with_rows_that_do_not() -> None:
    found = measured("20b", 40, 1)
    assert list(found) == list(SIDES)
    assert found["success"]["ratio"] == 1.0
    assert all(figures["ratio"] > 0 and figures["cpu_ratio"] > 0 for figures in found.values())


@pytest.mark.slow
def test_the_benchmark_of_shards_compares_sides_that_make_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    shards_main(["--rows", "60", "--repeat", "1"])
    found = capsys.readouterr().out.splitlines()
    assert [line[:12].strip() for line in found] == list(ENGINE)
    assert found[1].endswith("1.00 times as fast as 1 shard")


@pytest.mark.slow
def test_what_telemetry_costs_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert telemetry_main(["--calls", "20", "--repeat", "1"]) == 0
    layer, *sides = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert layer["side"] == "layer"
    assert [side["side"] for side in sides] == ["off", "hooks", "on", "share"]
    assert sides[0]["cpu_ratio"] == 1
