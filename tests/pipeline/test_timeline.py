"""timeline.jsonl: how far a run was, and what it had cost, over time."""

from __future__ import annotations

import itertools
import json
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.runs import RunFolder
from llm_datagen.runs.timeline import Counts, Timeline, points
from llm_datagen.shards.pipeline import ShardedPipeline

from ..kit.programs import Program
from ..kit.shards import InThreads
from ..kit.support import Bench, eventually, numbered

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)

JOB = """
import sys, time
from pathlib import Path
from llm_datagen import UnifiedPipeline

folder = Path(sys.argv[1])

def odd(row, ctx):
    while row["n"] == 5 and not (folder / "go").exists():
        time.sleep(0.01)
    ctx.report_usage({"provider": "p", "model": "m", "tokens_in": 1, "cost": 0.01})
    return row if row["n"] % 2 else None

odd.version = "1"
UnifiedPipeline(
    [odd], f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/out.jsonl", results_dir=folder / "results", log_file=None,
    writer_config={"fsync": "never"},
).create("a", if_exists="resume").run()
"""


def same(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row."""
    return row


def state_at(at: datetime, rows: int, created: datetime = BEGAN) -> dict[str, Any]:
    """Return what a point is made of."""
    node = {"node_id": "node_0", "rows_in": rows, "rows_out": rows, "failed": 0}
    return {
        "updated_at": at.isoformat(timespec="milliseconds"),
        "created_at": created.isoformat(timespec="milliseconds"),
        "cost": None,
        "nodes": [node],
    }


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """The folder of a run."""
    folder = RunFolder(tmp_path, "a")
    folder.path.mkdir()
    return folder


def test_a_run_that_was_killed_goes_on_in_the_same_file(bench: Bench) -> None:
    bench.give(numbered(100))
    job = bench.folder / "job.py"
    job.write_text(JOB)
    folder = RunFolder(bench.results, "a")
    program = Program([str(job), str(bench.folder)])
    eventually(lambda: points(folder))
    before = points(folder)
    program.send_signal(signal.SIGKILL)
    program.wait()
    path = folder.path / "timeline.jsonl"
    with path.open("ab") as file:
        file.write(b'{"t": "2026-01-01T00:00:00.000+00:00", "cost": 0.5, "nod')  # a line that the kill has torn
    assert points(folder) == before

    (bench.folder / "go").touch()
    assert Program([str(job), str(bench.folder)]).wait() == 0
    after = points(folder)
    assert after[: len(before)] == before
    assert after[-1].nodes == {"node_0": Counts(rows_in=100, rows_out=50, failed=0)}
    cost = bench.run_state("a")["cost"]  # without what was used last before the kill
    assert after[-1].cost == cost > 0
    assert [point.at for point in after] == sorted(point.at for point in after)
    assert path.read_bytes().count(b"\n") == len(after) + 1, "the torn line is one by itself"


def test_the_file_of_ten_days_stays_small(folder: RunFolder) -> None:
    timeline = Timeline(folder)
    seconds = 0.0
    while seconds < 864_000:
        timeline.note(state_at(BEGAN + timedelta(seconds=seconds), int(seconds)))
        # The run state is saved every 0.5 s. What is left out here is never due: a 500th of the age is longer.
        seconds += max(0.5, seconds / 500 / 4)
    timeline.note(state_at(BEGAN + timedelta(days=10), 864_000), is_last=True)

    found = points(folder)
    assert 3000 < len(found) < 4300
    assert found[0].at == BEGAN
    assert found[-1].nodes["node_0"].rows_in == 864_000
    gaps = [(later.at - point.at).total_seconds() for point, later in itertools.pairwise(found[:-1])]
    assert min(gaps) >= 1.0
    assert max(gaps) < 864_000 / 500 * 1.26
    assert (folder.path / "timeline.jsonl").stat().st_size < 500_000


def test_a_clock_that_is_set_back_stops_nothing(folder: RunFolder) -> None:
    timeline = Timeline(folder)
    for hours in (2, 1):
        timeline.note(state_at(BEGAN + timedelta(hours=hours), hours))
    assert [point.nodes["node_0"].rows_in for point in points(folder)] == [2, 1]


@pytest.mark.parametrize(
    "line", [b"", b"{", b"null", b"[1]", b'{"t": "x"}', b'{"t": "2026-01-01T00:00:00", "cost": 1, "nodes": {"a": [1]}}']
)
def test_a_line_that_is_none_is_ignored(folder: RunFolder, line: bytes) -> None:
    Timeline(folder).note(state_at(BEGAN, 1))
    with (folder.path / "timeline.jsonl").open("ab") as file:
        file.write(line)
    Timeline(folder).note(state_at(BEGAN, 2))
    assert [point.nodes["node_0"].rows_in for point in points(folder)] == [1, 2]


def test_what_the_disk_refuses_is_left_out_and_the_run_goes_on(bench: Bench) -> None:
    bench.give(numbered(3))
    pipeline = bench.pipeline([same]).create("a")
    (bench.results / "a" / "timeline.jsonl").mkdir()
    assert pipeline.run().status == "completed"


def test_a_run_in_shards_has_the_points_of_the_whole(bench: Bench) -> None:
    bench.give(numbered(40))
    ShardedPipeline(bench.pipeline([same]), shards=4, executor=InThreads()).create("a").run()
    found = points(RunFolder(bench.results, "a"))
    assert found[-1].nodes == {"node_0": Counts(rows_in=40, rows_out=40, failed=0)}
    each = [points(RunFolder(bench.results / "a" / "shards", f"{number:05}"))[-1] for number in range(4)]
    assert sum(point.nodes["node_0"].rows_in for point in each) == 40


def test_a_run_that_takes_the_place_of_another_begins_anew(bench: Bench) -> None:
    bench.give(numbered(3))
    bench.pipeline([same]).create("a").run()
    before = points(RunFolder(bench.results, "a"))
    time.sleep(0.002)  # times are in milliseconds
    bench.pipeline([same]).create("a", if_exists="overwrite").run()
    assert points(RunFolder(bench.results, "a"))[0].at > before[-1].at


def test_runs_of_older_versions_and_on_stores_have_none(bench: Bench) -> None:
    bench.give(numbered(3))
    bench.pipeline([same]).create("a").run()
    folder = RunFolder(bench.results, "a")
    (folder.path / "timeline.jsonl").unlink()
    assert points(folder) == []
    on_store = RunFolder("s3://bucket/runs", "a")
    Timeline(on_store).note(state_at(BEGAN, 1), is_last=True)
    assert points(on_store) == []


def test_a_point_is_a_line_of_json(folder: RunFolder) -> None:
    Timeline(folder).note({**state_at(BEGAN, 7), "cost": 0.25})
    assert json.loads((folder.path / "timeline.jsonl").read_bytes()) == {
        "t": "2026-01-01T00:00:00.000+00:00",
        "cost": 0.25,
        "nodes": {"node_0": [7, 7, 0]},
    }
