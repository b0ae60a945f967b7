"""What people read is escaped, whatever rows, names and errors hold; and output never fails a command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from llm_datagen.errors.escape import escape, escape_json, escape_line, shortened
from llm_datagen.llm.prompts.template import row_label
from llm_datagen.runs.display.console import SafeConsole
from llm_datagen.runs.display.lines import node_line
from llm_datagen.runs.display.node_view import NodeView
from llm_datagen.runs.display.tables import node_table

from ..kit.programs import Program
from ..kit.support import PATIENCE_SECONDS, write_jsonl
from .conftest import Command
from .shell import PROGRAM, Shell, Terminal

HOSTILE = "a\x1b[31mb\x9b2Jc\u202ed\x07e\x7ff\u2066g\x00h[bold]i[/]"
SHOWN = r"a\x1b[31mb\x9b2Jc\u202ed\x07e\x7ff\u2066g\x00h[bold]i[/]"
STEERING = "\x1b\x9b\u202e\x07\x7f\u2066\x00"

OPERATORS = f"""
NAME = {HOSTILE!r}


class Hostile:
    name = NAME

    def process_item(self, item, ctx):
        if item["n"] == 1:
            raise ValueError(NAME + "\\n" + item["text"])
        ctx.log("careful " + NAME, level="warning", what=NAME)
        return {{**item, NAME: NAME}}
