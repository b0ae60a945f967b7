"""`llm-datagen verify` and `trace`: what the files of a run say (C1)."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from llm_datagen import StreamFactory
from llm_datagen.cli.target import find_target
from llm_datagen.errors import StreamCorruptError
from llm_datagen.runs import RunFolder
from llm_datagen.streams.state.table import TableReader

from ..kit.support import lines, write_jsonl
from .conftest import Command
from .shell import Shell

PICKY = {"use": "ops:picky", "on_error": "dead_letter"}


def run_all_fates(shell: Shell, command: Command) -> None:
    """Run a pipeline in which rows are kept, become two, are filtered, skipped, and dead-lettered."""
    operators = [
        "ops:odd",
        {"use": "ops:no_seven", "on_error": "skip"},
        "ops:twice",
        PICKY,
    ]
    command("run", shell.yaml(operators, streaming=True), "--id", "a")


def test_every_row_of_a_run_is_accounted_for(shell: Shell, command: Command) -> None:
    run_all_fates(shell, command)
    account = {
        "node_0 odd": (50, 25, 25, 0, 0, 0, 25),
        "node_1 no_seven": (25, 24, 0, 1, 0, 0, 24),
        "node_2 twice": (24, 24, 0, 0, 0, 0, 48),
        "node_3 picky": (48, 40, 0, 0, 8, 0, 40),
    }
    text = "{}: {} rows in = {} kept + {} filtered + {} skipped + {} dead-lettered + {} pending; {} rows out, sealed"
    assert command("verify", "a").stdout.splitlines() == [
        *(text.format(node, *counts) for node, counts in account.items()),
        "run a (completed): nothing is wrong",
    ]
    told = json.loads(command("verify", "a", "--json").stdout)
    assert (told["pipeline_id"], told["status"], told["findings"]) == ("a", "completed", 0)
    assert told["nodes"][3] == {
        "node_id": "node_3",
        "rows_in": 48,
        "covered": 48,
        "kept": 40,
        "filtered": 0,
        "rejected": 0,
        "skipped": 0,
        "dead": 8,
        "pending": 0,
        "rows_out": 40,
        "complete": True,
        "target_rows": None,
        "beyond_target": 0,
        "cut_rows": 0,
        "unneeded": False,
        "unsettled": False,
        "findings": [],
    }


def test_at_a_terminal_the_account_is_a_table(shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    run_all_fates(shell, command)
    monkeypatch.setattr("llm_datagen.cli.verify.is_terminal", lambda: True)
    shown = [line.split() for line in command("verify", "a").stdout.splitlines()]
    assert shown[1] == ["node", "in", "kept", "filtered", "skipped", "lettered", "pending", "out", "sealed"]
    assert shown[3] == ["node_1", "no_seven", "25", "24", "0", "1", "0", "0", "24", "yes"]
    assert shown[5] == ["node_3", "picky", "48", "40", "0", "0", "8", "0", "40", "yes"]


def test_a_run_that_is_not_completed_has_rows_pending_and_nothing_wrong(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:odd", "ops:no_seven", "ops:twice"]), "--id", "a", code=1)
    told = command("verify", "a").stdout.splitlines()
    assert told[1].startswith("node_1 no_seven: 25 rows in = 3 kept + ")
    assert told[1].endswith("22 pending; 3 rows out, not sealed")
    assert told[-1] == "run a (failed): nothing is wrong"
    find_target(shell.yaml(["ops:odd", "ops:twice", "ops:odd"], output_uri="jsonl://b.jsonl")).create("b", None)
    told = command("verify", "b").stdout.splitlines()
    assert told[0].startswith("node_0 odd: 50 rows in = 0 kept + ")
    assert told[2].startswith("node_2 odd: ? rows in = 0 kept + ")
    assert told[-1] == "run b (pending): nothing is wrong"


def test_what_is_wrong_is_said_and_ends_with_1(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run_all_fates(shell, command)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setenv("LLM_DATAGEN_RESULTS", str(shell.folder / "tmp/results"))
    assert "nothing is wrong" in command("verify", "a").stdout
    content = shell.output.read_bytes()
    shell.output.write_bytes(content.replace(b'"n":1,', b'"n":2,', 1))
    told = command("verify", "a", code=1).stdout
    assert "run a (completed): 1 finding\n  node_3: out.jsonl, bytes 0 to " in told
    assert "the checksum is " in told
    shell.output.write_bytes(content)
    dead_letters = Path(f"{shell.output}.errors.jsonl")
    kept = dead_letters.read_bytes()
    dead_letters.unlink()
    assert json.loads(command("verify", "a", "--json", code=1).stdout)["findings"] > 0
    dead_letters.write_bytes(kept)
    assert "nothing is wrong" in command("verify", "a").stdout
    for path in shell.folder.glob("out.jsonl*"):
        path.unlink()
    told = command("verify", "a", code=1).stdout
    assert "node_3 picky: 48 rows in = ? kept + " in told
    assert (
        "  node_3: out.jsonl is gone, with its commit log and its seal, and 48 source rows were done; restore it\n"
        in told
    )
    (shell.folder / "in.jsonl").unlink()
    assert "  node_0: the source cannot be read: " in command("verify", "a", code=1).stdout
    assert "there is no run 'z'" in command("verify", "z", code=2).stderr


@pytest.mark.process
def test_what_was_in_the_memory_of_a_process_is_not_missed(shell: Shell, command: Command) -> None:
    file = shell.yaml([PICKY, PICKY, PICKY], default_protocol="memory://")
    assert shell.run("run", file, "--id", "a").returncode == 0
    told = command("verify", "a").stdout
    assert "node_2 picky: ? rows in = ? kept + " in told
    assert "run a (completed): nothing is wrong" in told
    assert "run a: no dead letters" in command("errors", "a").stdout
    assert command("trace", "a", "3").stdout.count("itself") == 2


def test_of_many_findings_the_first_are_shown(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:odd"]), "--id", "a")
    output = shell.folder / "out.jsonl"
    other_ids = re.sub(rb'"_i":(\d)(?=\d)', lambda found: b'"_i":%d' % (int(found[1]) + 5), output.read_bytes())
    output.write_bytes(other_ids)
    told = command("verify", "a", code=1).stdout
    assert "run a (completed): 20 findings" in told
    assert "node_0: of more findings than 20, these are the first" in told


def test_the_steps_of_a_row_are_traced_though_its_file_is_gone(shell: Shell, command: Command) -> None:
    folder = shell.folder / "in"
    folder.mkdir()
    write_jsonl(folder / "a.jsonl", [{"n": 1}, {"n": 2}])
    write_jsonl(folder / "b.jsonl", [{"n": 3}])
    command("run", shell.yaml(["ops:odd"], input_uri="in/"), "--id", "a")
    (folder / "a.jsonl").unlink()
    assert command("trace", "a", "2").stdout.splitlines() == [
        "run a: row 2",
        "input  in/",
        "  itself  2  UNREADABLE: a.jsonl is gone",
        "node_0 odd  jsonl://out.jsonl",
        '  itself  2  {"n":3,"_i":2}',
    ]
    assert "FILTERED" in command("trace", "a", "1").stdout
    of_input, _ = json.loads(command("trace", "a", "2", "--json").stdout)["found"]
    assert (of_input["state"], of_input["item"]) == ("unreadable", {"reason": "a.jsonl is gone"})
    assert "a.jsonl is gone, so rows cannot be looked up" in command("trace", "a", "7", code=1).stderr


def test_a_row_is_traced_through_all_streams(shell: Shell, command: Command) -> None:
    run_all_fates(shell, command)
    assert command("trace", "a", "21").stdout.splitlines() == [
        "run a: row 21",
        "input  jsonl://in.jsonl",
        '  itself      21    {"n":21,"_i":21}',
        "node_0 odd  jsonl://tmp/a/node_0.jsonl",
        '  itself      21    {"n":21,"_i":21}',
        "node_1 no_seven  jsonl://tmp/a/node_1.jsonl",
        '  itself      21    {"n":21,"_i":21}',
        "node_2 twice  jsonl://tmp/a/node_2.jsonl",
        '  descendant  21_0  {"n":21,"k":0,"_i":"21_0"}',
        '  descendant  21_1  {"n":21,"k":1,"_i":"21_1"}',
        "node_3 picky  jsonl://out.jsonl",
        "  descendant  21_0  DEAD LETTER: ValueError: 21 is [not] wanted\\x1b[31m",
        '  descendant  21_0  it was given {"n":21,"k":0,"_i":"21_0"}',
        "  descendant  21_1  DEAD LETTER: ValueError: 21 is [not] wanted\\x1b[31m",
        '  descendant  21_1  it was given {"n":21,"k":1,"_i":"21_1"}',
    ]
    assert command("trace", "a", "1_1").stdout.splitlines() == [
        "run a: row 1_1",
        "input  jsonl://in.jsonl",
        '  ancestor  1    {"n":1,"_i":1}',
        "node_0 odd  jsonl://tmp/a/node_0.jsonl",
        '  ancestor  1    {"n":1,"_i":1}',
        "node_1 no_seven  jsonl://tmp/a/node_1.jsonl",
        '  ancestor  1    {"n":1,"_i":1}',
        "node_2 twice  jsonl://tmp/a/node_2.jsonl",
        '  itself    1_1  {"n":1,"k":1,"_i":"1_1"}',
        "node_3 picky  jsonl://out.jsonl",
        '  itself    1_1  {"n":1,"k":1,"_i":"1_1"}',
    ]


def test_where_an_answer_comes_from_is_abbreviated_for_people(shell: Shell, command: Command) -> None:
    """`_meta` grows with each node; programs get it whole."""
    write_jsonl(shell.folder / "in.jsonl", [{"n": 1, "_meta": {"node_0": {"model": "m"}}}])
    command("run", shell.yaml(["ops:odd"]), "--id", "a")
    assert '{"n":1,"_meta":"…","_i":0}' in command("trace", "a", "0").stdout
    found = json.loads(command("trace", "a", "0", "--json").stdout)["found"]
    assert [row["item"]["_meta"] for row in found] == [{"node_0": {"model": "m"}}] * 2


def test_where_a_row_ends_is_said(shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    run_all_fates(shell, command)
    monkeypatch.setattr("llm_datagen.cli.trace.is_terminal", lambda: True)
    assert command("trace", "a", "8").stdout.endswith(
        "node_0 odd  jsonl://tmp/a/node_0.jsonl\n  itself  8  FILTERED: nothing comes of it\n"
    )
    assert command("trace", "a", "7").stdout.endswith(
        "node_1.jsonl\n  itself  7  SKIPPED: it failed, and was left out\n"
    )


def test_a_row_that_is_not_done_yet_is_said_to_be_pending(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:odd", "ops:no_seven", "ops:twice"]), "--id", "a", code=1)
    told = command("trace", "a", "9").stdout
    assert told.endswith("node_1 no_seven  jsonl://tmp/a/node_1.jsonl\n  itself  9  PENDING: not done yet\n")


@pytest.mark.slow
def test_a_trace_is_given_to_programs_and_the_exit_code_says_whether_there_is_one(
    shell: Shell, command: Command
) -> None:
    run_all_fates(shell, command)
    told = json.loads(command("trace", "a", "21_0", "--json").stdout)
    assert (told["pipeline_id"], told["row_id"]) == ("a", "21_0")
    assert [(row["where"], row["relation"], row["state"]) for row in told["found"]] == [
        ("input", "ancestor", "row"),
        ("node_0", "ancestor", "row"),
        ("node_1", "ancestor", "row"),
        ("node_2", "itself", "row"),
        ("node_3", "itself", "dead letter"),
    ]
    assert told["found"][4]["item"]["error"]["kind"] == "ValueError"
    assert json.loads(command("trace", "a", "21", "--json").stdout)["row_id"] == 21
    nothing = "run a: there is no row 50 in any of its streams\n"
    assert command("trace", "a", "50", code=1).stdout == nothing
    child = (
        "run a: there is no row '1_9' in any of its streams; of row 1, whose child it would be: llm-datagen trace a 1\n"
    )
    assert command("trace", "a", "1_9", code=1).stdout == child
    assert json.loads(command("trace", "a", "x", "--json", code=1).stdout)["found"] == []
    assert "there is no run 'z'" in command("trace", "z", "1", code=2).stderr


@pytest.mark.slow
def test_rows_of_other_formats_and_long_rows_are_traced(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    (shell.folder / "in.jsonl").write_text(json.dumps("a\x1b" * 100) + "\n5\n\x1b[31m\n")
    (shell.folder / "same.py").write_text("def same(item):\n    return item\n")
    command("run", shell.yaml(["same:same"], on_error="dead_letter"), "--id", "a")
    for row_id in ("0", "1", "2"):
        told = [line for line in command("trace", "a", row_id).stdout.splitlines() if "DEAD LETTER" not in line]
        assert max(map(len, told)) <= 50
    assert "without changing its length in bytes\n" in command("trace", "a", "2").stdout, "a reason is whole"
    assert "  itself  2  it was given \\x1b[31m\n" in command("trace", "a", "2").stdout


@pytest.mark.slow
def test_commands_know_the_protocols_that_the_operators_register(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M16: where a protocol is not known, as in a process that did not run it, the operators' modules are imported."""
    known = dict(StreamFactory._protocols)

    def type_anew(*arguments: str) -> str:
        monkeypatch.setattr(StreamFactory, "_protocols", dict(known))
        monkeypatch.delitem(sys.modules, "shelves", raising=False)
        return command(*arguments).stdout

    (shell.folder / "shelves.py").write_text(SHELVES)
    write_jsonl(shell.folder / "shelf-in", [{"n": n} for n in range(20)])
    uris = {"input_uri": "shelf://in", "output_uri": "shelf://out", "default_protocol": "shelf://"}
    type_anew("run", shell.yaml(["shelves:same", PICKY], **uris), "--id", "a")
    for arguments in (("describe", "a"), ("verify", "a"), ("trace", "a", "3"), ("errors", "a")):
        type_anew(*arguments)
    shell.mend()
    assert "4 rows to be tried again" in type_anew("replay", "a")
    assert len((shell.folder / "shelf-out").read_text().splitlines()) == 20


