"""Rows that fail: `llm-datagen errors`, `replay`, and a resume that goes on without them (M24)."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from llm_datagen.cli.target import find_target
from llm_datagen.streams import Span, StreamFactory
from llm_datagen.streams.dead_letters import read_dead_letters

from ..kit.support import bag, eventually
from .conftest import Command
from .shell import Shell, forget_operators

PICKY: dict[str, Any] = {"use": "ops:picky", "on_error": "dead_letter"}

ALL_TWICE = [{"n": n, "k": k, "_i": f"{n}_{k}"} for n in range(50) for k in range(2)]


def run_picky(shell: Shell, command: Command) -> str:
    """Run a pipeline in which 18 rows are dead-lettered, and return what was said."""
    return command("run", shell.yaml(["ops:twice", PICKY]), "--id", "a").stdout


@pytest.mark.slow
def test_dead_letters_are_shown_by_node_and_kind_the_most_frequent_first(shell: Shell, command: Command) -> None:
    said = run_picky(shell, command)
    assert "node_1 picky: completed, 100/100 rows" in said
    assert "18 errors (18 dead-lettered)" in said
    assert said.endswith(
        "  rows    50 in, 82 out, 0 filtered, 18 failed (18 dead-lettered)\n"
        "  output  out.jsonl\n"
        "  errors  out.jsonl.errors.jsonl (18 rows)\n"
        "          llm-datagen errors a\n"
    )
    assert "18 errors (18 dead-lettered)" in command("status", "a").stdout
    file = shell.folder / "out.jsonl.errors.jsonl"
    assert command("errors", "a").stdout.splitlines() == [
        "run a: 18 rows dead-lettered",
        "node_1 picky: ValueError, 16 rows",
        "  first    0 is [not] wanted\\x1b[31m",
        '  example  row 0_0: {"n":0,"k":0,"_i":"0_0"}',
        f"  file     {file}",
        "node_1 picky: KeyError, 2 rows",
        "  first    'missing'",
        '  example  row 11_0: {"n":11,"k":0,"_i":"11_0"}',
        f"  file     {file}",
        "each row: llm-datagen errors a --each",
        "when the cause is mended, try them again: llm-datagen replay a",
        "when an operator was edited for that: llm-datagen replay a --accept-changes (rows that are done stay)",
    ]
    told = json.loads(command("errors", "a", "--json", "--node", "1").stdout)
    assert (told["rows"], [group["count"] for group in told["groups"]]) == (18, [16, 2])
    assert told["groups"][1] == {
        "node_id": "node_1",
        "operator": "picky",
        "kind": "KeyError",
        "count": 2,
        "text": "'missing'",
        "row_id": "11_0",
        "input": {"n": 11, "k": 0, "_i": "11_0"},
        "file": str(file),
        "is_cut": False,
    }
    assert command("errors", "a", "--node", "node_0").stdout == "run a: no dead letters\n"
    unknown = command("errors", "a", "--node", "nod_1", code=2).stderr
    assert command("errors", "a", "--node", "picky").stdout == command("errors", "a", "--node", "1").stdout
    for name in ("errors", "logs", "reconfigure"):
        assert "its operator's name" in " ".join(command(name, "--help").stdout.replace("│", "").split())
    assert "--node nod_1: the run has no such node; did you mean 'node_1'?" in unknown
    assert "(runs there: a); check the id and --results-dir\n" in command("errors", "z", code=2).stderr


def test_long_rows_are_shortened_to_the_terminal_and_reasons_are_whole(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shell.folder / "in.jsonl").write_text(
        json.dumps({"n": 7, "text": "表" * 100 + "x" * 1000}) + '\n{"n": 1, \x1b[31m\n'
    )
    command("run", shell.yaml(["ops:picky"], on_error="dead_letter"), "--id", "a")
    monkeypatch.setenv("COLUMNS", "60")
    lines = command("errors", "a").stdout.splitlines()
    shown = [line for line in lines if line.startswith(("  first", "  example"))]
    assert shown[1].startswith('  example  row 0: {"n":7,"text":"表')
    assert shown[1].endswith("…")
    assert shown[2].startswith("  first    in.jsonl, line 2: this is not a row")
    assert shown[3] == '  example  row 1: {"n": 1, \\x1b[31m'
    assert max(cell_len(line) for line in shown if line.startswith("  example")) in {59, 60}
    assert "Mend the line" in shown[2]


@pytest.mark.slow
def test_without_dead_letters_it_says_so_and_how_to_get_them(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:no_seven"]), "--id", "a", code=1)
    assert command("errors", "a").stdout.splitlines() == [
        "run a: no dead letters",
        "  it failed: ValueError: seven is [not] wanted",
        '  at row 7 (in.jsonl, line 8): {"n": 7}',
        "  to continue, and dead-letter rows that fail: llm-datagen resume a --on-error dead_letter",
    ]
    assert "1 error (1 skipped)" in command("resume", "a", "--on-error", "skip").stdout
    assert len(shell.rows()) == 49
    assert command("errors", "a").stdout.splitlines() == [
        "run a: no dead letters",
        "  1 row skipped (on_error: skip); of these, nothing is kept",
    ]
    assert json.loads(command("errors", "a", "--json").stdout) == {"pipeline_id": "a", "rows": 0, "groups": []}


@pytest.mark.slow
def test_dead_letters_are_found_from_elsewhere_and_missed_when_they_are_gone(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run_picky(shell, command)
    results, file = str(shell.folder / "tmp/results"), shell.folder / "out.jsonl.errors.jsonl"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    told = command("errors", "a", "--results-dir", results).stdout
    assert f"try them again: llm-datagen replay a --results-dir {results}\n" in told
    assert str(file) in told
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    for name in ("errors", "replay"):
        assert f"{len(content)} were committed; restore the file" in command(name, "a", code=1).stderr
    file.write_bytes(b"{" * len(content))
    assert "out.jsonl.errors.jsonl, line 1: not a dead letter" in command("errors", "a", code=1).stderr
    file.write_bytes(content)
    (shell.folder / "tmp/results/a/origin.json").unlink()
    monkeypatch.chdir("/")
    gone = command("errors", "a", "--results-dir", results, code=1).stderr
    assert "which node_0 has written, is not there; relative paths count from the directory" in gone
    assert (
        "is not there" in command("replay", "a", str(shell.folder / "p.yaml"), "--results-dir", results, code=1).stderr
    )


def test_millions_of_dead_letters_take_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = StreamFactory.create(f"jsonl://{tmp_path}/out.jsonl")
    sink = stream.sink(source="x")
    text = "x" * 2000
    for n in range(0, 8000, 1000):
        dead_letters = [
            b'{"_i":%d,"error":{"kind":"K","text":"%s"},"source":[%d,0,0]}\n' % (i, text.encode(), i)
            for i in range(n, n + 1000)
        ]
        sink.append(b"", rows=0, spans=[Span(n, n + 1000, n, n + 1000)], dead=1000, dead_letters=b"".join(dead_letters))
    sink.close()
    tracemalloc.start()
    assert [dead_letter["_i"] for dead_letter in read_dead_letters(stream)] == list(range(8000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6_000_000, "of 16 MB"
    monkeypatch.setattr("llm_datagen.streams.dead_letters._CHUNK_BYTES", 777)
    assert sum(1 for _ in read_dead_letters(stream)) == 8000


@pytest.mark.slow
def test_dead_letters_are_tried_again_as_often_as_one_likes(shell: Shell, command: Command) -> None:
    run_picky(shell, command)
    again = command("replay", "a").stdout
    assert again.startswith(f"run a: 18 rows to be tried again (node_1 picky: 18), {shell.folder}/p.yaml\n")
    assert "node_1 picky: running, 82/100 rows, 0.0 rows/s, 0 filtered, 0 errors, 18 pending\n" in again
    assert "  errors  out.jsonl.errors.jsonl (18 rows)\n" in again
    shell.mend()
    again = command("replay", "a", "p.yaml").stdout
    assert again.startswith("run a: 18 rows to be tried again (node_1 picky: 18), p.yaml\n")
    assert again.endswith("  rows    50 in, 100 out, 0 filtered, 0 failed\n  output  out.jsonl\n")
    assert bag(shell.rows()) == bag(ALL_TWICE)
    before = shell.output.stat().st_mtime_ns
    said = "run a: no dead letters, so there is nothing to try again\nrun a: completed\n"
    assert command("replay", "a").stdout == said
    assert shell.output.stat().st_mtime_ns == before
    assert "nothing is wrong" in command("verify", "a").stdout


@pytest.mark.process
def test_dead_letters_of_an_early_node_go_through_all_that_follow(shell: Shell) -> None:
    """In processes of their own, and from elsewhere."""
    file = shell.yaml([PICKY, "ops:twice"], streaming=True)
    assert shell.run("run", file, "--id", "a").returncode == 0
    assert len(shell.rows()) == 82
    shell.mend()
    results = str(shell.folder / "tmp/results")
    done = shell.run("replay", "a", "--results-dir", results, cwd=shell.folder / "tmp")
    assert (done.returncode, done.stderr) == (0, "")
    assert "run a: 9 rows to be tried again (node_0 picky: 9)" in done.stdout
    assert bag(shell.rows()) == bag(ALL_TWICE)


def test_a_replay_needs_to_know_the_operators(shell: Shell, command: Command) -> None:
    pipeline = find_target(shell.yaml([PICKY])).create("a", None)
    pipeline.run()
    forget_operators(Path(pipeline.results_dir) / "a")
    said = command("replay", "a", code=2).stderr
    assert "say it: llm-datagen replay a FILE.yaml (or module:name)" in said
    shell.mend()
    command("replay", "a", "p.yaml")
    assert len(shell.rows()) == 50


@pytest.mark.slow
def test_a_run_that_a_bad_row_has_ended_goes_on_without_it(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:picky"]), "--id", "a", code=1)
    refused = command("resume", "a", "--max-errors", "5", code=2).stderr
    assert "--max-errors: say what becomes of rows that fail: --on-error skip, or dead_letter" in refused
    many = command("resume", "a", "--on-error", "dead_letter", "--max-errors", "3", code=1)
    assert "TooManyErrorsError" in many.stderr
    assert "or let more rows fail: llm-datagen resume a --max-errors N\n" in many.stdout
    more = command("resume", "a", "--max-errors", "0.5")
    assert "9 errors (9 dead-lettered)" in more.stdout
    assert "--on-error" not in more.stdout
    assert len(shell.rows()) == 41


@pytest.mark.parametrize("value", ["many", "-1", "1.5", "nan", ""])
def test_how_many_rows_may_fail_is_a_number_or_a_share(command: Command, value: str) -> None:
    said = command("resume", "a", f"--max-errors={value}", code=2).stderr
    assert "--max-errors must be a number of rows (such as 100), a share of the rows (such as 0.01)" in said


def test_an_unknown_policy_is_refused(command: Command) -> None:
    assert "'shrug' is not one of" in command("resume", "a", "--on-error", "shrug", code=2).stderr


@pytest.mark.slow
@pytest.mark.process
def test_a_run_that_runs_is_watched_and_left_alone(shell: Shell, command: Command) -> None:
    file = shell.yaml([PICKY, {"use": "ops:Gate", "stall_after": 0.2}], streaming=True)
    with shell.started("run", file, "--id", "a") as run:
        shell.reach()
        eventually(lambda: "a: running (node_1 stalled), 50 rows in" in command("status").stdout)
        told = command("status", "a").stdout
        assert "errors (9 dead-lettered)" in told
        assert "; stalled: nothing has moved for" in told
        assert json.loads(command("status", "--json").stdout)[0]["stalled"] == ["node_1"]
        assert "run a: 9 rows dead-lettered" in command("errors", "a").stdout
        assert "run a (running): " in command("verify", "a").stdout
        assert "is being run by process" in command("replay", "a", code=2).stderr
        shell.open_gate()
        output, errors = run.communicate(timeout=30)
    assert (run.returncode, errors) == (0, "")
    assert "; stalled: nothing has moved for 0." in output
    assert "stalled" not in command("status", "a").stdout
    assert len(shell.rows()) == 41


CAUSES = """
def fails(row):
    kind = row["n"] % 5
    if kind == 0:
        raise ValueError(f"row {row['n']} has no 'text'")
    if kind == 1:
        raise ValueError(f"row {row['n']} is too long: {row['n'] * 1000} characters")
    if kind == 2:
        raise KeyError(f"column {row['n'] % 2}")
    if kind == 3:
        assert row["n"] < 0
    raise Exception
