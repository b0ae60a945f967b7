"""`llm-datagen export` and `llm_datagen.export`: files of other formats of a run, with a card, and on the hub."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

import llm_datagen
from llm_datagen import ConfigError, UnifiedPipeline
from llm_datagen.errors import HubError

from ..kit.hub import TOKEN, FakeHub
from ..kit.s3 import S3Bucket
from ..kit.support import lines, numbered, write_jsonl
from .conftest import Command
from .shell import Shell


def keep_even(row: Any) -> Any:
    return {**row, "text": f"row {row['n']}"} if row["n"] % 2 == 0 else None


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with a completed run of the id "job": 10 rows of 20."""
    write_jsonl(tmp_path / "in.jsonl", numbered(20))
    folder = tmp_path / "results"
    pipeline = UnifiedPipeline(
        [keep_even], str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), results_dir=folder, log_file=None
    )
    pipeline.create("job").run(progress=False)
    return folder


def test_a_run_is_exported_with_a_card(tmp_path: Path, results: Path) -> None:
    target = tmp_path / "set" / "data-{shard:05}.jsonl"
    made = llm_datagen.export(
        "job", target, results_dir=results, rows_per_shard=4, keep_ids=False, card=True, license="cc-by-4.0"
    )

    assert [len(lines(Path(path))) for path in made.paths] == [4, 4, 2]
    card = (tmp_path / "set" / "README.md").read_text()
    assert "license: cc-by-4.0\n" in card
    assert "  - 'data-00000.jsonl'\n" in card
    assert "10 rows in 3 files" in card
    assert "| keep_even | 20 | 10 | 10 | 0 | 0 |" in card


@pytest.mark.slow
def test_the_command_exports_and_says_which_rows_do_not_fit(tmp_path: Path, results: Path, command: Command) -> None:
    results_dir = ["--results-dir", str(results)]
    done = command("export", "job", "--to", "out.csv.gz", "--id-column", "row", *results_dir)
    assert "out.csv.gz: 10 rows in 1 file" in done.stdout

    schema = ["--to", "out.parquet", "--schema", "{n: int8, text: int64}", "--json"]
    done = command("export", "job", *schema, *results_dir, code=1)
    assert json.loads(done.stdout)["failed"] == 10
    done = command("export", "job", "--to", "again.parquet", "--schema", "out.parquet", "--json", *results_dir, code=1)
    assert json.loads(done.stdout)["failed"] == 10
    done = command("export", "job", "--to", "none.parquet", "--schema", "no.parquet", *results_dir, code=2)
    told = " ".join(done.stderr.split())
    assert "no.parquet does not exist; give the path of a Parquet or Arrow file whose columns have the types" in told
    for option, why in (
        (["--schema", "{n: strnig}"], "column 'n': 'strnig' is no type of a JSON value; did you mean 'string'?"),
        (["--schema", "{n: string"], "--schema: '{n: string' is not a YAML value: expected ',' or '}'"),
        (["--option", "mixd=json"], "'mixd' is no option of an export; did you mean 'mixed'?"),
        (["--option", "mixed=[1"], "--option mixed: '[1' is not a YAML value: expected ',' or ']'"),
    ):
        done = command("export", "job", "--to", "none.parquet", *option, *results_dir, code=2)
        assert why in " ".join(done.stderr.split())

    done = command("export", "job", "--to", "out.xlsx", *results_dir, code=2)
    assert "does not say a format" in done.stderr


@pytest.mark.slow
def test_the_command_exports_to_a_store(results: Path, command: Command, s3: S3Bucket) -> None:
    asked = ["--card", "--results-dir", str(results)]
    to = s3.uri("train/{shard:02}.csv")
    assert "10 rows in 3 files" in command("export", "job", "--to", to, "--rows-per-shard", "4", *asked).stdout
    assert s3.get("train/02.csv") == b"_i,n,text\n16,16,row 16\n18,18,row 18\n"
    assert "  - '00.csv'\n" in (s3.get("train/README.md") or b"").decode()
    again = command("export", "job", "--to", f"csv:{to}", "--rows-per-shard", "4", *asked)
    assert "which were there already" in again.stdout
    refused = command("export", "job", "--to", to, *asked, code=1)
    assert "was made with other options" in " ".join(refused.output.split())
    assert "10 rows in 1 file" in command("export", "job", "--to", to, "--overwrite", *asked).stdout
    expected = {"train/00.csv", "train/..csv.manifest", "train/_SUCCESS", "train/README.md"}
    assert s3.all_keys() == expected


def test_only_completed_runs_are_exported(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", numbered(2))
    UnifiedPipeline(
        [keep_even], str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), results_dir=tmp_path, log_file=None
    ).create("job")

    with pytest.raises(ConfigError, match="is pending, and only completed runs"):
        llm_datagen.export("job", tmp_path / "out.csv", results_dir=tmp_path)


