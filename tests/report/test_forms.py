"""The report of a run, in its three forms, of runs in every state."""

from __future__ import annotations

import json
import re
import signal
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llm_datagen import INodeContext, UnifiedPipeline, ops
from llm_datagen.cli.app import app
from llm_datagen.cli.report import read_report
from llm_datagen.runs.report.markdown import markdown_of
from llm_datagen.runs.report.model import Report
from llm_datagen.runs.report.page import page_of
from llm_datagen.testing import FakeLLMServer

from ..kit.programs import Program
from ..kit.s3 import S3Bucket
from ..kit.support import PATIENCE_SECONDS, Bench, eventually, numbered, until_cancelled, write_jsonl
from ..kit.web import serving
from ..recovery.test_stored import left

HOSTILE = '</pre></details><script>alert("row")</script><img src=x onerror=alert(1)>\u202e\x1b[2J'

KILLED = """
import sys, time
from pathlib import Path
from llm_datagen import UnifiedPipeline

folder = Path(sys.argv[1])

def slow(row):
    time.sleep(0.01)
    return row

UnifiedPipeline(
    [slow], f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/out.jsonl", results_dir=folder / "results", log_file=None,
    writer_config={"fsync": "never", "flush_interval": 0.05},
).create("a").run()
"""


def picky(row: dict[str, Any], ctx: INodeContext) -> dict[str, Any]:
    """Refuse some rows, with their own text."""
    ctx.report_usage({"provider": "p", "model": HOSTILE, "requests": 1, "prompt_tokens": 3, "cost": 0.01})
    if row["n"] % 2:
        raise ValueError(row["text"])
    return row


def hostile(bench: Bench) -> UnifiedPipeline:
    """Return a pipeline of rows that would like to be markup."""
    write_jsonl(bench.input, [{"n": n, "text": HOSTILE} for n in range(10)])
    return bench.pipeline([picky], on_error="dead_letter")


def type_report(*arguments: str, code: int = 0) -> str:
    """Type a command; return what it writes to standard output."""
    result = CliRunner().invoke(app, ["report", *arguments])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