"""


def test_causes_are_told_apart_whatever_row_they_name(shell: Shell, command: Command) -> None:
    shell.text(CAUSES, "causes.py")
    command("run", shell.yaml(["causes:fails"], on_error="dead_letter"), "--id", "a")
    groups = json.loads(command("errors", "a", "--json").stdout)["groups"]
    file = shell.folder / "causes.py"
    assert sorted((group["kind"], group["count"], group["text"]) for group in groups) == [
        ("AssertionError", 10, f'(no message) at {file}, line 11: assert row["n"] < 0'),
        ("Exception", 10, f"(no message) at {file}, line 12: raise Exception"),
        ("KeyError", 5, "'column 0'"),
        ("KeyError", 5, "'column 1'"),
        ("ValueError", 10, "row 0 has no 'text'"),
        ("ValueError", 10, "row 1 is too long: 1000 characters"),
    ]


def test_each_row_is_listed_with_its_place_and_what_it_failed_of(shell: Shell, command: Command) -> None:
    shell.text(CAUSES, "causes.py")
    (shell.folder / "in.jsonl").write_text('{"n": 0}\n\n{"n": 5}\n')
    command("run", shell.yaml(["causes:fails"], on_error="dead_letter"), "--id", "a")
    assert command("errors", "a", "--each").stdout.splitlines() == [
        "node_0 row 0 (in.jsonl, line 1): ValueError: row 0 has no 'text'",
        "node_0 row 1 (in.jsonl, line 3): ValueError: row 5 has no 'text'",
    ]
    first, _ = map(json.loads, command("errors", "a", "--each", "--json").stdout.splitlines())
    assert first == {
        "node_id": "node_0",
        "row_id": 0,
        "where": "in.jsonl, line 1",
        "kind": "ValueError",
        "text": "row 0 has no 'text'",
        "input": {"n": 0, "_i": 0},
    }


def test_causes_without_end_are_told_in_bounded_memory(shell: Shell, command: Command) -> None:
    shell.text(
        "def fails(row):\n    raise ValueError('x' + ''.join(chr(97 + row['n'] // 26 ** k % 26) for k in range(3)))\n",
        "causes.py",
    )
    (shell.folder / "in.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(300)))
    command("run", shell.yaml(["causes:fails"], on_error="dead_letter"), "--id", "a")
    groups = json.loads(command("errors", "a", "--json").stdout)["groups"]
    assert (len(groups), groups[0]["count"]) == (201, 100)
    assert groups[0]["text"].startswith("(and other messages) x")
