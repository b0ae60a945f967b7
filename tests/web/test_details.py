"""The course, the log and the cost of a run; and two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedNode, UnifiedNodePipeline
from llm_datagen.errors import DiskError
from llm_datagen.runs.logs.tail import last_lines, lines_after

from ..kit.support import Bench, numbered
from ..kit.web import serving


def paid(item: dict[str, Any], ctx: Any) -> dict[str, Any]:
    """Report what a call has cost."""
    ctx.report_usage({"provider": "p", "model": "m", "prompt_tokens": 3, "completion_tokens": 2, "cost": 0.25})
    return item


def run_of(bench: Bench, pipeline_id: str, **settings: Any) -> None:
    bench.give(numbered(8))
    output = f"jsonl://{bench.folder / pipeline_id}.jsonl"
    bench.pipeline([paid], output_uri=output, **settings).create(pipeline_id).run(progress=False)


def test_the_cost_of_a_run_is_shown_by_node_model_and_hour(bench: Bench) -> None:
    run_of(bench, "a")
    with serving(bench.results) as client:
        cost = client.get("/api/runs/0.a/cost")
        used = [{"provider": "p", "model": "m", "prompt_tokens": 24, "completion_tokens": 16, "cost": 2.0}]
        assert (cost["total"], cost["projected"], cost["by_model"], cost["budget"]) == (2.0, 2.0, used, None)
        assert cost["by_node"] == [
            {"node_id": "node_0", "operator": "paid", "cost": 2.0, "tokens": 40, "usage": used},
        ]
        assert sum(hour["cost"] for hour in cost["by_hour"]) == 2.0
        assert sum(hour["rows"] for hour in cost["by_hour"]) == 8
        points = client.get("/api/runs/0.a/timeline")["points"]
        seconds, total, nodes = points[-1]
        assert (total, nodes) == (2.0, {"node_0": [8, 8, 0]})
        assert 0 <= points[0][0] <= seconds


def test_of_a_graph_the_rows_of_its_outputs_count_and_a_marked_one_is_said(bench: Bench) -> None:
    bench.give(numbered(8))
    for name in ("both", "one"):
        nodes = [
            UnifiedNode(each, follow_input=False, log_file=None)
            .bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.folder}/{name}.{each}.jsonl")
            .set_operator(paid)
            for each in ("left", "right")
        ]
        nodes[0].marked = "" if name == "one" else None  # as a pipeline file does by `to: output`
        UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=None).create(name).run(progress=False)
    with serving(bench.results) as client:
        for name, rows, marked in (("both", 16, []), ("one", 8, ["left"])):
            cost = client.get(f"/api/runs/0.{name}/cost")
            assert sum(hour["rows"] for hour in cost["by_hour"]) == rows
            streams = client.get(f"/api/runs/0.{name}")["streams"]
            assert [stream["node_id"] for stream in streams if stream["marked"]] == marked


def test_the_log_of_a_run_is_read_from_its_end_and_followed(bench: Bench) -> None:
    run_of(bench, "a")
    run_of(bench, "b")
    own = [line for line in bench.log_lines() if line["pipeline_id"] == "b"]
    with serving(bench.results) as client:
        page = client.get("/api/runs/0.b/log")
        assert [line["event"] for line in page["lines"]] == [line["event"] for line in own]
        assert {line["pipeline_id"] for line in page["lines"]} == {"b"}
        assert page["events"] == sorted({line["event"] for line in bench.log_lines()})
        assert [line["event"] for line in client.get("/api/runs/0.b/log?limit=1")["lines"]] == ["[Run Ended]"]
        started = client.get("/api/runs/0.b/log?event=node%20started")["lines"]
        assert [(line["node_id"], line["fields"]["operator"]) for line in started] == [("node_0", "paid")]
        rest = client.get("/api/runs/0.b/log?without=%5Bnode%20started%5D")
        assert [line["event"] for line in rest["lines"]] == [
            line["event"] for line in own if line["event"] != started[0]["event"]
        ]
        assert started[0]["event"] in rest["events"]
        assert client.get("/api/runs/0.b/log?node=node_9")["lines"] == []
        assert client.get("/api/runs/0.b/log?level=error")["lines"] == []
        assert client.get(f"/api/runs/0.b/log?after={page['after']}") == {
            "lines": [], "after": page["after"], "events": [],
        }  # fmt: skip
        bench.pipeline([paid], output_uri=f"jsonl://{bench.output}").create("b", if_exists="overwrite").run(
            progress=False
        )
        later = client.get(f"/api/runs/0.b/log?after={page['after']}&limit=2")
        rest = client.get(f"/api/runs/0.b/log?after={later['after']}")
        both = [line["event"] for line in (*later["lines"], *rest["lines"])]
        assert (len(later["lines"]), both[0], both[-1]) == (2, "[Run Started]", "[Run Ended]")
        for wrong in ("limit=x", "limit=-1", "limit=9999999999999999999"):
            assert client.ask(f"/api/runs/0.b/log?{wrong}").status == 400


def test_a_run_without_a_log_has_no_lines(bench: Bench) -> None:
    run_of(bench, "a", log_file=None)
    with serving(bench.results) as client:
        assert client.get("/api/runs/0.a/log") == {"lines": [], "after": "", "events": []}


def line_of(number: int) -> bytes:
    return b'{"event":"[Stalled]","timestamp":"2026-01-01T00:00:00Z","pipeline_id":"a","n":%d}\n' % number


def numbers(page: Any) -> list[int]:
    return [line.fields["n"] for line in page.lines]


def test_a_log_that_is_rotated_is_read_on(tmp_path: Path) -> None:
    log = tmp_path / "platform.log"
    log.write_bytes(b"".join(map(line_of, range(3000))) + b"no event\n" + line_of(3000)[:20])
    page = last_lines(log, lambda line: line.fields["n"] % 2 == 0, 3)
    assert numbers(page) == [2994, 2996, 2998]
    log.write_bytes(log.read_bytes()[:-20] + line_of(3000))
    log.rename(tmp_path / "platform.log.1")
    log.write_bytes(line_of(3001))
    assert numbers(lines_after(log, page.after, lambda _: True, 10)) == [3000, 3001]
    assert numbers(last_lines(log, lambda _: True, 3)) == [2999, 3000, 3001]
    first = lines_after(log, page.after, lambda _: True, 1)
    assert numbers(first) == [3000]
    assert numbers(lines_after(log, first.after, lambda _: True, 10)) == [3001]
    (tmp_path / "platform.log.1").unlink()
    assert numbers(lines_after(log, page.after, lambda _: True, 10)) == [3001]  # what it spoke of is gone
    log.write_bytes(b"")
    assert numbers(last_lines(log, lambda _: True, 3)) == []
    log.unlink()
    with pytest.raises(DiskError, match="platform log cannot be read"):
        last_lines(log, lambda _: True, 3)


def test_two_runs_are_compared(bench: Bench) -> None:
    run_of(bench, "a")
    run_of(bench, "b", parallel_size=2)
    with serving(bench.results) as client:
        compared = client.get("/api/compare?a=0.a&b=0.b")
        assert {"name": "parallel_size", "a": 1, "b": 2} in compared["settings"]
        assert {"name": "node_0.parallel_size", "a": 1, "b": 2} in compared["settings"]
        assert {"name": "node_0.rows_in", "a": 8, "b": 8} in compared["counts"]
        assert compared["cost"] == {"a": 2.0, "b": 2.0}
        assert all(seconds >= 0 for seconds in compared["seconds"].values())
        same = client.get("/api/compare?a=0.a&b=0.a")
        assert same["settings"] == []
        for wrong in ("", "?a=0.a", "?a=0.a&b=0.nothing", "?a=../a&b=0.a"):
            assert client.ask(f"/api/compare{wrong}").status == 404


def test_a_file_that_cannot_be_read_is_named(bench: Bench) -> None:
    bench.give(numbered(3))
    bench.pipeline([lambda item: item]).create("a").run(progress=False)
    timeline = bench.results / "a" / "timeline.jsonl"
    timeline.unlink()
    timeline.mkdir()
    with serving(bench.results) as client:
        for path in ("timeline", "cost"):
            answer = client.ask(f"/api/runs/0.a/{path}")
            assert (answer.status, answer.json) == (409, {"error": f"[Errno 21] Is a directory: {str(timeline)!r}"})