SHELVES = """
from llm_datagen import JsonlStream, StreamFactory

class Shelf(JsonlStream):
    @property
    def path(self):
        return "shelf-" + self.uri.partition("://")[2].replace("/", "-")

StreamFactory.register("shelf", Shelf)

def same(item):
    return item
"""


@pytest.mark.slow
def test_of_a_rerun_that_was_cut_short_nothing_wrong_is_found(shell: Shell, command: Command) -> None:
    """What it has still to delete or to move is of no node: it is said so, and not looked at."""
    file = shell.yaml([{"use": "ops:add", "with": {"much": 100}}, "ops:twice", "ops:odd"])
    command("run", file, "--id", "a")
    folder = RunFolder(Path("tmp/results"), "a")
    run_state = folder.load()
    streams = [node["output_uri"] for node in run_state["nodes"]]
    for node in run_state["nodes"][1:]:  # as `resume --rerun` writes it before it takes the streams away
        node.update(status="pending", rows_in=0, rows_out=0)
    run_state.update(status="resuming", reset={"delete": streams[1:], "move": []})
    folder.save(run_state)
    told = command("verify", "a").stdout.splitlines()
    assert told[0].startswith("node_0 add: 50 rows in = 50 kept + ")
    assert told[1].startswith("node_1 twice: ? rows in = ? kept + ")
    assert told[3] == "run a (interrupted): nothing is wrong"
    assert "a rerun was cut short: what node_1, node_2 read or made is still to be taken away or moved" in told[4]
    assert "llm-datagen resume a" in told[4]
    assert [node["unsettled"] for node in json.loads(command("verify", "a", "--json").stdout)["nodes"]] == [0, 1, 1]
    traced = command("trace", "a", "3").stdout
    assert "node_0 add" in traced
    assert "node_1" not in traced.split("a rerun was cut short")[0]
    assert "is still to be taken away or moved" in traced
    assert json.loads(command("trace", "a", "3", "--json").stdout)["unsettled"] == ["node_1", "node_2"]
    command("resume", "a")
    told = command("verify", "a").stdout.splitlines()
    assert told[-1] == "run a (completed): nothing is wrong"
    assert "cut short" not in command("trace", "a", "3").stdout


