"""What is shown while a run runs: a table that moves at a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import signal
from typing import Any

import pytest
from rich.console import Console

from llm_datagen import NodeFailedError, Status, StopRun
from llm_datagen.cli.execute import _display
from llm_datagen.runs.display.model import DisplayModel
from llm_datagen.runs.display.node_view import NodeView, tokens_in
from llm_datagen.runs.display.plain import PlainLines
from llm_datagen.runs.display.tables import duration, node_line, node_table, one_line, rate

from ..kit.support import Bench, eventually, numbered
from .shell import Shell, Terminal


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def meta(**changes: Any) -> dict[str, Any]:
    return {"filtered": 0, "failed": 0, "total_is_exact": False, **changes}


def drawn(nodes: list[NodeView], width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        console.print(node_table(nodes))
    return captured.get()


@pytest.mark.process
def test_at_a_terminal_a_table_is_drawn_while_the_run_runs_and_the_cursor_stays(shell: Shell) -> None:
    file = shell.yaml(["ops:Gate", "ops:odd"], streaming=True)
    with Terminal(shell, "run", file, "--id", "a") as terminal:
        terminal.read_until(r" [1-9]\d*/~?\d")
        shell.open_gate()
        assert terminal.read_to_end() == 0
    shown = terminal.shown
    assert "\x1b[2K" in shown, "the table is drawn in its place"
    for word in ("rows/s", "ETA", "filtered", "errors", "tokens", "━", "50/50", "done", "150"):
        assert word in shown
    assert_cursor_is_visible(shown)
    assert "run a: completed after" in shown[shown.rindex("\x1b[?25h") :]


def assert_cursor_is_visible(shown: str) -> None:
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


@pytest.mark.process
def test_ctrl_c_at_a_terminal_says_what_it_does_and_leaves_the_terminal_sane(shell: Shell) -> None:
    file = shell.yaml([{"use": "ops:Gate", "with": {"minds_cancel": False}}])
    with Terminal(shell, "run", file, "--id", "a") as terminal:
        shell.reach()
        terminal.read_until("rows/s")
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until("canceling: calls in flight finish and are saved")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.read_to_end() == -signal.SIGINT
    assert_cursor_is_visible(terminal.shown)


@pytest.mark.process
def test_status_is_drawn_as_a_table_at_a_terminal(shell: Shell) -> None:
    assert shell.run("run", shell.yaml(["ops:odd"]), "--id", "a").returncode == 0
    with Terminal(shell, "status", "a", "--watch") as terminal:
        assert terminal.read_to_end() == 0
    assert "run a: completed" in terminal.shown
    assert "50/50" in terminal.shown


@pytest.mark.process
def test_how_many_rows_there_are_is_shown_before_the_first_is_done(shell: Shell) -> None:
    with Terminal(shell, "run", shell.yaml([{"use": "ops:Gate", "with": {"at": 0}}])) as terminal:
        terminal.read_until(r" 0/~?\d\d")
        shell.open_gate()
        assert terminal.read_to_end() == 0


@pytest.mark.process
def test_what_operators_print_goes_above_the_table(shell: Shell) -> None:
    (shell.folder / "loud.py").write_text("def loud(item):\n    print(f'[{item}]')\n    return item\n")
    with Terminal(shell, "run", shell.yaml(["loud:loud"])) as terminal:
        assert terminal.read_to_end() == 0
    assert "[{'n': 49, '_i': 49}]\r\n" in terminal.shown


@pytest.mark.process
def test_elsewhere_there_are_plain_lines_without_control_characters(shell: Shell) -> None:
    shell.open_gate()
    done = shell.run("run", shell.yaml(["ops:Gate"]), FORCE_COLOR="1")
    assert "\x1b" not in done.stdout
    assert "node_0 Gate: running, 0/? rows" in done.stdout
    assert "node_0 Gate: completed, 50/50 rows" in done.stdout
    assert "150 tokens" in done.stdout


def test_a_node_is_written_at_its_start_every_five_seconds_and_at_its_end() -> None:
    written: list[str] = []
    clock = Watch()
    lines = PlainLines(written.append, clock=clock)
    lines.on_node_start("a", "node_0", {"operator": "Ask"})
    for second in range(1, 13):
        clock.now = float(second)
        lines.on_node_progress("a", "node_0", second * 10, 1000, meta())
    lines.on_node_end("a", "node_0", True, None)
    assert written == [
        "node_0 Ask: running, 0/? rows, 0.0 rows/s, 0 filtered, 0 errors",
        "node_0 Ask: running, 50/~1,000 rows, 10.0 rows/s, ETA 1:35, 0 filtered, 0 errors",
        "node_0 Ask: running, 100/~1,000 rows, 10.0 rows/s, ETA 1:30, 0 filtered, 0 errors",
        "node_0 Ask: completed, 120/120 rows, 10.0 rows/s, 0 filtered, 0 errors",
    ]


def test_a_node_that_stands_still_is_shown_to_get_slower() -> None:
    clock = Watch()
    board = DisplayModel(clock=clock)
    board.on_node_start("a", "n", {})
    clock.now = 10.0
    board.on_node_progress("a", "n", 100, 200, meta(total_is_exact=True, filtered=3, failed=1))
    assert (board.view("n").rate, board.view("n").seconds_left) == (10.0, 10.0)
    clock.now = 40.0
    assert (board.view("n").rate, board.view("n").seconds_left) == (2.5, 40.0)


def test_a_resumed_node_counts_on_and_its_rate_is_that_of_this_run() -> None:
    clock = Watch()
    board = DisplayModel([NodeView(node_id="n", operator="Ask", status="canceled", done=100, tokens=7)], clock=clock)
    board.on_pipeline_start("a", {"operators": ["Ask"]})
    board.on_node_start("a", "n", {"operator": "Ask"})
    clock.now = 2.0
    board.on_usage("a", "n", "p", "m", {"total_tokens": 5, "prompt_tokens": 3})
    board.on_node_progress("a", "n", 110, 200, meta())
    board.on_node_end("a", "n", False, None)
    (view,) = board.views()
    assert (view.status, view.done, view.rate, view.tokens) == ("stopped", 110, 5.0, 12)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("how", ["canceled", "stopped"])
def test_a_node_that_a_cancel_or_its_operator_ends_is_shown_as_its_run_state_says(
    bench: Bench, how: str, streaming: bool
) -> None:
    bench.give(numbered(50))
    written: list[str] = []
    hooks = PlainLines(written.append)

    def ends(row: Any) -> Any:
        if row["n"] == 20:
            if how == "stopped":
                raise StopRun("enough")
            pipeline.cancel()
            eventually(lambda: pipeline.status == Status.CANCELING)
        return row

    pipeline = bench.pipeline([ends, lambda row: row], streaming=streaming, hooks=hooks).create("a")
    assert pipeline.run().status == how
    stored = [node["status"] for node in bench.run_state("a")["nodes"]]
    assert [view.status for view in hooks.views()] == stored == [how, how]
    assert [line for line in written if f": {how}, " in line and line.startswith("node_0")]
    assert not [line for line in written if {"canceled": "stopped", "stopped": "canceled"}[how] in line]


def test_of_a_run_in_shards_the_tokens_and_the_cost_are_those_of_all_shards() -> None:
    """Their sum is told with the progress; what single calls used comes earlier or later, and is not added."""
    board = DisplayModel([NodeView(node_id="n", operator="Ask", status="stopped", done=100, tokens=7, cost=0.5)])
    board.on_node_start("a", "n", {})
    usage = [{"provider": "p", "model": "m", "total_tokens": 12, "cost": 0.75}]
    board.on_node_progress("a", "n", 150, 200, meta(usage=usage, shards={"count": 4, "done": 1, "running": 2}))
    board.on_usage("a", "n", "p", "m", {"total_tokens": 5, "cost": 0.25})
    view = board.view("n")
    assert (view.done, view.tokens, view.cost) == (150, 12, 0.75)
    board.on_node_progress("a", "n", 90, 200, meta())  # a shard that is begun again counts less at first
    assert (board.view("n").done, board.view("n").rate) == (90, 0)


def test_rows_that_failed_before_are_counted_and_what_ended_the_run_before_is_not() -> None:
    board = DisplayModel([NodeView(node_id="n", failed=6, skipped=2, dead=3)])
    board.on_node_start("a", "n", {})
    assert (board.view("n").failed, board.view("n").skipped, board.view("n").dead) == (5, 2, 3)
    board.on_node_progress("a", "n", 9, 10, meta(failed=7, skipped=3, dead_letters=4))
    assert node_line(board.view("n")).endswith("0 filtered, 7 errors (4 dead-lettered, 3 skipped)")


STALL = {"seconds": 300.2, "waits_on": "operator", "ids": (4, "5_1"), "in_flight": 2}


def test_nodes_that_finished_in_an_earlier_run_are_done_and_their_tokens_count(bench: Bench) -> None:
    bench.give(numbered(50))

    def spends(row: Any, ctx: Any) -> Any:
        ctx.report_usage({"model": "m", "total_tokens": 3})
        return row

    def fails(row: Any) -> Any:
        return {**row, "by": 1 / (row["n"] - 7)}

    pipeline = bench.pipeline([spends, fails], writer_config={"async_mode": False}).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    first, second = _display(pipeline.resume("a")).views()
    assert (first.status, first.done, first.total, first.tokens) == ("completed", 50, 50, 150)
    assert (second.status, second.done, second.total, second.pending) == ("pending", 7, 50, 43)
    told = DisplayModel()  # who was not told of the nodes hears of them
    told.on_pipeline_start("a", {"operators": ["ops:spends", "ops:no_seven"]})
    told.on_node_progress("a", "node_0", 50, 50, meta(total_is_exact=True))
    assert [view.status for view in told.views()] == ["completed", "pending"]


def test_a_node_that_stalls_is_shown_to_until_it_moves() -> None:
    written: list[str] = []
    clock = Watch()
    lines = PlainLines(written.append, clock=clock)
    lines.on_node_start("a", "n", {"operator": "Ask"})
    for clock.now in (1.0, 2.0, 7.0):
        lines.on_stall("a", "n", STALL)
    stalled = "n Ask: running, 0/? rows, 0.0 rows/s, 0 filtered, 0 errors; stalled: nothing has moved for 300 s; waits "
    assert written[1:] == [f"{stalled}on operator; 2 rows in flight: 4, 5_1"] * 2
    assert drawn([lines.view("n")], 80).count("stalled") == 2
    lines.on_node_progress("a", "n", 0, 10, meta())  # a total became known: no row has moved
    assert lines.view("n").stalled
    lines.on_node_progress("a", "n", 1, 10, meta())
    assert not lines.view("n").stalled
    lines.on_stall("a", "n", {**STALL, "seconds": 0.25, "waits_on": "upstream", "ids": (), "in_flight": 0})
    assert lines.view("n").stalled == "nothing has moved for 0.2 s; waits on upstream"
    lines.on_node_end("a", "n", True, None)
    assert not lines.view("n").stalled


def test_what_an_operator_warns_of_is_shown_until_rows_are_done_again() -> None:
    written: list[str] = []
    lines = PlainLines(written.append, clock=Watch())
    lines.on_node_start("a", "n", {"operator": "Ask"})
    lines.on_log("a", "n", "info", "a price is not known")
    lines.on_log("a", "n", "warning", "calls wait\x1b[2J")
    assert written[1:] == ["n Ask: warning: calls wait\\x1b[2J"]
    assert "calls wait" in drawn([lines.view("n")], 80)
    lines.on_node_progress("a", "n", 1, 10, meta())
    assert not lines.view("n").warning


def test_what_became_of_rows_that_failed_is_drawn_below_the_table() -> None:
    shown = drawn([NodeView(node_id="n", status="running", failed=3, dead=2), NodeView(node_id="m", skipped=4)], 80)
    assert [line.rstrip() for line in shown.splitlines()[-2:]] == ["n: 2 dead-lettered", "m: 4 skipped"]


def test_foreign_text_becomes_a_line_that_fits_and_steers_no_terminal() -> None:
    assert one_line("a\r\n  b\x1b[2J\u202ec", 80) == "a b\\x1b[2J\\u202ec"
    assert one_line("x" * 81, 80) == "x" * 79 + "…"
    assert one_line("表" * 41, 80) == "表" * 39 + "…"
    assert one_line("x" * 80, 80) == "x" * 80
    assert one_line("xyz", -3) == "…"


def test_nodes_that_nobody_told_of_are_learned_from_the_configuration() -> None:
    board = DisplayModel()
    board.on_pipeline_start("a", {"operators": ["One", "Two"]})
    assert [(view.node_id, view.operator) for view in board.views()] == [("node_0", "One"), ("node_1", "Two")]


def test_tokens_are_the_totals_or_else_the_sum_of_both_sides() -> None:
    assert tokens_in({"total_tokens": 5, "prompt_tokens": 2, "completion_tokens": 3}) == 5
    assert tokens_in({"prompt_tokens": 2, "completion_tokens": 3, "requests": 1}) == 5
    assert tokens_in({"provider": "p", "model": "m", "images": 3}) == 0


def test_numbers_are_written_as_people_read_them() -> None:
    assert [duration(seconds) for seconds in (0.4, 7, 750, 10801, 183600)] == [
        "0:00",
        "0:07",
        "12:30",
        "3:00:01",
        "2d 03:00:00",
    ]
    assert [rate(value) for value in (0, 0.034, 2.25, 1234.5)] == ["0.0", "0.03", "2.2", "1,234"]


def test_the_table_fits_a_terminal_of_eighty_columns() -> None:
    node = NodeView(
        node_id="node_1",
        operator="ALongNameOfAnOperatorThatSomebodyChose",
        status="running",
        done=1_234_567,
        total=2_000_000,
        rate=1234.5,
        filtered=12_345,
        failed=12,
        tokens=123_456_789,
    )
    shown = drawn([node], 80)
    assert "1,234,567/~2,000,000" in shown
    assert "123,456,789" in shown
    assert "…" in shown
    assert len(shown.splitlines()) == 2
    assert node_line(node).startswith("node_1 ALongNameOfAnOperatorThatSomebodyChose: running, 1,234,567/~2,000,000")
