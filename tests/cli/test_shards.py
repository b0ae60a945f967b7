"""Runs in shards on the command line: all of them, or one by one as Slurm arrays and Kubernetes Jobs do."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from llm_datagen import ConfigError, UnifiedPipeline
from llm_datagen.cli.execute import summary
from llm_datagen.cli.sharded import ShardOptions
from llm_datagen.errors.advice import as_typed
from llm_datagen.runs import RunFolder
from llm_datagen.shards.array_task import shard_given, shard_of_environment

from ..kit.shards import in_shards, rows_in_shards
from ..kit.support import Bench, lines, numbered
from .conftest import Command
from .shell import Shell


def no_seven(row: dict[str, Any]) -> dict[str, Any]:
    if row["n"] == 7:
        raise ValueError("seven")
    return row


SHARDS = [f"out-{number:05}-of-00003.jsonl" for number in range(3)]


def rows(shell: Shell, pipeline_id: str) -> list[int]:
    """Return the numbers of the rows that the last node of a run has in all shards."""
    bench = Bench(shell.folder)
    bench.results = shell.folder / "tmp/results"
    state = RunFolder(bench.results, pipeline_id).load()
    return [row["n"] for row in rows_in_shards(bench, pipeline_id, state["nodes"][-1]["node_id"])]


@pytest.mark.process
@pytest.mark.slow
def test_a_run_in_shards_is_run_cancelled_by_ctrl_c_or_by_its_id_and_resumed(shell: Shell) -> None:
    """M7, M25: commands for the whole reach all shards; the exit codes are those of one run."""
    target = shell.yaml([{"use": "ops:Gate", "with": {"at": at}} for at in (20, 45)])
    with shell.started("run", target, "--id", "a", "--shards", "3", "--workers", "1") as run:
        shell.reach()
        assert "run a: paused" in shell.run("pause", "a").stdout
        assert "run a: running, not paused" in shell.run("unpause", "a").stdout
        cancelled = shell.run("cancel", "a", "--reason", "no time")
        assert cancelled.returncode == 0
        assert "run a: canceled (no time; go on with llm-datagen resume a" in cancelled.stdout
        told = run.communicate()[0]
        assert "  reason  no time" in told
        assert run.returncode == 1
    assert "shards: " in told
    assert "  go on   llm-datagen resume a" in told
    (shell.folder / "reached").unlink()
    with shell.started("resume", "a", "--workers", "1") as run:
        shell.reach()
        run.send_signal(signal.SIGINT)
        run.communicate()
        assert run.returncode == 130
    shell.open_gate()
    ended = shell.run("resume", "a")
    assert ended.returncode == 0, ended.stderr
    assert "run a: completed" in ended.stdout
    assert "50 in, 50 out" in ended.stdout
    assert [row["n"] for name in SHARDS for row in lines(shell.folder / name)] == list(range(50))
    assert set(shell.calls()) == set(range(50))
    assert len(shell.calls()) == 100  # each row once at each gate: a cancel lets calls in flight finish


@pytest.mark.process
def test_shards_are_run_one_by_one_each_in_a_task_of_an_array(shell: Shell) -> None:
    """Who comes first makes the run; each task runs its shard, and goes on with it when it is started again."""
    target = shell.yaml(["ops:odd"])
    planned = shell.run("run", target, "--id", "a", "--shards", "3", "--executor", "none")
    assert planned.returncode == 0, planned.stderr
    assert "run a: 3 shards are planned, and none is begun" in planned.stdout
    assert "--id a --shard 0/3   (and so on, to 2/3)" in planned.stdout
    slurm = {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "3"}
    tasks: list[tuple[list[str], dict[str, str], int]] = [
        (["--shards", "3", "--executor", "none"], slurm, 0),
        (["--shards", "3", "--shard", "env"], {"JOB_COMPLETION_INDEX": "1"}, 1),
        (["--shard", "2/3"], {}, 2),
        (["--shard", "2/3"], {}, 2),  # again: it is completed
    ]
    for options, variables, number in tasks:
        done = shell.run("run", target, "--id", "a", *options, cwd=None, **variables)
        assert done.returncode == 0, done.stderr
        assert f"run a, shard {number} of 3: " in done.stdout
        assert f"run a, shard {number} of 3: completed after" in done.stdout
        assert "  then    llm-datagen gather a   (when all shards are completed)" in done.stdout
    planned = shell.run("run", target, "--id", "a", "--shards", "3", "--executor", "none")
    assert "run a: 3 shards: all completed" in planned.stdout
    refused = shell.run("run", target, "--id", "a", "--shard", "2/3", "--merge", "concat")
    assert refused.returncode == 2
    assert "run 'a' was made with --merge shards, not 'concat'; leave it out" in " ".join(refused.stderr.split())
    assert not (shell.folder / SHARDS[0]).exists()
    assert shell.run("gather", "a").returncode == 0
    assert [row["n"] for name in SHARDS for row in lines(shell.folder / name)] == [n for n in range(50) if n % 2]


def test_a_task_that_means_another_number_of_shards_is_refused(bench: Bench) -> None:
    """Its rows, and its share of limits and budgets, would be others than it says."""
    bench.give(numbered(9))

    def planned(**given: Any) -> None:
        in_shards(bench.pipeline([no_seven]), **given).prepare("a")

    planned(shards=3)
    with pytest.raises(ConfigError, match="run 'a' has 3 shards, not 5; give shards=3, or choose another id"):
        planned(shards=5)
    with pytest.raises(ConfigError, match="run 'a' was made with merge='shards', not 'concat'; leave it out"):
        planned(shards=3, merge="concat")
    planned(shards=3, merge="shards")


def test_the_end_of_a_run_in_shards_names_only_files_that_are_there(bench: Bench) -> None:
    bench.give(numbered(20))
    pipeline = in_shards(bench.pipeline([no_seven], on_error="dead_letter"))
    pipeline.create("a").run(progress=False)
    told = list(summary(pipeline, 1.0))
    assert f"  output  {bench.folder}/out-*.jsonl" in told
    assert f"  errors  llm-datagen errors a --results-dir {bench.results}" in told
    assert sorted(path.name for path in bench.folder.glob("out-*.jsonl"))[0] == "out-00000-of-00004.jsonl"
    again = in_shards(bench.pipeline([no_seven], on_error="dead_letter")).replay("a")
    (view,) = again.node_views()
    assert (view.done, view.total, view.dead) == (20, 20, 1)  # not 0 of 20, until the shards have said something


@pytest.mark.process
def test_tasks_that_begin_at_once_make_one_run(shell: Shell) -> None:
    """M23: of four processes, one makes the plan; each does its own rows."""
    target = shell.yaml(["ops:odd"])
    with (
        shell.started("run", target, "--id", "a", "--shard", "0/4") as first,
        shell.started("run", target, "--id", "a", "--shard", "1/4") as second,
        shell.started("run", target, "--id", "a", "--shard", "2/4") as third,
        shell.started("run", target, "--id", "a", "--shard", "3/4") as fourth,
    ):
        for each in (first, second, third, fourth):
            told, errors = each.communicate()
            assert each.returncode == 0, told + errors
    assert rows(shell, "a") == [n for n in range(50) if n % 2]


@pytest.mark.process
def test_a_task_that_fails_is_named_and_the_whole_is_resumed_without_its_row(shell: Shell) -> None:
    target = shell.yaml(["ops:no_seven"])
    failed = shell.run("run", target, "--id", "a", "--shard", "0/3")
    assert failed.returncode == 1
    assert "ValueError: seven is [not] wanted" in failed.stderr
    assert "  go on   the same command again" in failed.stdout
    ended = shell.run("resume", "a", "--on-error", "dead_letter")
    assert ended.returncode == 0, ended.stderr
    assert rows(shell, "a") == [n for n in range(50) if n != 7]


def test_commands_reach_shards_that_run_one_by_one(shell: Shell) -> None:
    target = shell.yaml([{"use": "ops:Gate", "with": {"at": 20}}])
    with shell.started("run", target, "--id", "a", "--shard", "0/2") as run:
        shell.reach()
        cancelled = shell.run("cancel", "a")
        assert "run 00000: canceled" in cancelled.stdout
        run.communicate()
        assert run.returncode == 1


WRONG: dict[str, tuple[list[str], str]] = {
    "executor": (["--executor", "local"], "--executor is for a run in shards: give --shards N"),
    "merge": (["--merge", "concat"], "--merge is for a run in shards"),
    "workers": (["--workers", "2"], "--workers is for a run in shards"),
    "shard": (["--shard", "3/3", "--id", "a"], "shard 3 of 3; shards are numbered from 0 to 2"),
    "text": (["--shard", "three", "--id", "a"], "--shard three: must be K/N, such as 3/16"),
    "env": (["--shard", "env", "--id", "a"], "--shard env: the environment names no shard"),
    "id": (["--shard", "0/3"], "give --id ID, the same one for all shards"),
    "two": (["--shard", "0/3", "--shards", "4", "--id", "a"], "give one number of shards"),
    "overwrite": (["--shard", "0/3", "--if-exists", "overwrite", "--id", "a"], "--if-exists overwrite is for a whole"),
}


@pytest.mark.parametrize("case", WRONG)
def test_options_of_shards_that_do_not_fit_are_refused(shell: Shell, command: Command, case: str) -> None:
    options, text = WRONG[case]
    refused = command("run", shell.yaml(["ops:odd"]), *options, code=2)
    assert text in refused.stderr
    assert not (shell.folder / "tmp").exists()


def test_a_command_without_shards_is_told_how_many_the_run_has(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shell.folder)
    in_shards(UnifiedPipeline([no_seven], "jsonl://in.jsonl", "jsonl://out.jsonl", log_file=None)).create("a")
    told = command("run", shell.yaml(["ops:odd"]), "--id", "a", code=2).stderr
    assert told == "Error: run 'a' is in shards: give --shards 4: a run keeps the shards that it was made with\n"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (ShardOptions(), ""),
        (ShardOptions(shards=1), ", in 1 shard"),
        (ShardOptions(shards=2, workers=2), ", in 2 shards"),
        (ShardOptions(shards=2, workers=4), ", in 2 shards: 2 of 4 workers are used"),
    ],
)
def test_workers_that_have_nothing_to_do_are_named(options: ShardOptions, told: str) -> None:
    assert options.split_in_words(options.shards or 1) == told


def test_an_error_advises_options_on_the_command_line() -> None:
    """Whoever wrote it: a layer that knows no options, or another process."""
    text = "out.jsonl is gone; restore it, or start afresh with if_exists='overwrite'"
    assert as_typed(text) == "out.jsonl is gone; restore it, or start afresh with run --if-exists overwrite"
    assert as_typed("if_exists = 'resume'") == "if_exists = 'resume'"
    assert as_typed("say merge='concat', or on_change='accept'") == "say --merge concat, or --accept-changes"
    assert as_typed("on_change='replace', on_change='rerun'") == "--replace, --rerun"


def test_what_is_not_split_is_refused_with_exit_code_2(shell: Shell, command: Command) -> None:
    refused = command("run", shell.yaml(["ops:odd"], target=3), "--shards", "2", code=2)
    assert "target=3 counts the rows of a whole run" in refused.stderr
    command("run", shell.yaml(["ops:odd"]), "--id", "b")
    refused = command("resume", "b", "--workers", "2", code=2)
    assert "--workers is for a run in shards" in refused.stderr


@pytest.mark.parametrize(
    ("environment", "shards", "expected"),
    [
        ({}, 3, None),
        ({"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "4"}, None, (2, 4)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "4"}, 4, (2, 4)),
        ({"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "4"}, 3, (2, 3)),
        ({"JOB_COMPLETION_INDEX": "0"}, 2, (0, 2)),
        ({"SLURM_ARRAY_TASK_ID": "1"}, None, "how many there are: give --shards N"),
        ({"JOB_COMPLETION_INDEX": "1"}, None, "how many there are: give --shards N"),
        ({"JOB_COMPLETION_INDEX": "2"}, 2, "shard 2 of 2"),
        ({"JOB_COMPLETION_INDEX": "x"}, 2, "JOB_COMPLETION_INDEX must be a number, not 'x'"),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "4"}, 3, "the Slurm array has 4 tasks"),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_STEP": "2"}, 3, "none of the array's tasks"),
    ],
)
def test_the_environment_says_which_shard_a_task_runs(
    environment: dict[str, str], shards: int | None, expected: Any
) -> None:
    if isinstance(expected, str):
        with pytest.raises(ConfigError, match=expected):
            shard_of_environment(environment, shards)
    else:
        assert shard_of_environment(environment, shards) == expected
    assert shard_given("3/16") == (3, 16)
