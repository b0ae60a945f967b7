"""A row that becomes very many: streamed by way of a file, whole or not at all, whatever happens (M12, M24, M29)."""

from __future__ import annotations

import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import DiskError, FunctionOperator, NodeFailedError
from llm_datagen.streams import spill as spill_module
from llm_datagen.streams.spill import SpillError

from ..kit.programs import Program
from ..kit.support import PATIENCE_SECONDS, Bench, lines, nothing_left, numbered

CHILDREN = 70_000
"""With `TEXT`, 9 MB: more than a spill file holds in memory."""

TEXT = "x" * 100


def explode(*, fails: bool = False) -> FunctionOperator:
    """Return an operator that makes very many children of row 1; with `fails`, it fails when it has made them."""

    def children() -> Iterator[Any]:
        for k in range(CHILDREN):
            yield {"k": k, "text": TEXT}
        if fails:
            raise ValueError("on purpose")

    return FunctionOperator(lambda item: children() if item["n"] == 1 else item, name="explode")


def check_all(bench: Bench) -> None:
    """Make sure that every child and every other row is there, once, and nothing else is in the folder."""
    rows = lines(bench.output)
    assert sorted(row["_i"] for row in rows if "n" in row) == [0, 2, 3]
    children = [row["_i"] for row in rows if "k" in row]
    assert children == [f"1_{k}" for k in range(CHILDREN)]
    assert bench.is_sealed()
    assert not [name for name in bench.files() if ".datagen-" in name]


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("settings", [{}, {"ordered": True}, {"writer_config": {"async_mode": False}}])
def test_very_many_children_of_a_row_are_written_whole(bench: Bench, settings: dict[str, Any]) -> None:
    """M12, F2: in order, between their neighbours; no file is left open."""
    bench.give(numbered(4))
    with nothing_left():
        bench.pipeline([explode()], parallel_size=2, **settings).run()
    check_all(bench)


@pytest.mark.slow
def test_a_row_that_fails_after_very_many_children_leaves_none_of_them(bench: Bench) -> None:
    """R2, C1: neither in the output nor in the counts; the rows beside it are kept."""
    bench.give(numbered(4))
    report = bench.pipeline([explode(fails=True)], on_error="dead_letter").create("a").run()
    assert [row["_i"] for row in lines(bench.output)] == [0, 2, 3]
    (node,) = report.nodes
    assert (node.rows_out, node.dead_letters, node.filtered) == (3, 1, 0)
    bench.pipeline([explode()], on_error="dead_letter").replay("a").run()
    check_all(bench)


@pytest.mark.slow
def test_an_exception_that_is_kept_keeps_no_file_open(bench: Bench) -> None:
    """F2: its traceback leads to the output of the call that failed."""
    bench.give(numbered(4))
    pipeline = bench.pipeline([explode(fails=True)])
    with nothing_left():
        with pytest.raises(NodeFailedError) as raised:
            pipeline.create("a").run()
        assert isinstance(raised.value.__cause__, ValueError)
    bench.pipeline([explode()]).resume("a").run()
    check_all(bench)


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("on_error", ["fail", "skip", "dead_letter"])
def test_a_disk_without_room_for_the_children_is_no_fault_of_their_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, on_error: Any
) -> None:
    """M24: whatever the policy says, the node fails and nothing is skipped; a resume does the row."""
    monkeypatch.setattr(spill_module, "SPILL_BYTES", 1 << 20)
    bench.give(numbered(4))
    pipeline = bench.pipeline([explode()], on_error=on_error).create("a")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, before[1]))
    try:
        with nothing_left(), pytest.raises(NodeFailedError) as raised:
            pipeline.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(raised.value.__cause__, SpillError)
    assert isinstance(raised.value.__cause__, DiskError)
    assert str(bench.folder) in str(raised.value)
    assert not bench.is_sealed()
    assert not bench.output.with_name("out.jsonl.errors.jsonl").exists()
    report = bench.pipeline([explode()], on_error=on_error).resume("a").run()
    assert (report.nodes[0].skipped, report.nodes[0].dead_letters) == (0, 0)
    check_all(bench)


KILLED = """
import sys
from llm_datagen import UnifiedPipeline

folder = sys.argv[1]

def explode(item):
    return children() if item["n"] == 1 else item

def children():
    for k in range(100_000):
        yield {"k": k, "text": "x" * 100}
    print("made", flush=True)
    sys.stdin.read()

explode.version = "an instrument"
UnifiedPipeline(
    [explode], f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/out.jsonl",
    base_path=folder, results_dir=folder + "/results", log_file=None,
).create("a").run()
"""


@pytest.mark.process
def test_a_kill_leaves_no_file_and_the_row_is_done_again(bench: Bench) -> None:
    """R2, F2: what was in the file was promised to nobody."""
    bench.give(numbered(4))
    child = Program(["-c", KILLED, bench.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == "made\n"
        targets = [str(link.readlink()) for link in Path(f"/proc/{child.pid}/fd").iterdir()]
        assert [name for name in targets if name.startswith(str(bench.folder)) and name.endswith("(deleted)")]
        child.send_signal(signal.SIGKILL)
        assert child.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    used = sum(path.stat().st_size for path in bench.folder.rglob("*") if path.is_file())
    assert used < 100_000
    bench.pipeline([explode()]).resume("a").run()
    check_all(bench)
