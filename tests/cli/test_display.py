"""What is shown while a run runs: a table that moves at a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import signal
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from llm_datagen import NodeFailedError, Status, StopRun
from llm_datagen.cli.execute import _display
from llm_datagen.runs.display.lines import node_line
from llm_datagen.runs.display.model import DisplayModel
from llm_datagen.runs.display.name_table import Name, NameTable, columns_of, middle_out
from llm_datagen.runs.display.node_view import NodeView, tokens_in
from llm_datagen.runs.display.plain import PlainLines
from llm_datagen.runs.display.tables import node_table, one_line
from llm_datagen.runs.display.terminal import is_terminal
from llm_datagen.runs.words import duration, rate

from ..kit.support import Bench, eventually, numbered
from .shell import Shell, Terminal

HOSTILE = [
    "\x1b[31mred\x1b[0m" * 9,
    "a\nb" * 20,
    "\u202eevil" * 12,
    "\ud800" * 9,
    "e\u0301" * 60,
    "👩‍👩‍👧" * 20,
    "[bold]x" * 9,
    "字" * 99,
]
"""Names that steer a terminal, or are wider or narrower than they are long."""


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


def test_an_outage_is_shown_in_the_place_of_the_stall_that_comes_of_it() -> None:
    written: list[str] = []
    clock = Watch()
    lines = PlainLines(written.append, clock=clock)
    lines.on_node_start("a", "n", {"operator": "Ask"})
    since = "2026-11-30T17:20:05.123+00:00"
    down = {"since": since, "status": 503, "error": "HTTP 503 from http://a, a probe", "tries": 12}
    gone = {**down, "status": None, "error": "the connection failed", "tries": 1}
    endpoints = [{**down, "endpoint": "m at http://a"}, {**gone, "endpoint": "m at http://b"}]
    clock.now = 6.0
    lines.on_log("a", "n", "warning", "outage: calls wait")
    lines.on_node_progress("a", "n", 0, None, meta(outage={"endpoints": endpoints, "calls": 8}))
    lines.on_stall("a", "n", STALL)
    waits = (
        "waits for m at http://a since 2026-11-30 17:20:05 UTC: HTTP 503 (12 tries), "
        "m at http://b since 2026-11-30 17:20:05 UTC: the connection failed (1 try); 8 calls wait"
    )
    assert f"n Ask: running, 0/? rows, 0.0 rows/s, 0 filtered, 0 errors; {waits}" == written[-1]
    assert lines.view("n").outage == waits
    table = drawn([lines.view("n")], 200)
    assert f"n: {waits}" in table
    assert "outage:" not in table, "the warning says the same"
    assert "stalled" not in table
    lines.on_node_progress("a", "n", 0, None, meta(outage={"endpoints": [*endpoints, *endpoints], "calls": 1}))
    assert lines.view("n").outage.endswith("(1 try), 2 more; 1 call waits")
    lines.on_node_progress("a", "n", 1, 10, meta(outage=None))
    assert not lines.view("n").outage
    assert not lines.view("n").stopped_by


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


NODES = [
    NodeView(
        node_id="node_0", operator="clean_and_normalise_the_documents", status="completed", done=2_000_000, rate=15234.0
    ),
    NodeView(
        node_id="node_1",
        operator="ALongNameOfAnOperatorThatSomebodyChose",
        status="running",
        done=1_234_567,
        total=2_000_000,
        rate=1234.5,
        seconds=1000.0,
        filtered=12_345,
        failed=12,
        tokens=123_456_789,
        cost=12.3,
    ),
    NodeView(node_id="a_very_long_identifier_of_a_node_v2", operator="judge", status="pending"),
    NodeView(node_id="判定する長い名前のノード番号二", operator="判定", status="running"),
]


TABLES = {
    60: """
node                                   rows      ETA  errors
node_0 clean_a…uments   2,000,000/2,000,000     done       0
node_1 ALongNa…yChose  1,234,567/~2,000,000    10:20      12
a_very_lon…_a_node_v2                   0/?  waiting       0
判定する長…ード番号二                   0/?        -       0
""",
    80: """
