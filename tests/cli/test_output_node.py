"""Which node's rows are the output of a run: what `export`, `compare`, `status`, reports and summaries mean by it."""

from __future__ import annotations

import json
from io import BytesIO

import pyarrow.parquet as pq
import pytest

import llm_datagen
from llm_datagen import ConfigError, UnifiedNodePipeline
from llm_datagen.cli.target import find_target
from llm_datagen.runs import RunFolder

from ..kit.hub import FakeHub
from ..kit.support import lines
from .conftest import Command
from .shell import Shell

MARKED = """\
input_uri: in.jsonl
output_uri: accepted.jsonl
nodes:
  sort:
    use: ops.Select
    with: {columns: [n]}
    from: input
    to: [good, bad]
    route: {use: ops.RouteWhen, with: {conditions: {good: n < 30}, otherwise: bad}}
  accept: {use: ops.Keep, with: {condition: n >= 0}, from: sort.good, to: output}
  refused: {use: ops.Keep, with: {condition: n >= 0}, from: sort.bad, to: refused.jsonl}
"""
"""30 rows of 50 are the output; 20 are the end of a branch, which comes last."""

UNMARKED = MARKED.replace("output_uri: accepted.jsonl\n", "").replace("to: output", "to: accepted.jsonl")

READ_BY_OTHERS = """\
input_uri: in.jsonl
output_uri: clean.jsonl
nodes:
  clean: {use: ops.Keep, with: {condition: n < 40}, from: input, to: output}
  few: {use: ops.Keep, with: {condition: n < 3}, from: clean, to: few.jsonl}
"""
"""40 rows of 50 are the output, though another node reads them."""

NAMED = MARKED.replace("to: [good, bad]", "to: {good: output, bad: null}").replace(
    "  accept: {use: ops.Keep, with: {condition: n >= 0}, from: sort.good, to: output}\n", ""
)
"""The output is one of the outputs of a node."""


def exported(shell: Shell, name: str = "train.parquet") -> list[int]:
    """Return the numbers of the rows in a file of an export, in order."""
    return sorted(row["n"] for row in pq.read_table(shell.folder / name).to_pylist())


@pytest.mark.parametrize(
    ("text", "node", "rows", "also"),
    [
        (MARKED, "accept", 30, "refused.jsonl"),
        (READ_BY_OTHERS, "clean", 40, "few.jsonl"),
        (NAMED, "sort.good", 30, "refused.jsonl"),
    ],
)
def test_the_node_that_the_file_calls_the_output_is_exported_and_counted(
    shell: Shell, command: Command, text: str, node: str, rows: int, also: str
) -> None:
    told = command("run", shell.text(text), "--id", "g").output
    assert f"rows    50 in, {rows} out ({node}), " in told
    output = "clean.jsonl" if node == "clean" else "accepted.jsonl"
    assert [line.split()[1] for line in told.splitlines() if line.startswith("  output")] == [output, also]

    assert f"train.parquet: {rows} rows of {node} in 1 file" in command("export", "g", "--to", "train.parquet").output
    assert exported(shell) == list(range(rows))
    assert json.loads(command("export", "g", "--to", "train.parquet", "--json").output)["node"] == node

    assert f"{rows} out ({node})," in command("status").output
    assert f"rows: {rows} out ({node})\n" in command("status", "g").output
    [brief] = json.loads(command("status", "--json").output)
    assert (brief["rows_out"], brief["outputs"]) == (rows, [node])
    assert command("compare", "g", "g").output.startswith(f"g ({rows} rows of {node}) and g ({rows} rows of {node})")


@pytest.mark.slow
def test_another_node_is_exported_when_it_is_named_and_its_card_has_the_steps_to_it(
    shell: Shell, command: Command
) -> None:
    command("run", shell.text(MARKED), "--id", "g")
    assert "bad/r.csv: 20 rows of refused in 1 file" in (
        command("export", "g", "--node", "refused", "--to", "bad/r.csv", "--card").output
    )
    card = (shell.folder / "bad/README.md").read_text()
    assert "20 rows of refused in 1 file" in card
    assert [line.split(" | ")[0] for line in card.splitlines() if " | 0 | 0 |" in line] == [
        "| Select",
        "| select(bad)",
        "| Keep",
    ]
    command("export", "g", "--to", "good/r.csv", "--card")
    assert "| select(bad) |" not in (shell.folder / "good/README.md").read_text()
    # The files of one node are not taken for those of another one.
    assert "of another node, or before" in command("export", "g", "--to", "bad/r.csv", code=1).stderr
    unknown = command("export", "g", "--node", "refuse", "--to", "x.csv", code=2).stderr
    assert "--node refuse: the run has no such node; did you mean 'refused'?" in unknown


def test_where_none_of_several_ends_is_marked_nothing_is_guessed(shell: Shell, command: Command) -> None:
    told = command("run", shell.text(UNMARKED), "--id", "u").output
    assert "rows    50 in, 50 out (accept 30, refused 20), " in told
    assert "50 out (accept 30, refused 20)," in command("status").output
    why = "run 'u' has several outputs: accept, refused; say which one: --node NAME, or in Python node=NAME"
    for refused in (("export", "u", "--to", "u.parquet"), ("compare", "u", "u")):
        assert why in " ".join(command(*refused, code=2).stderr.split())
    with pytest.raises(ConfigError, match="has several outputs: accept, refused"):
        llm_datagen.export("u", "u.parquet")
    assert not (shell.folder / "u.parquet").exists()
    assert "u.parquet: 30 rows of accept" in command("export", "u", "--to", "u.parquet", "--node", "accept").output
    assert exported(shell, "u.parquet") == list(range(30))
    assert llm_datagen.export("u", "v.parquet", node="refused").rows == 20
    assert "u (20 rows of refused)" in command("compare", "u", "u", "--node", "refused").output


