"""A run in shards, shown, verified, traced, exported, compared and gathered by its one id, as one run is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

import llm_datagen
from llm_datagen import RunError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.status import Status
from llm_datagen.shards.file_claim import run_id_of
from llm_datagen.shards.gather import gather
from llm_datagen.shards.pipeline import ShardedPipeline
from llm_datagen.shards.spec import shards_folder

from ..kit.shards import in_shards
from ..kit.support import Bench, lines, numbered
from .conftest import Command

ROWS = 103


class Fates:
    """Gives two rows of every third, none of the one behind it, and fails the seventh of ten."""

    version = "1"

    def __init__(self, mended: bool = False) -> None:
        self.mended = mended

    def process_item(self, row: dict[str, Any], ctx: Any) -> Any:
        """Return what becomes of a row."""
        ctx.report_usage({"provider": "p", "model": "m", "prompt_tokens": 2, "cost": 0.5})
        if row["n"] % 10 == 7 and not self.mended:
            raise ValueError(f"no row {row['n']}")
        return [[{**row, "half": 0}, {**row, "half": 1}], None, row][row["n"] % 3]


class Edited(Fates):
    """The same by another name: what it did is to be done again."""

    version = "2"


Edited.__name__ = Edited.__qualname__ = "Fates"


def sharded(bench: Bench, **settings: Any) -> ShardedPipeline:
    """Return a pipeline in four shards that dead-letters what fails."""
    merge = settings.pop("merge", "concat")
    pipeline = bench.pipeline([settings.pop("operator", Fates())], on_error="dead_letter", ordered=True, **settings)
    return in_shards(pipeline, merge=merge)


def run_both(bench: Bench, merge: str = "concat") -> tuple[str, ...]:
    """Run the same rows as one run, ``one``, and in shards, ``four``; return how to name the folder of the runs."""
    bench.give(numbered(ROWS))
    alone = {"output_uri": f"jsonl://{bench.folder}/one.jsonl"}
    bench.pipeline([Fates()], on_error="dead_letter", ordered=True, **alone).create("one").run(progress=False)
    sharded(bench, merge=merge).create("four").run(progress=False)
    return "--results-dir", str(bench.results)


def test_the_output_is_that_of_one_run_with_its_dead_letters_and_seal(bench: Bench) -> None:
    run_both(bench)
    assert bench.output.read_bytes() == (bench.folder / "one.jsonl").read_bytes()
    dead, alone = lines(Path(f"{bench.output}.errors.jsonl")), lines(bench.folder / "one.jsonl.errors.jsonl")
    assert [[row["_i"], row["source"]] for row in dead] == [[row["_i"], row["source"]] for row in alone]
    seals = [json.loads(Path(f"{path}.done").read_bytes()) for path in (bench.output, bench.folder / "one.jsonl")]
    for name in ("rows", "size", "crc", "cover", "filtered", "ids", "ledger", "complete"):
        assert seals[0][name] == seals[1][name], name


def test_status_shows_the_whole_with_the_counts_of_one_run(bench: Bench, command: Command) -> None:
    """A shard is no run of its own; usage and money are added up."""
    where = run_both(bench)
    one, four = (json.loads(command("status", name, "--json", *where).stdout) for name in ("one", "four"))
    names = ("rows_in", "rows_out", "filtered", "dead_letters", "failed", "total", "total_is_exact", "usage", "cost")
    assert [[node[name] for name in names] for node in four["nodes"]] == [
        [node[name] for name in names] for node in one["nodes"]
    ]
    assert four["status"] == "completed"
    assert four["cost"] == one["cost"] == ROWS / 2
    assert [each["status"] for each in four["shards"]["each"]] == ["completed"] * 4
    assert four["shards"]["each"][0]["rows"][0] == 0
    assert sum(each["rows_in"] for each in four["shards"]["each"]) == ROWS
    text = command("status", "four", *where).stdout
    assert "run four: completed\n" in text
    assert "4 shards: all completed" in text
    listed = command("status", *where).stdout.splitlines()
    assert sorted(line.partition(":")[0] for line in listed) == ["four", "one"]


def test_verify_recounts_all_shards_and_what_was_made_of_them(bench: Bench, command: Command) -> None:
    where = run_both(bench)
    one, four = (command("verify", name, *where).stdout.splitlines() for name in ("one", "four"))
    assert four[0] == one[0]
    assert four[1] == "run four (completed): nothing is wrong"
    told = json.loads(command("verify", "four", "--json", *where).stdout)
    assert (told["findings"], told["whole"], told["nodes"][0]["pending"]) == (0, [], 0)
    data = bench.output.read_bytes()
    bench.output.write_bytes(data.replace(b'"half":0', b'"half":7', 1))
    wrong = command("verify", "four", *where, code=1).stdout
    assert "run four (completed): 1 finding\n" in wrong
    assert f"  {bench.output}, bytes " in wrong
    bench.output.write_bytes(data)
    shard = bench.results / "four/shards/00002/node_0.jsonl"
    shard.write_bytes(shard.read_bytes().replace(b'"half":1', b'"half":7', 1))
    wrong = command("verify", "four", *where, code=1).stdout
    assert f"  node_0: shard 2: {shard}, bytes " in wrong


@pytest.mark.slow
def test_verify_sees_files_of_shards_that_were_changed(bench: Bench, command: Command) -> None:
    where = run_both(bench, "shards")
    assert "nothing is wrong" in command("verify", "four", *where).stdout
    part = bench.folder / "out-00001-of-00004.jsonl"
    part.write_bytes(part.read_bytes()[:-1])
    assert f"  {part} has " in command("verify", "four", *where, code=1).stdout


@pytest.mark.slow
def test_trace_finds_the_shard_of_a_row(bench: Bench, command: Command) -> None:
    """By the number of the row, also of a child; what is found is what one run has."""
    where = run_both(bench)
    for row in ("60_1", "61", "67"):
        one, four = (json.loads(command("trace", name, row, "--json", *where).stdout) for name in ("one", "four"))
        keys = ("where", "row_id", "relation", "state")
        assert [[found[key] for key in keys] for found in four["found"]] == [
            [found[key] for key in keys] for found in one["found"]
        ]
        assert {found["shard"] for found in four["found"]} == {2}
    told = command("trace", "four", "60_1", *where).stdout
    assert told.startswith(f"run four, shard 2: row 60_1\ninput  jsonl://{bench.input}\n  ancestor")
    assert "part://" not in told
    assert json.loads(command("trace", "four", "60_1", "--json", *where).stdout)["found"][0]["uri"] == (
        f"jsonl://{bench.input}"
    )
    assert "there is no row 500" in command("trace", "four", "500", *where, code=1).stdout


@pytest.mark.slow
def test_streams_between_are_shown_where_they_are(bench: Bench, command: Command) -> None:
    """Each shard has its own; the whole has only what is gathered."""
    bench.give(numbered(9))
    where = ("--results-dir", str(bench.results))
    pipeline = bench.pipeline([Fates(mended=True), lambda row: row])
    in_shards(pipeline, merge="shards").create("four").run(progress=False)
    between, output = f"jsonl://{bench.results}/four/shards/*/node_0.jsonl", f"jsonl://{bench.folder}/out-*.jsonl"
    assert [line.strip() for line in command("describe", "four", *where).stdout.splitlines()[1::2]] == [
        f"jsonl://{bench.input}", between, output
    ]  # fmt: skip
    nodes = json.loads(command("status", "four", "--json", *where).stdout)["nodes"]
    assert [(node["input_uri"], node["output_uri"]) for node in nodes] == [
        (f"jsonl://{bench.input}", between),
        (between, output),
    ]
    assert sorted(map(str, bench.results.glob("four/shards/*/node_0.jsonl"))) == [
        f"{bench.results}/four/shards/0000{number}/node_0.jsonl" for number in range(4)
    ]


def test_what_a_run_in_shards_refuses_says_what_works_for_it(bench: Bench) -> None:
    run_both(bench)
    with pytest.raises(llm_datagen.errors.OperatorChangedError) as edited:
        sharded(bench, operator=Edited()).resume("four")
    told = str(edited.value)
    assert "give create() or resume() on_change='replace': these nodes and all that read from them are done" in told
    assert "stays, and what they made is deleted" in told
    assert "rerun" not in told
    with pytest.raises(llm_datagen.ConfigError, match=r"'four' is in shards: ShardedPipeline\(pipeline\)\.resume"):
        bench.pipeline([Fates()]).resume("four")


@pytest.mark.slow
def test_errors_are_those_of_all_shards(bench: Bench, command: Command) -> None:
    where = run_both(bench)
    told = json.loads(command("errors", "four", "--json", *where).stdout)
    assert (told["rows"], len(told["groups"]), told["groups"][0]["row_id"]) == (10, 1, 7)
    each = [json.loads(line) for line in command("errors", "four", "--each", "--json", *where).stdout.splitlines()]
    assert [row["row_id"] for row in each] == list(range(7, ROWS, 10))
    assert each[0]["shard"] == 0
    assert each[-1]["shard"] == 3
    text = command("errors", "four", "--each", *where).stdout
    assert text.startswith("shard 0: node_0 row 7 (")


def test_an_export_is_made_of_all_shards(bench: Bench, command: Command) -> None:
    """On the command line, and by `llm_datagen.export`, whatever became of the outputs."""
    where = run_both(bench, "shards")
    command("export", "four", "--to", f"{bench.folder}/e/four.parquet", *where)
    llm_datagen.export("one", f"{bench.folder}/e/one.parquet", results_dir=bench.results)
    made = llm_datagen.export("four", f"{bench.folder}/e/four.jsonl", results_dir=bench.results)
    one, four = (pyarrow.parquet.read_table(bench.folder / f"e/{name}.parquet") for name in ("one", "four"))
    assert four.equals(one)
    assert made.rows == one.num_rows == len(lines(bench.folder / "e/four.jsonl"))


def test_two_runs_are_compared_in_shards_or_not(bench: Bench, command: Command) -> None:
    where = run_both(bench, "shards")
    told = json.loads(command("compare", "one", "four", "--json", *where).stdout)
    assert told["counts"]["same"] == len(lines(bench.folder / "one.jsonl"))
    assert [told["counts"][kind] for kind in ("changed", "a", "b")] == [0, 0, 0]


@pytest.mark.slow
def test_logs_of_all_shards_are_shown_by_time(bench: Bench, command: Command) -> None:
    where = run_both(bench)
    told = command("logs", "four", "--json", *where).stdout.splitlines()
    events = [json.loads(line) for line in told]
    assert [event["timestamp"] for event in events] == sorted(event["timestamp"] for event in events)
    assert {event["pipeline_id"] for event in events} == {"four", "00000", "00001", "00002", "00003"}
    assert " info four/00002 node_0 [Node Started] " in command("logs", "four", *where).stdout
    told = json.loads(command("logs", "four", "--summary", "--json", *where).stdout)
    assert [run["pipeline_id"] for run in told["runs"]] == ["four", "00000", "00001", "00002", "00003"]
    text = command("logs", "four", "--summary", *where).stdout
    assert "run four, shard 00003: " in text
    assert "the bottleneck is known when" not in text  # the driver has no nodes of its own
    one, four = (command("describe", name, *where).stdout for name in ("one", "four"))
    assert four == one.replace("one.jsonl", "out.jsonl")


def unfinish(bench: Bench, status: Status, *numbers: int) -> None:
    """Take shards back to a status, as if they had not ended; the whole has not, either."""
    whole = RunFolder(bench.results, "four")
    for number in numbers:
        folder = RunFolder(shards_folder(whole).location, run_id_of(number))
        folder.save({**folder.load(), "status": str(status), "error": "ValueError: boom"})
    whole.save({**whole.load(), "status": str(Status.PENDING)})


def test_a_gather_waits_for_all_shards_and_says_which_are_left(bench: Bench, command: Command) -> None:
    where = run_both(bench)
    before = bench.output.read_bytes()
    gather(bench.results, "four")
    unfinish(bench, Status.FAILED, 1, 2)
    unfinish(bench, Status.CANCELED, 3)
    resume = f"llm-datagen resume four --results-dir {bench.results}"
    with pytest.raises(RunError, match="'four' cannot be gathered yet: failed: 1-2, canceled: 3; go on with llm-data"):
        gather(bench.results, "four")
    said = command("gather", "four", *where, code=1).output
    assert "cannot be gathered yet" in " ".join(said.split())
    told = json.loads(command("status", "four", "--json", *where).stdout)
    assert (told["status"], told["error"]) == ("failed", "shard 1: ValueError: boom")
    assert told["note"].startswith("shard 1: ValueError: boom; go on with ")
    assert resume in told["note"]
    assert bench.output.read_bytes() == before
    with pytest.raises(RunError, match="cannot be gathered yet"):
        llm_datagen.export("four", f"{bench.folder}/x.parquet", results_dir=bench.results)
    unfinish(bench, Status.COMPLETED, 1, 2, 3)
    told = json.loads(command("status", "four", "--json", *where).stdout)
    assert (told["status"], told["note"].partition(":")[0]) == ("pending", "all shards are completed; gather them")
    told_lines = command("gather", "four", *where).stdout.splitlines()
    assert told_lines == [
        "run four: completed: 4 shards are gathered",
        "  rows    103 in, 95 out, 30 filtered, 10 failed (10 dead-lettered)",
        f"  output  {bench.output}",
    ]
    assert bench.output.read_bytes() == before
    assert "nothing is wrong" in command("verify", "four", *where).stdout
    assert "not in shards" in command("gather", "one", *where, code=2).output


@pytest.mark.slow
def test_a_shard_that_has_not_begun_is_pending_with_its_rows(bench: Bench, command: Command) -> None:
    """Where each shard is run by itself, and nobody has run one yet: its rows are counted, and said to be to come."""
    where = run_both(bench)
    shutil.rmtree(bench.results / "four/shards/00002")
    whole = RunFolder(bench.results, "four")
    whole.save({**whole.load(), "status": str(Status.PENDING)})
    told = json.loads(command("status", "four", "--json", *where).stdout)
    rows = told["shards"]["each"][2]["rows"]
    assert (told["status"], told["nodes"][0]["status"], told["nodes"][0]["pending"]) == (
        "pending",
        "pending",
        rows[1] - rows[0],
    )
    assert told["note"].startswith("not begun: 2; go on with llm-datagen resume four")
    verified = command("verify", "four", *where).stdout
    assert f"+ {rows[1] - rows[0]} pending; " in verified
    assert "run four (pending): nothing is wrong" in verified
    said = command("trace", "four", str(rows[0]), *where, code=1).stdout
    assert said.endswith("in any of its streams yet: it belongs to shard 2, which has not begun\n")


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("merge", ["concat", "shards"])
def test_a_replay_does_the_dead_letters_of_all_shards_and_gathers_again(
    bench: Bench, command: Command, merge: str
) -> None:
    where = run_both(bench, merge)
    mended = sharded(bench, merge=merge, operator=Fates(mended=True))
    report = mended.replay("four", on_change="accept").run(progress=False)
    assert (report.status, report.nodes[0].dead_letters, report.nodes[0].rows_in) == ("completed", 0, ROWS)
    assert "no dead letters" in command("errors", "four", *where).stdout
    assert "nothing is wrong" in command("verify", "four", *where).stdout
    paths = sorted(bench.folder.glob("out*.jsonl"))
    assert len(paths) == (1 if merge == "concat" else 4)
    numbers = {row["n"] for path in paths for row in lines(path)}
    assert numbers == {n for n in range(ROWS) if n % 3 != 1}


@pytest.mark.slow
def test_a_run_that_is_made_afresh_takes_its_outputs_with_it(bench: Bench, command: Command) -> None:
    """Of another merge, too; and nothing of another run."""
    where = run_both(bench, "shards")
    sharded(bench, merge="concat").create("four", if_exists="overwrite").run(progress=False)
    assert not list(bench.folder.glob("out-*"))
    assert not (bench.folder / "_SUCCESS").exists()
    assert bench.output.read_bytes() == (bench.folder / "one.jsonl").read_bytes()
    assert "nothing is wrong" in command("verify", "four", *where).stdout
    with pytest.raises(llm_datagen.DatagenError, match=r"out\.jsonl"):
        sharded(bench, merge="concat").create("other")
