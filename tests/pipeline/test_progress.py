"""`run(progress=…)`: a table in a terminal and in a notebook, lines elsewhere if wanted; and the report in short."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, DefaultPipelineHooks, NodeFailedError, UnifiedNode, UnifiedPipeline
from llm_datagen.pipeline import progress
from llm_datagen.runs.display.notebook import NotebookTable
from llm_datagen.runs.run_report import RunReport
from llm_datagen.runs.status import NodeReport, Status

from ..kit.programs import Program
from ..kit.support import PATIENCE_SECONDS, numbered, write_jsonl


class Ends(DefaultPipelineHooks):
    """The user's own hooks."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def on_node_end(self, cid: str, nid: str, success: bool, error: BaseException | None) -> None:
        self.ends.append(nid)


def odd(item: Any) -> Any:
    return item if item["n"] % 2 else None


def make(folder: Path, **settings: Any) -> UnifiedPipeline:
    write_jsonl(folder / "in.jsonl", numbered(50))
    places = (f"jsonl://{folder / 'in.jsonl'}", f"jsonl://{folder / 'out.jsonl'}")
    return UnifiedPipeline([odd], *places, results_dir=str(folder / "results"), log_file=None, **settings).create("a")


def test_without_a_terminal_a_run_is_silent_unless_it_is_told_otherwise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hooks = Ends()
    make(tmp_path, hooks=hooks).run()
    assert capfd.readouterr() == ("", "")
    assert hooks.ends == ["node_0"]


def test_lines_are_written_where_there_is_no_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hooks = Ends()
    pipeline = make(tmp_path, hooks=hooks)
    pipeline.run(progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("node_0 odd: completed, 50/50 rows, ")
    assert hooks.ends == ["node_0"]
    assert pipeline.hooks is hooks


def test_a_node_that_runs_by_itself_is_shown_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Line 8: as a pipeline is; rows of a run before count."""
    write_jsonl(tmp_path / "in.jsonl", numbered(50))
    hooks = Ends()
    node = UnifiedNode("mine", follow_input=False, hooks=hooks, log_file=None).set_operator(odd)
    node.bind_io(str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    node.run(progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("mine odd: completed, 50/50 rows, ")
    assert hooks.ends == ["mine"]
    with pytest.raises(ConfigError, match='progress must be True, False or "auto"'):
        node.run(progress="yes")  # type: ignore[arg-type]
    node.run()
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_shown_is_refused_or_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = make(tmp_path)
    with pytest.raises(ConfigError, match='progress must be True, False or "auto", not 1'):
        pipeline.run(progress=1)  # type: ignore[arg-type] # what is tested
    monkeypatch.setattr(progress, "_has_rich", lambda: False)
    with pytest.raises(ConfigError, match="progress=True needs rich; install it with: pip install"):
        pipeline.run(progress=True)
    assert pipeline.run().status == "completed"


SCRIPT = """
from llm_datagen import UnifiedPipeline
pipeline = UnifiedPipeline([lambda item: item], "jsonl://in.jsonl", "jsonl://out.jsonl", log_file=None)
print(pipeline.create("a").run())
"""


@pytest.mark.process
def test_at_a_terminal_a_table_is_drawn_on_standard_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", numbered(50))
    screen, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    parts: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # nobody has the terminal open any more
            while part := os.read(screen, 65536):
                parts.append(part)

    with Program(["-c", SCRIPT], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=terminal) as program:
        os.close(terminal)
        reader = threading.Thread(target=read)
        reader.start()
        said, _ = program.communicate(PATIENCE_SECONDS)
        reader.join()
    os.close(screen)
    assert program.returncode == 0
    drawn = b"".join(parts).decode()
    assert said.startswith("<RunReport a: completed after ")
    assert "rows/s" in drawn
    assert "50/50" in drawn


class ZMQInteractiveShell:
    """The shell of a notebook's kernel, by its name."""


class Handle:
    """A cell's output."""

    def __init__(self, shown: list[dict[str, str]]) -> None:
        self.shown = shown

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        self.shown.append(data)


def test_in_a_notebook_the_table_is_published_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, str]] = []
    cells: list[Handle] = []

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        shown.append(data)
        cells.append(Handle(shown))
        return cells[-1]

    ipython, module = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    vars(ipython).update(get_ipython=ZMQInteractiveShell, display=module)
    vars(module).update(display=display)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    make(tmp_path).run()
    assert len(cells) == 1
    assert "50/50" in shown[-1]["text/plain"]
    assert shown[-1]["text/html"].startswith("<pre")
    assert "50/50" in shown[-1]["text/html"]


def test_a_table_of_a_notebook_is_escaped_and_not_published_too_often() -> None:
    shown: list[dict[str, str]] = []
    now = [0.0]
    table = NotebookTable(shown.append, clock=lambda: now[0])
    table.close()
    assert shown == []
    table.on_node_start("a", "<b>\x1b", {"operator": "ask"})
    for number in range(10):
        table.on_node_progress("a", "<b>\x1b", number, 10, {})
    assert len(shown) == 1
    now[0] = 0.5
    table.on_node_progress("a", "<b>\x1b", 10, 10, {})
    assert len(shown) == 2
    assert "&lt;b&gt;\\x1b" in shown[-1]["text/html"]


def test_a_report_is_short_and_has_a_table_for_notebooks(tmp_path: Path) -> None:
    report = make(tmp_path).run()
    assert repr(report) == (
        f"<RunReport a: completed after {report.seconds:.1f} s, 50 in, 25 out, 25 filtered, 0 failed>"
    )
    assert "<tr><td>node_0</td><td>completed</td><td>50</td><td>25</td><td>25</td><td>0</td>" in report._repr_html_()
    node = NodeReport(node_id="<i>\x1b", usage=[{"provider": "p", "model": "m", "cost": 1.5}])
    html = RunReport(pipeline_id="<b>", status=Status.FAILED, nodes=(node,), error="<u>\x1b")._repr_html_()
    assert not set("\x1b") & set(html)
    for text in ("&lt;b&gt;", "&lt;u&gt;\\x1b", "<td>&lt;i&gt;\\x1b</td>", "<td>?</td><td>$1.50</td>"):
        assert text in html


def test_a_run_that_fails_closes_its_display(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pipeline = make(tmp_path)
    write_jsonl(tmp_path / "in.jsonl", [{"n": "x"}])
    with pytest.raises(NodeFailedError):
        pipeline.run(progress=True)
    assert "node_0 odd: failed" in capfd.readouterr().err