"""


@pytest.mark.parametrize(
    ("text", "lines", "line"),
    [
        ("plain é 你好 🙂", "plain é 你好 🙂", "plain é 你好 🙂"),
        ("a\nb\tc", "a\nb\tc", r"a\nb\tc"),
        (HOSTILE, SHOWN, SHOWN),
        ("\r\x08\u2028\ufeff\ud83d", r"\r\x08\u2028\ufeff\ud83d", r"\r\x08\u2028\ufeff\ud83d"),
        ("\u200b\U000e0041", r"\u200b\U000e0041", r"\u200b\U000e0041"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text: str, lines: str, line: str) -> None:
    assert escape(text) == lines
    assert escape_line(text) == line
    written = escape_json(json.dumps({"text": text}, ensure_ascii=False, indent=2))
    assert json.loads(written) == {"text": text}
    assert written.replace("\n", "").isprintable()


def test_a_long_text_is_cut() -> None:
    assert [shortened(text, 5) for text in ("12345", "123456", "1\x1b2", "1\x1b", "")] == [
        "12345",
        "1234…",
        r"1\x1…",
        r"1\x1b",
        "",
    ]
    assert row_label({"_i": "x\x1b\n" + "y" * 200}) == r"row x\x1b\n" + "y" * 92 + "…"


def test_tables_and_lines_of_nodes_are_escaped() -> None:
    node = NodeView(node_id="n\n1\x1b", operator=HOSTILE, status="running", stalled=HOSTILE, warning=HOSTILE, failed=1)
    assert SHOWN in node_line(node)
    written = io.StringIO()
    table = Table(title=Text(HOSTILE))
    table.add_column(HOSTILE)
    console = SafeConsole(file=written, width=400, force_terminal=False)
    console.print(table)
    console.print(node_table([node], title=HOSTILE, caption=HOSTILE))
    console.print(HOSTILE, ":smile:")
    assert not set(written.getvalue()) & set(STEERING)
    assert written.getvalue().count("[bold]i[/]") == 7
    assert ":smile:" in written.getvalue()


def test_no_command_lets_foreign_text_steer_the_terminal(shell: Shell, command: Command) -> None:
    (shell.folder / "bad.py").write_text(OPERATORS)
    write_jsonl(shell.folder / "in.jsonl", [{"n": 0, "text": HOSTILE}, {"n": 1, "text": "x"}])
    shell.yaml([{"use": "bad:Hostile", "on_error": "dead_letter"}], log_file="run.log")
    said = [command("run", "p.yaml", "--id", "bad").stdout]
    for line in (
        ["status"],
        ["status", "bad"],
        ["trace", "bad", "0"],
        ["trace", "bad", "1"],
        ["errors", "bad"],
        ["verify", "bad"],
        ["describe", "bad"],
        ["describe", "bad", "--format", "mermaid"],
        ["logs", "bad"],
        ["preview", "p.yaml"],
    ):
        result = command(*line, code=1 if line[0] == "preview" else 0)
        said.append(result.stdout + result.stderr)
    for text in said:
        assert not set(text) & set(STEERING)
    assert sum("\\x1b[31mb" in text for text in said) == len(said) - 2  # the list of runs, and Mermaid's own escapes
    for line in (["status", "bad", "--json"], ["trace", "bad", "0", "--json"], ["errors", "bad", "--json"]):
        written = command(*line).stdout
        assert not set(written) & set(STEERING)
        assert HOSTILE in _texts(json.loads(written))
    logged = (shell.folder / "run.log").read_text()
    assert not set(logged) & set(STEERING)
    assert any(event.get("what") == HOSTILE for event in map(json.loads, logged.splitlines()))
    assert not set(command("trace", "bad", "\x1b[31m", code=1).stdout) & set(STEERING)


def _texts(data: Any) -> str:
    if isinstance(data, dict):
        return "".join(f"{key}{_texts(value)}" for key, value in data.items())
    return "".join(map(_texts, data)) if isinstance(data, list) else str(data)


@pytest.mark.slow
@pytest.mark.process
def test_a_terminal_that_is_not_utf8_gets_escapes_and_no_traceback(shell: Shell) -> None:
    def start(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Start an interpreter of its own: it chooses its encodings when it starts."""
        command, env = (
            [sys.executable, *PROGRAM, *arguments],
            shell.environment(PYTHONUTF8="0", LC_ALL="C", **variables),
        )
        return subprocess.run(command, cwd=shell.folder, env=env, capture_output=True, text=True, check=False)

    write_jsonl(shell.folder / "in.jsonl", [{"n": 0, "text": "你好"}])
    (shell.folder / "bad.py").write_text("def é(item):\n    print('ünï', flush=True)\n    return item\n")
    shell.yaml(["bad:é"])
    done = start("run", "p.yaml", "--id", "a", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "node_0 \\xe9: completed" in done.stdout
    traced = start("trace", "a", "0", PYTHONIOENCODING="ascii:strict")
    assert (traced.returncode, traced.stderr) == (0, "")
    assert "\\u4f60\\u597d" in traced.stdout
    with Terminal(shell, "status", "a") as terminal:
        assert terminal.read_to_end() == 0


@pytest.mark.process
@pytest.mark.parametrize("end", ["closed", "full"])
def test_output_that_nobody_takes_fails_no_run(shell: Shell, end: str) -> None:
    shell.yaml(["ops:odd"])
    if end == "full":
        taker = os.open("/dev/full", os.O_WRONLY)
    else:
        gone, taker = os.pipe()
        os.close(gone)
    with Program(
        [*PROGRAM, "run", "p.yaml", "--id", "a"],
        cwd=shell.folder,
        env=shell.environment(),
        stdout=taker,
        stderr=subprocess.PIPE,
    ) as program:
        os.close(taker)
        _, said = program.communicate(PATIENCE_SECONDS)
    words = "llm-datagen: standard output cannot be written: No space left on device\n" if end == "full" else ""
    assert (program.returncode, said) == (0, words)
    assert len(shell.rows()) == 25


@pytest.mark.slow
@pytest.mark.process
def test_a_run_without_standard_output_does_not_fail(shell: Shell) -> None:
    """An interpreter of its own: without the file, it has no `sys.stdout`."""
    shell.yaml(["ops:odd"])
    done = subprocess.run(
        ["bash", "-c", '"$@" >&-', "bash", sys.executable, *PROGRAM, "run", "p.yaml", "--id", "a"],
        cwd=shell.folder,
        env=shell.environment(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(shell.rows()) == 25
