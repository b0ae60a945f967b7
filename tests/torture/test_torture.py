"""The torture as tests: a few kills by default, one seed of each kind with ``-m slow``, hours with ``-m torture``.

Each runs in a process of its own (`python -m tests.torture`), because it forks, and only a process without threads may.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..kit import programs
from .tampering import tampering
from .tampering_llm import tampering_llm

ROOT = Path(__file__).parents[2]

LONG_SEEDS = [10_000, 20_000, 30_000, 40_000, 50_000]
"""First seeds of the long form: 500 kills each."""


def torture(*arguments: str, timeout: float = 110.0) -> dict[str, Any]:
    """Run the command; fail with what it has found, which says how to do it again."""
    done = programs.run(["-m", "tests.torture", "--json", *arguments], cwd=ROOT, timeout=timeout)
    assert done.stdout, done.stderr
    tally: dict[str, Any] = json.loads(done.stdout)
    assert not tally["findings"], "\n".join(tally["findings"])
    assert done.returncode == 0, done.stderr
    return tally


@pytest.mark.process
@pytest.mark.parametrize("arguments", ["kills --seed 49 --kills 3 --a-seed 3", "llm --seed 12 --seeds 1"])
def test_a_few_cases_find_nothing(arguments: str) -> None:
    """The least form of what follows, so that who changes the engine, or the torture, sees it at once."""
    what, *options = arguments.split()
    tally = torture(what, *options)
    assert tally["runs"] > 0
    if what == "kills":
        assert tally["kills"] > 0
        assert tally["dead_letters"] > 0
        assert tally["cuts"] + tally["fills"] > 0  # which of them, the moment of a kill decides


def test_a_few_edits_of_a_file_make_no_wrong_row_and_a_refusal_changes_nothing(tmp_path: Path) -> None:
    """S3, M22: in data, logs, seals, dead letters and the state of runs."""
    tally = tampering(tmp_path, edits=12, seed=20)
    assert tally.findings == []
    assert tally.runs > 8
    assert tally.refused > 5


@pytest.mark.slow
@pytest.mark.parametrize("store", ["s3", "gs"])
def test_runs_from_object_to_object_lose_and_double_nothing_in_bad_weather(store: str) -> None:
    """S1, S2, R2: input, streams, exports and run state in an object store of which requests fail."""
    tally = torture("stores", "--seed", "100", "--kills", "2", "--store", store)
    assert tally["kills"] >= 2


@pytest.mark.slow
def test_no_row_is_lost_repeated_or_torn_by_kills_power_cuts_and_full_disks() -> None:
    """M21, M24, S1, S2, R2, C1: random pipelines, with rows that fail; calls are repeated within `bounds.py`."""
    tally = torture("--seed", "40", "--kills", "25", "--jobs", "2", "--seconds", "90")
    assert tally["kills"] >= 25
    assert min(tally[name] for name in ("cuts", "fills", "replays", "dead_letters", "again", "abandoned")) > 0


FORMATS = [
    "--input parquet --files 3 --output shards --seed 1000",
    "--compression .zst --output jsonl.zst --seed 2000",
    "--input any --output partitions --seed 4000",
    "--input any --output any --seed 5000",
]
"""Tables in, compressed files in and out, sharded and parted tables out, and everything together."""


@pytest.mark.slow
@pytest.mark.parametrize("formats", FORMATS[-1:])
def test_no_row_is_lost_or_repeated_in_any_format_and_no_torn_part_is_seen(formats: str) -> None:
    """M21: kills also within exports; their files are looked at after each, and compared in the end."""
    options = ("--accident", "kill", "--kills", "6", "--a-seed", "8", "--jobs", "2", "--seconds", "12")
    tally = torture(*formats.split(), *options)
    assert tally["kills"] > 0
    assert tally["runs"] > tally["replays"]


@pytest.mark.slow
def test_the_page_of_guarantees_promises_what_is_measured() -> None:
    """M21, M24: every combination of delivery, fsync and accident, once or more each."""
    tally = torture("table", "--seed", "60", "--kills", "1", "--jobs", "2", "--check", "docs/explanation/guarantees.md")
    assert tally["kills"] + tally["cuts"] + tally["fills"] >= 18


@pytest.mark.slow
def test_no_row_is_lost_or_repeated_in_random_graphs() -> None:
    """M31, S4: streams with several readers, nodes with several inputs or outputs, routers that change their mind."""
    tally = torture("graphs", "--seed", "1", "--kills", "20")
    assert tally["runs"] >= 3
    assert tally["replays"] == tally["runs"]
    assert tally["dead_letters"] > 0


@pytest.mark.slow
def test_operators_that_keep_state_make_in_random_graphs_what_they_make_in_one_go() -> None:
    """M21: dedupe, groups, samples, shuffles and others; rows, their order, and what they stand for."""
    tally = torture("state", "--seed", "1", "--kills", "18")
    assert tally["runs"] >= 3


@pytest.mark.slow
def test_runs_with_targets_end_with_exactly_so_many_rows() -> None:
    """S2, R2: whenever they die; and with more of them when the target is raised."""
    tally = torture("targets", "--seed", "5", "--kills", "18")
    assert tally["runs"] >= 4


@pytest.mark.slow
def test_llm_operators_at_endpoints_that_fail_lose_no_row_and_pay_for_nothing_twice() -> None:
    """M21: kills, cancels, outages, faults, full journals and budgets, against the accounts of the endpoints."""
    assert torture("llm", "--seed", "11", "--seeds", "2")["runs"] == 2


@pytest.mark.slow
def test_rows_in_jobs_of_batch_apis_are_neither_lost_nor_paid_for_twice() -> None:
    """By the accounts of three fake APIs, of which each fails in its way."""
    tally = torture("batch", "--seed", "1", "--kills", "10")
    assert tally["kills"] >= 10
    assert tally["runs"] >= 2


@pytest.mark.slow
def test_runs_in_shards_that_are_killed_are_those_of_one_machine() -> None:
    """M21, R2, F2: drivers, workers, tasks and gathers are killed; rows, ids, dead letters and counts are the same."""
    tally = torture("shards", "--seed", "63", "--seeds", "1")
    assert tally["runs"] == 1
    assert tally["kills"] > 0


@pytest.mark.slow
def test_shards_exceed_neither_a_limit_nor_a_budget_when_they_are_killed() -> None:
    """M21: by the account of the endpoint; how much of a limit is used, the long form measures."""
    assert torture("shards-limit", "--window", "6", "--windows", "1")["runs"] == 1


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_long_shards() -> None:
    """M21, R2, F2: the same, five hundred kills."""
    assert torture("shards", "--seed", "10000", "--kills", "500", timeout=3500)["kills"] >= 500


@pytest.mark.torture
@pytest.mark.timeout(1200)
def test_long_shards_use_nearly_all_of_a_limit() -> None:
    """M21: minutes as they are; at least 90 % of the limit, with kills, and never more than it allows."""
    assert torture("shards-limit", "--windows", "4", timeout=1200)["kills"] == 3


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_long_llm() -> None:
    """M21: the same, three hundred cases."""
    tally = torture("llm", "--seed", "1000", "--seeds", "300", timeout=3500)
    assert tally["runs"] == 300
    assert min(tally[name] for name in ("kills", "fills", "ends", "dead_letters")) > 0


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_long_batch() -> None:
    """The same, three hundred kills."""
    tally = torture("batch", "--seed", "1000", "--kills", "300", timeout=3500.0)
    assert tally["kills"] >= 300


@pytest.mark.torture
@pytest.mark.timeout(1200)
def test_long_graphs() -> None:
    """M31, S4: the same, five hundred kills."""
    assert torture("graphs", "--seed", "1000", "--kills", "500", timeout=1200)["kills"] >= 500


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_long_state() -> None:
    """M21: operators that keep state, a thousand kills."""
    assert torture("state", "--seed", "1000", "--kills", "1000", timeout=3500)["kills"] >= 1000


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_long_targets() -> None:
    """S2, R2: runs with targets, a thousand kills."""
    assert torture("targets", "--seed", "1000", "--kills", "1000", timeout=3500)["kills"] >= 1000


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_the_same_with_operators_in_worker_processes() -> None:
    """M21, R2: their start takes longer than a whole run of the others, so the short form leaves them out."""
    assert torture("--processes", "--seed", "3", "--kills", "200", "--jobs", "2", timeout=3500)["kills"] >= 200


@pytest.mark.slow
def test_a_disk_that_is_full_or_broken_fails_the_run_and_a_resume_mends_it() -> None:
    """M24, S2, F2: a DatagenError that names the file, nothing unfinished is sealed, nothing is left open."""
    tally = torture("full", "--share", "0.015")
    assert tally["runs"] > 15


@pytest.mark.slow
def test_the_pipeline_answers_while_the_disk_is_frozen() -> None:
    """M30: actors that others ask are never those that wait for the disk."""
    assert torture("frozen")["runs"] == 12


@pytest.mark.slow
def test_folders_that_cannot_be_written_or_vanish_are_clear_failures() -> None:
    """S1, S2, M22: logs, results and streams without the right to write, moved away, and removed while running."""
    assert torture("folders")["runs"] == 16


@pytest.mark.slow
def test_files_that_were_cut_or_changed_give_the_right_result_or_a_refusal() -> None:
    """M22, S3: bytes of the last three commits of both streams of a pipeline, cut and flipped."""
    tally = torture("changes", "--share", "0.003")
    assert 0 < tally["refused"] < tally["runs"]


@pytest.mark.torture
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_long_kills(seed: int) -> None:
    """M21, M24, S1, S2, R2, C1: five hundred kills a seed, and some 250 losses of power and 100 full disks."""
    tally = torture("--seed", str(seed), "--kills", "500", "--jobs", "2", timeout=1200)
    assert tally["kills"] >= 500


@pytest.mark.torture
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("formats", FORMATS)
def test_long_formats(formats: str) -> None:
    """M21: the same, five hundred kills each, with losses of power and full disks."""
    tally = torture(*formats.split(), "--kills", "500", "--jobs", "2", timeout=2300)
    assert tally["kills"] >= 500
    assert tally["exporting"] > 50


@pytest.mark.torture
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [3, 5, 11])
def test_long_every_failpoint(seed: int) -> None:
    """M21: a kill before and after every step of the disk, and torn writes, in a run and in its recovery."""
    torture("--seed", str(seed), "--seeds", "1", "--every", "--a-seed", "8", timeout=1200)


@pytest.mark.torture
@pytest.mark.timeout(1200)
def test_long_table() -> None:
    """M21, M24: every combination of delivery, fsync and accident; the page promises no more than is found."""
    options = ("--seed", "500", "--kills", "60", "--jobs", "2", "--check", "docs/explanation/guarantees.md")
    torture("table", *options, timeout=1200)


@pytest.mark.torture
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("fsync", ["never", "close", "flush"])
def test_long_power(fsync: str) -> None:
    """M21, M24: losses of power at every kind of step, also of recoveries, with each kind of fsync."""
    tally = torture(
        "--accident", "power", "--fsync", fsync, "--seed", "60000", "--kills", "500", "--jobs", "2", timeout=1200
    )
    assert tally["cuts"] >= 500
    assert bool(tally["refused"]) == (fsync != "flush")


@pytest.mark.torture
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("what", ["full", "changes"])
def test_long_faults_and_changes(what: str) -> None:
    """M22, M24, S3: every failpoint with every failure; every byte cut and flipped."""
    torture(what, timeout=1200)


@pytest.mark.slow
def test_no_edit_of_a_file_makes_a_wrong_row_and_a_refusal_changes_nothing(tmp_path: Path) -> None:
    """S3, M22: in data, logs, seals, dead letters and the state of runs; `python -m tests.torture tampering`."""
    tally = tampering(tmp_path, edits=100, seed=20)
    assert tally.findings == []
    assert tally.runs > 80
    assert tally.refused > 50


@pytest.mark.slow
def test_no_edit_of_the_account_or_the_journal_makes_a_wrong_row(tmp_path: Path) -> None:
    """S3: `python -m tests.torture tampering-llm` makes more."""
    tally = tampering_llm(tmp_path, edits=16, seed=4)
    assert tally.findings == []
    assert tally.refused > 5