def test_what_rows_hold_is_text_and_nothing_is_fetched(bench: Bench) -> None:
    hostile(bench).create("a").run()
    page = type_report("a", "--results-dir", str(bench.results), "-o", "-")
    assert page.startswith("<!doctype html>")
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(&quot;row&quot;)&lt;/script&gt;" in page
    assert not re.findall(r"[\u202e\x1b]", page)
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""", page)
    assert "default-src 'none'" in page
    assert set(re.findall(r'https?://[^"\s<]+', page)) == {"http://www.w3.org/2000/svg"}


def test_json_has_what_a_program_needs(bench: Bench) -> None:
    hostile(bench).create("a").run()
    data = json.loads(type_report("a", "--results-dir", str(bench.results), "--format", "json"))
    assert list(data) == ["report", *(field.name for field in fields(Report))]
    assert (data["format"], data["run"]["id"], data["run"]["status"]) == (1, "a", "completed")
    assert data["totals"] == {
        "rows_in": 10,
        "rows_out": 5,
        "outputs": {},
        "filtered": 0,
        "failed": 5,
        "cost": 0.1,
        "tokens": 30,
        "findings": 0,
    }
    assert data["models"] == [
        {
            "node_id": "node_0",
            "provider": "p",
            "model": HOSTILE,
            "calls": 10,
            "tokens_in": 30,
            "tokens_out": 0,
            "cost": 0.1,
        }
    ]
    (failure,) = data["failures"]
    assert (failure["count"], failure["kind"], failure["message"], failure["row_id"]) == (5, "ValueError", HOSTILE, "1")
    assert [row["number"] for row in data["rows"]] == [0, 1, 2, 3, 4]
    assert {"llm-datagen", "python", "system", "pykka", "orjson"} <= set(data["run"]["software"])
    assert data["timeline"][-1][1:] == [0.1, {"node_0": [10, 5, 5]}]


def test_markdown_is_a_few_lines_without_markup_of_others(bench: Bench) -> None:
    hostile(bench).create("a").run()
    lines = type_report("a", "--results-dir", str(bench.results), "--format", "md").splitlines()
    assert lines[0] == "<!-- llm-datagen report, format 1 -->"
    assert lines[1] == "### Run a: completed"
    assert lines[3].startswith(
        "**10** rows in, **5** rows out, **0** filtered, **5** failed, **$0.1000** cost, **30** tokens"
    )
    assert lines[7] == r"| node\_0 picky | 10 | 5 | 0 | 5 | 0 | 5 | $0.1000 |"
    assert r"\<script\>" in lines[11]
    assert "<script>" not in "\n".join(lines)


def test_markdown_counts_rejected_rows_among_the_filtered_ones_once(bench: Bench) -> None:
    bench.give(numbered(10))
    bench.pipeline([ops.Keep("n > 3")], keep_rejected=True).create("a").run()
    lines = type_report("a", "--results-dir", str(bench.results), "--format", "md").splitlines()
    assert lines[7] == r"| node\_0 Keep | 10 | 6 | 4 | 0 | 0 | 6 |  |"


def test_a_run_that_was_killed(bench: Bench) -> None:
    bench.give(numbered(2000))
    (bench.folder / "job.py").write_text(KILLED)
    program = Program([str(bench.folder / "job.py"), str(bench.folder)])
    eventually(lambda: (bench.results / "a" / "runtime.json").exists() and bench.run_state("a")["nodes"][0]["rows_in"])
    program.send_signal(signal.SIGKILL)
    program.wait()
    report = read_report(str(bench.results), "a", rows=2)
    (node,) = report.nodes
    assert (report.run.status, report.run.is_live, node.status) == ("interrupted", False, "interrupted")
    assert node.account.is_known
    assert node.account.findings == ()
    assert node.account.source_rows is None or node.account.source_rows == 2000
    assert 0 < node.account.done == node.account.kept == node.account.rows_out < 2000
    assert report.totals["rows_out"] == node.account.rows_out
    assert "is gone; resume it: llm-datagen resume a" in page_of(report)


def test_a_run_that_failed_and_one_that_was_cancelled(bench: Bench) -> None:
    bench.give(numbered(3))

    def fails(row: dict[str, Any]) -> Any:
        raise ValueError(f"no {row['n']} <b>")

    with pytest.raises(Exception, match="no 0"):
        bench.pipeline([fails]).create("failed").run()
    report = read_report(str(bench.results), "failed", rows=1)
    assert (report.run.status, report.run.error, report.totals["failed"]) == ("failed", "ValueError: no 0 <b>", 1)
    assert "<b>It failed:</b><ul><li>ValueError: no 0 &lt;b&gt;</li><li>at row 0 " in page_of(report)

    def waits(row: dict[str, Any], ctx: INodeContext) -> dict[str, Any]:
        until_cancelled(ctx)
        return row

    pipeline = bench.pipeline([waits], output_uri=f"jsonl://{bench.folder}/other.jsonl").create("cancelled")
    pipeline.start()
    pipeline.cancel("enough <i>")
    pipeline.wait()
    report = read_report(str(bench.results), "cancelled", rows=1)
    assert (report.run.status, report.run.reason) == ("canceled", "enough <i>")
    assert "<b>It was canceled:</b> enough &lt;i&gt;" in page_of(report)


def test_a_run_that_goes_on_is_said_to(bench: Bench) -> None:
    bench.give(numbered(1))
    gate = threading.Event()

    def waits(row: dict[str, Any]) -> dict[str, Any]:
        assert gate.wait(PATIENCE_SECONDS)
        return row

    pipeline = bench.pipeline([waits]).create("a")
    pipeline.start()
    try:
        eventually(lambda: bench.run_state("a")["status"] == "running")
        report = read_report(str(bench.results), "a", rows=1)
        assert (report.run.status, report.run.is_live) == ("running", True)
        assert "still running when this report was made" in page_of(report)
    finally:
        gate.set()
        pipeline.wait()


def test_a_run_that_has_not_begun(bench: Bench) -> None:
    bench.give(numbered(1))
    bench.pipeline([picky]).create("a")
    report = read_report(str(bench.results), "a", rows=1)
    assert (report.run.status, report.run.seconds, report.timeline, report.rows) == ("pending", None, [], [])
    assert "never started" in page_of(report)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("name", "counts"), [("line", [200, 171, 171, 60, 60]), ("graph", [200, 200, 200, 100, 200, 60])]
)
def test_a_run_that_an_older_version_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, counts: list[int]
) -> None:
    left(tmp_path)
    monkeypatch.chdir(tmp_path)
    report = read_report("runs", name, rows=2)
    assert [node.account.done for node in report.nodes] == counts
    assert report.totals["findings"] == 0
    assert report.run.software == {}
    assert any(text.startswith("Charts: ") for text in report.left_out)
    assert len(report.rows) == 2
    assert "not noted by the version that made the run" in page_of(report)


def test_long_rows_do_not_make_a_long_report(bench: Bench) -> None:
    kinds = [type(f"Bad{number}Error", (ValueError,), {}) for number in range(30)]

    def fails(row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] < 30:
            raise kinds[row["n"]](row["text"])
        return row

    write_jsonl(bench.input, [{"n": n, "text": '<"' * 10_000} for n in range(130)])
    bench.pipeline([fails, picky, picky], on_error="dead_letter").create("a").run()
    report = read_report(str(bench.results), "a", rows=100)
    page = page_of(report)
    assert "more characters)" in page
    assert len(page.encode()) < 1_000_000
    assert any(text.startswith("Where some of the sample rows come from: ") for text in report.left_out)
    assert any(text.startswith("11 rarer causes of failures: ") for text in report.left_out)


def test_a_sample_row_has_all_that_it_comes_from(bench: Bench) -> None:
    llm = pytest.importorskip("llm_datagen.llm")
    write_jsonl(bench.input, [{"text": HOSTILE}, {"text": "two"}])
    with FakeLLMServer(answer="<i>yes</i>") as server:
        ask = llm.LLMOperator("Is it so? {{ text }}", model="m", base_url=server.base_url)
        bench.pipeline([lambda row: [row, row], ask], ordered=True).create("a").run()
    report = read_report(str(bench.results), "a", rows=1)
    (sample,) = report.rows
    assert sample.row_id == "0_0"
    assert [(each.where, each.relation, each.row_id) for each in sample.family] == [
        ("input", "ancestor", "0"),
        ("node_0", "itself", "0_0"),
        ("node_1", "itself", "0_0"),
    ]
    (call,) = sample.family[2].calls
    assert (call.model, call.answer) == ("m", "<i>yes</i>")
    assert call.prompt == f"user: Is it so? {HOSTILE}"
    page = page_of(report)
    assert "&lt;i&gt;yes&lt;/i&gt;" in page
    assert "<i>" not in page


def test_secrets_are_not_shown(bench: Bench) -> None:
    bench.give(numbered(1))
    bench.pipeline([picky]).create("a")
    state = bench.run_state("a")
    state.pop("check")
    canary = "sk-canary-1234567890"
    state["nodes"][0]["operator_ref"] = {
        "use": "m:C",
        "args": [],
        "with": {
            "api_key": canary,
            "base_url": f"https://user:{canary}@host/v1?sig={canary}&x=1",
            "api_key_env": "KEY",
            "auth": {"user": canary},
        },
    }
    state["nodes"][0]["input_uri"] = f"jsonl://{bench.input}"
    state["config"]["token"] = canary
    bench.put_run_state("a", state)
    report = read_report(str(bench.results), "a", rows=1)
    assert canary not in json.dumps(report.as_dict())
    made = report.nodes[0].settings["operator"]["with"]
    assert made == {
        "api_key": "(not shown)",
        "base_url": "https://…@host/v1?sig=…&x=1",
        "api_key_env": "KEY",
        "auth": "(not shown)",
    }


def test_rows_that_are_rejected_are_counted_once_and_a_node_without_rows_is_a_warning(bench: Bench) -> None:
    bench.give(numbered(10))
    bench.pipeline([lambda row, ctx: ctx.reject("too short")]).create("a").run()
    report = read_report(str(bench.results), "a", rows=0)
    assert report.warnings == ["node_0: no row came out: all 10 were filtered; does the operator return its row?"]
    (line,) = (line for line in markdown_of(report).splitlines() if line.startswith("| node\\_0"))
    assert line.split(" | ", 1)[1] == "10 | 0 | 10 | 0 | 0 | 0 |  |"


def test_times_and_budgets_are_those_that_all_else_shows(bench: Bench) -> None:
    bench.give(numbered(1))
    bench.pipeline([picky_number, picky_number]).create("a").run()
    state = bench.run_state("a")
    state.pop("check")
    first, second = state["nodes"]
    first.update(seconds=10.0, workers=4, busy_s=20.0, held_back_s=4.0, rate_limited_s=0.0, lead_limited_s=3.0)
    first.update(starved_s=9.0, operator_ref={"use": "m:C", "with": {"budget": {"usd": 5}}})
    made = {"$made": "llm_datagen:Budget", "of": {"usd": None, "tokens": 70}}
    second["operator_ref"] = {"use": "m:C", "with": {"chat": {"args": [{"budget": made}]}}}
    bench.put_run_state("a", state)
    report = read_report(str(bench.results), "a", rows=0)
    shares = {"busy": 0.5, "held_back": 0.1, "rate_limited": 0.0, "lead_limited": 0.3, "starved": 0.4}
    assert report.nodes[0].shares == shares
    assert ">lead limited</th>" in page_of(report)
    assert report.budget is not None
    assert report.budget.caps == [
        {"node_id": "node_0", "usd": 5, "tokens": None},
        {"node_id": "node_1", "usd": None, "tokens": 70},
    ]
    with serving(bench.results) as client:
        run = client.get("/api/runs/0.a")
    assert (run["budget"]["cap"], run["budget"]["cap_tokens"]) == (5, 70)
    assert run["nodes"][0]["times"] == {"waiting": 0.4, **{name: shares[name] for name in shares if name != "starved"}}


@pytest.mark.slow
def test_where_a_report_is_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile(bench).create("a").run()
    monkeypatch.chdir(bench.folder)
    monkeypatch.setenv("LLM_DATAGEN_RESULTS", str(bench.results))
    rows = bench.output.read_bytes()
    assert f"run a: {bench.folder}/report-a.html (" in type_report("a")
    type_report("a")  # an older report is replaced
    for name, begin in (("x.html", "<!doctype html>"), ("x.json", "{\n"), ("x.md", "<!-- llm-datagen report")):
        type_report("a", "-o", name)
        type_report("a", "-o", name)
        assert Path(name).read_text().startswith(begin)
    type_report("a", "-o", "plain.txt", "--format", "md")
    assert Path("plain.txt").read_text().startswith("<!-- llm-datagen report")
    said = type_report("a", "-o", str(bench.output), "--format", "json", code=2)
    assert "is there, and is no report; choose another path, or remove it" in said.replace("\n", " ")
    assert bench.output.read_bytes() == rows
    assert "is a folder" in type_report("a", "-o", str(bench.folder), code=2)
    assert "there is no run 'b'" in type_report("b", code=2)


class Plus:
    """Adds a number."""

    def __init__(self, add: int) -> None:
        self.add, self.version = add, str(add)

    def process_item(self, item: dict[str, Any], ctx: INodeContext) -> dict[str, Any]:
        """Return the sum."""
        return {"n": item["n"] + self.add}


def test_versions_and_exports_are_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.folder)
    bench.give(numbered(3))

    for add, start in ((1, "run"), (2, "rerun")):
        pipeline = bench.pipeline([Plus(add)], also=["out.parquet"], ordered=True)
        (pipeline.create("a") if start == "run" else pipeline.resume("a", on_change="rerun")).run()
    now, before = (read_report(str(bench.results), name, rows=3) for name in ("a", "a@1"))
    assert (now.run.version, now.run.version_of, now.run.earlier_versions) == (2, None, ["a@1"])
    assert (before.run.version, before.run.version_of) == (1, "a")
    assert [json.loads(row.item)["n"] for row in now.rows] == [2, 3, 4]
    assert [json.loads(row.item)["n"] for row in before.rows] == [1, 2, 3]
    assert [(each["kind"], each["path"], each["rows"]) for each in now.exports] == [
        ("parquet", f"{bench.folder}/out.parquet", 3)
    ]
    assert (now.totals["findings"], before.totals["findings"]) == (0, 0)
    page = page_of(now)
    assert "<dt>version</dt><dd>version 2</dd><dt>earlier versions</dt><dd>a@1</dd>" in page
    assert '<td class="name">parquet<span class="soft">' in page
    assert "<dt>version</dt><dd>version 1 of a</dd>" in page_of(before)


@pytest.mark.slow
def test_a_run_on_a_store(bench: Bench, s3: S3Bucket) -> None:
    bench.give(numbered(20))
    bench.pipeline([picky_number], results_dir=s3.uri("runs"), on_error="dead_letter").create("a").run()
    report = read_report(s3.uri("runs"), "a", rows=2)
    assert (report.run.status, report.totals["rows_out"], report.totals["failed"]) == ("completed", 10, 10)
    assert [failure.count for failure in report.failures] == [10]
    assert len(report.rows) == 2
    assert report.timeline == []
    assert any(text.startswith("Charts: ") for text in report.left_out)


def picky_number(row: dict[str, Any]) -> dict[str, Any]:
    """Refuse odd numbers."""
    if row["n"] % 2:
        raise ValueError("odd")
    return row