def test_a_run_is_pushed_to_the_hub_in_one_commit(tmp_path: Path, results: Path, hub: FakeHub) -> None:
    import pyarrow.parquet as pq

    hub.files["data/train-00007.parquet"] = b"of an earlier push"
    made = llm_datagen.export("job", "hf://org/set", results_dir=results, rows_per_shard=6, keep_ids=False)

    assert made.rows == 10
    assert hub.commits == 1
    assert (hub.created[0]["name"], hub.created[0]["type"]) == ("set", "dataset")
    assert hub.created[0].get("visibility", hub.created[0].get("private")) in {"private", True}
    assert sorted(hub.files) == ["README.md", "data/train-00000.parquet", "data/train-00001.parquet"]
    rows = pq.read_table(BytesIO(hub.files["data/train-00001.parquet"])).to_pylist()
    assert rows == [{"n": n, "text": f"row {n}"} for n in (12, 14, 16, 18)]
    assert b"# set" in hub.files["README.md"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


@pytest.mark.parametrize(("status", "said"), [(401, "does not know who you are"), (403, "may not"), (500, "500")])
def test_what_the_hub_refuses_is_said_without_the_token(results: Path, hub: FakeHub, status: int, said: str) -> None:
    hub.refusal = status
    with pytest.raises(HubError, match=said) as refused:
        llm_datagen.export("job", "hf://org/set", results_dir=results)
    assert TOKEN not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("name", ["hf://org", "hf://org/set/more", "hf://org/s et"])
def test_a_name_that_is_no_data_set_is_refused(results: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="write hf://org/name"):
        llm_datagen.export("job", name, results_dir=results)


def test_the_summary_of_a_run_names_what_was_exported(shell: Shell) -> None:
    also = ["parquet:set/{shard:05}.parquet", "a b.csv"]
    options = {"rows_per_shard": 20}
    done = shell.run("run", shell.yaml(["ops:odd"], also=also, export_options=options), "--id", "a")
    assert done.returncode == 0, done.stderr
    shown = done.stdout.partition("run a: completed")[2].splitlines()
    assert "  output  out.jsonl" in shown
    assert f"  export {shell.folder}/set/{{shard:05}}.parquet (parquet): 25 rows in 2 files" in shown
    assert f"  export {shell.folder}/a b.csv (csv): 25 rows" in shown


def test_a_run_exits_with_1_when_rows_do_not_fit_an_export(shell: Shell) -> None:
    also = [{"to": "out.parquet", "schema": {"n": "string"}}]
    file = shell.yaml(["ops:odd"], also=also)
    for arguments in (
        ["run", file, "--id", "a"],
        ["resume", "a"],
        ["run", file, "--id", "a", "--if-exists", "overwrite", "--target", "99"],
    ):
        done = shell.run(*arguments)
        assert done.returncode == 1, done.stderr
        assert "completed" in done.stdout
        assert "25 rows did not fit" in done.stdout


def test_a_run_whose_export_alone_failed_is_exported_elsewhere(shell: Shell) -> None:
    failed = shell.run("run", shell.yaml(["ops:odd"], also=["set/{m}/{shard:02}.jsonl"]), "--id", "a")
    assert failed.returncode == 1
    assert "parts the rows by the column 'm', and no row has it" in failed.stderr
    assert not (shell.folder / "set").exists()
    done = shell.run("export", "a", "--to", "set/{n}.jsonl")
    assert (done.returncode, done.stdout) == (0, "set/{n}.jsonl: 25 rows in 25 files\n")
    assert lines(shell.folder / "set" / "49.jsonl") == [{"_i": 49, "n": 49}]


def test_the_summary_of_a_run_that_failed_says_that_nothing_is_exported_yet(shell: Shell) -> None:
    failed = shell.run("run", shell.yaml(["ops:no_seven"], also=["out.csv"]), "--id", "a")
    assert failed.returncode == 1
    assert f"  export {shell.folder}/out.csv (csv): not made yet\n" in failed.stdout


def test_the_path_of_a_schema_is_that_of_where_it_is_typed(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command changes to the directory of the run, where the same path is another file, or none."""
    command("run", shell.yaml(["ops:odd"]), "--id", "a")
    elsewhere = shell.folder / "elsewhere"
    elsewhere.mkdir()
    results_dir = ["--results-dir", str(shell.folder / "tmp" / "results")]
    monkeypatch.chdir(elsewhere)
    command("export", "a", "--to", "types.parquet", *results_dir)
    monkeypatch.chdir(elsewhere)  # the command has left it
    made = command("export", "a", "--to", "made.parquet", "--schema", "types.parquet", "--json", *results_dir)
    assert json.loads(made.stdout)["failed"] == 0
    assert (elsewhere / "made.parquet").is_file()