def test_a_run_of_an_older_version_has_no_mark_and_is_asked_about(shell: Shell, command: Command) -> None:
    command("run", shell.text(READ_BY_OTHERS), "--id", "old")
    command("run", shell.text(MARKED), "--id", "older")
    for name in ("old", "older"):
        folder = RunFolder("tmp/results", name)
        state = folder.load()
        state["nodes"] = [{key: each for key, each in node.items() if key != "is_output"} for node in state["nodes"]]
        folder.save(state)
    assert "few.csv: 3 rows in 1 file" in command("export", "old", "--to", "few.csv").output  # its only end
    assert "has several outputs: accept, refused" in command("export", "older", "--to", "o.csv", code=2).stderr


@pytest.mark.parametrize(
    ("text", "total", "outputs", "samples"),
    [(MARKED, 30, {"accept": 30}, {"accept"}), (UNMARKED, 50, {"accept": 30, "refused": 20}, {"accept", "refused"})],
)
def test_a_report_counts_and_shows_rows_of_the_output_and_says_of_which_node(
    shell: Shell, command: Command, text: str, total: int, outputs: dict[str, int], samples: set[str]
) -> None:
    command("run", shell.text(text), "--id", "g")
    command("report", "g", "--out", "r.json")
    report = json.loads((shell.folder / "r.json").read_text())
    assert (report["totals"]["rows_out"], report["totals"]["outputs"]) == (total, outputs)
    assert {row["node_id"] for row in report["rows"]} == samples
    command("report", "g", "--out", "r.md")
    which = "accept" if len(outputs) == 1 else "accept 30, refused 20"
    assert f"**{total}** rows out ({which})," in (shell.folder / "r.md").read_text()
    command("report", "g", "--out", "r.html")
    page = (shell.folder / "r.html").read_text()
    assert f"<b>{total}</b><span>rows out ({which})</span>" in page
    assert "row 0 of accept" in page


def test_the_report_in_python_has_the_rows_of_the_output(shell: Shell) -> None:
    pipeline = find_target(shell.text(MARKED)).pipeline
    assert isinstance(pipeline, UnifiedNodePipeline)
    report = pipeline.create("g").run(progress=False)
    assert (report.rows_out, report.outputs) == (30, ("accept",))
    assert " 50 in, 30 out (accept), " in repr(report)
    assert sorted(row["n"] for row in report.rows()) == list(range(30))
    assert len(list(report.rows("refused"))) == 20


def test_the_rows_of_the_output_are_pushed_to_the_hub(shell: Shell, command: Command, hub: FakeHub) -> None:
    command("run", shell.text(MARKED), "--id", "g")
    assert "hf://org/set: 30 rows of accept" in command("export", "g", "--to", "hf://org/set").output
    [name] = [name for name in hub.files if name.startswith("data/")]
    assert sorted(row["n"] for row in pq.read_table(BytesIO(hub.files[name])).to_pylist()) == list(range(30))
    assert b"30 rows of accept in 1 file" in hub.files["README.md"]


@pytest.mark.slow
@pytest.mark.parametrize("text", [MARKED, READ_BY_OTHERS])
def test_the_output_of_a_run_in_shards_is_gathered_and_exported(shell: Shell, command: Command, text: str) -> None:
    node, rows, output = ("accept", 30, "accepted.jsonl") if text is MARKED else ("clean", 40, "clean.jsonl")
    told = shell.run("run", shell.text(text), "--id", "s", "--shards", "3", "--merge", "concat").stdout
    assert f"50 in, {rows} out ({node})" in told
    assert sorted(row["n"] for row in lines(shell.folder / output)) == list(range(rows))
    assert f"{rows} rows of {node}" in command("export", "s", "--to", "train.parquet").output
    assert exported(shell) == list(range(rows))
    each = json.loads(command("status", "s", "--json").output)["shards"]["each"]
    assert sum(shard["rows_out"] for shard in each) == rows
    assert "nothing is wrong" in command("verify", "s").output


@pytest.mark.slow
def test_an_earlier_version_is_exported_by_the_same_node(shell: Shell, command: Command) -> None:
    command("run", shell.text(MARKED), "--id", "g")
    shell.text(MARKED.replace("condition: n >= 0}, from: sort.good", "condition: n >= 5}, from: sort.good"))
    command("resume", "g", "--rerun")
    assert "a.csv: 30 rows of accept" in command("export", "g@1", "--to", "a.csv").output
    assert "b.csv: 25 rows of accept" in command("export", "g", "--to", "b.csv").output
    assert "25 the same, 0 changed, 5 only in g@1, 0 only in g" in command("compare", "g@1", "g").output


def test_a_line_is_as_it_was(shell: Shell, command: Command) -> None:
    told = command("run", shell.yaml(["ops:odd", "ops:twice"]), "--id", "a").output
    assert "rows    50 in, 50 out, 25 filtered" in told
    assert "out.csv: 50 rows in 1 file\n" in command("export", "a", "--to", "out.csv").output
    assert "first.csv: 25 rows of node_0 in 1 file" in (
        command("export", "a", "--node", "0", "--to", "first.csv").output
    )
    [brief] = json.loads(command("status", "--json").output)
    assert (brief["rows_out"], brief["outputs"]) == (50, [])
    assert "rows:" not in command("status", "a").output