def test_integers_of_any_length_are_shown_as_they_are(shell: Shell, command: Command) -> None:
    long = 12345678901234567890123
    (shell.folder / "in.jsonl").write_text(f'{{"n": 1, "id": {long}}}\n')
    pipeline = shell.yaml(["ops:odd"])
    command("run", pipeline, "--id", "a")
    assert f'"id":{long}' in command("trace", "a", "0").stdout.replace(" ", "")
    assert f'"id":{long}' in command("preview", pipeline).stdout.replace(" ", "")


@pytest.mark.slow
def test_a_state_file_in_which_a_byte_is_another_one_is_found(shell: Shell, command: Command) -> None:
    """SQLite has no checksums, and its own check finds nothing here: the log tells. Removed, it is made anew."""
    write_jsonl(shell.folder / "in.jsonl", ({"text": f"a text of number {n}"} for n in range(50)))
    pipeline = shell.yaml([{"use": "ops.Dedupe", "with": {"by": "text", "mark": "is_copy"}}])
    command("run", pipeline, "--id", "a")
    (path,) = shell.folder.glob("*.state.sqlite")

    def give(text: str) -> None:
        with (shell.folder / "in.jsonl").open("a") as file:
            file.write(json.dumps({"text": text}) + "\n")

    give("new")
    command("resume", "a")  # which brings the table to the last commit before
    command("verify", "a")
    data = path.read_bytes()
    with TableReader(str(path)) as table:
        key, value = next(table.items())
    at = data.index(key + value) + len(key)
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    told = " ".join(command("verify", "a", code=1).stdout.split())
    assert f"{path.name} is damaged: the key " in told
    assert f"remove it (and {path.name}-wal, -shm): a resume makes it anew of " in told
    with pytest.raises(StreamCorruptError, match="sqlite is damaged: the key"):
        find_target(pipeline).pipeline.resume("a", verify="full")
    path.unlink()
    give("a text of number 3")
    command("resume", "a")
    assert [row["is_copy"] for row in lines(shell.output)] == [*[None] * 51, 3]
    command("verify", "a")