node                                       rows  rows/s      ETA  errors    cost
node_0 clean_and…ocuments   2,000,000/2,000,000  15,234     done       0       -
node_1 ALongName…odyChose  1,234,567/~2,000,000   1,234    10:20      12  $12.30
a_very_long_…of_a_node_v2                   0/?       -  waiting       0       -
判定する長い…ノード番号二                   0/?     0.0        -       0       -
""",
    120: """
node                                                        rows  rows/s      ETA  filtered  errors       tokens    cost
node_0 clean_and_…_documents  ━━━━━━━━━━━━   2,000,000/2,000,000  15,234     done         0       0            -       -
node_1 ALongNameO…ebodyChose  ━━━━━━━       1,234,567/~2,000,000   1,234    10:20    12,345      12  123,456,789  $12.30
a_very_long_id…_of_a_node_v2                                 0/?       -  waiting         0       0            -       -
判定する長い名…ノード番号二   ━━━━━━━━━━━━                   0/?     0.0        -         0       0            -       -
""",
}


@pytest.mark.parametrize("width", TABLES)
def test_the_table_fits_and_its_names_stay_readable(width: int) -> None:
    """What is too long lacks its middle; columns that matter less are left out."""
    shown = drawn(NODES, width).splitlines()
    assert [line.rstrip() for line in shown] == TABLES[width].strip().splitlines()
    assert max(map(cell_len, shown)) <= width
    assert node_line(NODES[1]).startswith(
        "node_1 ALongNameOfAnOperatorThatSomebodyChose: running, 1,234,567/~2,000,000"
    )


def test_columns_of_which_each_says_something_stay_and_words_wrap() -> None:
    names = [Name("clean_the_documents", "Clean"), Name("  gpt-4.1-mini", style="cyan"), Name("all")]
    rows = [["1,234", "kept as it is"], ["", ""], ["1,234", ""]]
    columns = columns_of(("rows in", "what"), rows, words=["what"])
    console = Console(width=34, file=io.StringIO())
    with console.capture() as captured:
        console.print(NameTable("node", names, columns, styles=["", "", "bold"]))
    assert [line.rstrip() for line in captured.get().splitlines()] == [
        "node        rows in  what",
        "clean…ents    1,234  kept as it is",
        "  gpt…mini",
        "all           1,234",
    ]


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("node_1", 6, "node_1"),
        ("node_12", 6, "nod…12"),
        ("node_12", 2, "n…"),
        ("node_12", 1, "…"),
        ("判定する長い", 12, "判定する長い"),
        ("判定する長い", 11, "判定…る長い"),
        ("判定する長い", 4, "判…"),
        ("", 1, ""),
    ],
)
def test_what_is_too_long_lacks_its_middle(text: str, width: int, shown: str) -> None:
    assert middle_out(text, width) == shown


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("width", [20, 60, 80, 120])
def test_no_name_breaks_the_table(name: str, width: int) -> None:
    nodes = [NodeView(node_id=name, operator=name[::-1], status="running", done=3), NodeView(node_id="b")]
    shown = drawn(nodes, width)
    assert all(sign.isprintable() or sign == "\n" for sign in shown)
    lines = shown.splitlines()
    assert len(lines) == 3
    assert max(map(cell_len, lines)) <= width


def test_without_colours_and_other_signs_than_ascii_a_table_is_drawn_too() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(width=60, file=file, force_terminal=True, no_color=True)
    console.print(node_table(NODES[1:2]))
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    drawn_line = file.buffer.getvalue().decode("ascii").splitlines()[1]
    assert drawn_line == ("node_1\x1b[2m ALongNa...yChose\x1b[0m  1,234,567/~2,000,000  10:20  \x1b[1m    12\x1b[0m")


@pytest.mark.parametrize(("term", "is_so"), [("xterm", True), ("dumb", False), ("unknown", False), (None, False)])
def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch, term: str | None, is_so: bool) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    if term is None:
        monkeypatch.delenv("TERM", raising=False)
    else:
        monkeypatch.setenv("TERM", term)
    assert is_terminal(Tty()) is is_so
    assert not is_terminal(io.StringIO())
    assert not is_terminal(None)
