"""Spans and metrics over HTTP, to a collector that decodes them: also one that hangs, refuses, or is away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.telemetry import OpenTelemetry

from ..cli.shell import PROGRAM, Shell
from ..kit import programs
from ..kit.programs import Program
from ..kit.support import PATIENCE_SECONDS, Bench, eventually, lines, numbered
from ..llm.chat_server import ChatServer
from .collector import Collector, attributes_of

RUN, NODE = "llm_datagen.run", "llm_datagen.node"


@pytest.fixture
def endpoint(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Collector:
    """A collector that the environment names."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    return collector


def test_what_is_sent_is_decoded_by_a_collector(
    bench: Bench, server: ChatServer, endpoint: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=me")
    bench.give({"q": f"question {number}"} for number in range(3))
    with OpenTelemetry() as hooks:
        bench.pipeline([server.operator(prices={"input": 1, "output": 2})], hooks=hooks).create("a").run()
    assert sorted(span.name for span in endpoint.spans) == ["chat tiny"] * 3 + [NODE, RUN]
    calls = [span for span in endpoint.spans if span.name == "chat tiny"]
    node, run = (next(span for span in endpoint.spans if span.name == name) for name in (NODE, RUN))
    assert {call.parent_span_id for call in calls} == {node.span_id}
    assert node.parent_span_id == run.span_id
    assert not run.parent_span_id
    assert {call.kind for call in calls} == {3}  # SPAN_KIND_CLIENT
    found = attributes_of(calls[0])
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (7, 3)
    assert found["gen_ai.response.finish_reasons"] == ["stop"]
    assert attributes_of(node)["llm_datagen.rows_out"] == 3
    assert endpoint.services == {"llm-datagen"}
    assert endpoint.metrics == {
        "llm_datagen.rows", "llm_datagen.output_rows", "llm_datagen.tokens", "llm_datagen.requests",
        "llm_datagen.cost", "gen_ai.client.token.usage", "gen_ai.client.operation.duration",
    }  # fmt: skip
    assert {headers["x-tenant"] for headers in endpoint.headers} == {"me"}


def test_the_environment_names_the_service_and_what_is_sent(
    bench: Bench, endpoint: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    bench.give(numbered(1))
    hooks = OpenTelemetry()
    bench.pipeline([lambda item: item], hooks=hooks).create("a").run()
    assert hooks.close() is True
    assert hooks.close() is True
    assert (endpoint.services, endpoint.metrics) == ({"mine"}, set())


def test_a_collector_that_hangs_holds_up_nothing(
    bench: Bench, endpoint: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From row 5 on, the exporter waits for an answer: all rows are done all the same, and the end does not wait."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "5")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    endpoint.go.clear()

    def wait(item: Any) -> Any:
        if item["n"] == 5:
            assert endpoint.asked.wait(60)
        return item

    bench.give(numbered(50))
    hooks = OpenTelemetry()
    report = bench.pipeline([lambda item: item, wait, lambda item: item], hooks=hooks).create("a").run()
    assert (report.status, report.rows_out) == ("completed", 50)
    assert len(lines(bench.output)) == 50
    assert hooks.close(0.05) is False
    assert endpoint.spans == []


@pytest.mark.sampled(1)
@pytest.mark.parametrize("status", [503, 400])
def test_a_collector_that_refuses_loses_no_row(
    bench: Bench, endpoint: Collector, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    endpoint.status = status
    bench.give(numbered(5))
    hooks = OpenTelemetry()
    assert bench.pipeline([lambda item: item], hooks=hooks).create("a").run().rows_out == 5
    hooks.close(0.2)
    assert endpoint.spans == []


@pytest.mark.process
def test_a_killed_run_has_sent_what_had_ended_and_goes_on_as_another_span(shell: Shell, collector: Collector) -> None:
    """It is killed in the second node: no row is lost, and what is told of the resumed run is whole."""
    variables: dict[str, Any] = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "5"}
    pipeline = shell.yaml(["ops:odd", {"use": "ops:Gate", "with": {"at": 21}}])
    arguments = [*PROGRAM, "run", pipeline, "--id", "a", "--otel"]
    environment = shell.environment(**variables)
    with Program(arguments, cwd=shell.folder, env=environment, stdout=subprocess.DEVNULL) as program:
        shell.reach()
        eventually(lambda: collector.spans, "the span of the first node has come")
        program.kill()
        program.wait()
    assert [(span.name, attributes_of(span)["llm_datagen.node.id"]) for span in collector.spans] == [(NODE, "node_0")]
    collector.spans.clear()
    shell.open_gate()
    assert shell.run("resume", "a", "--otel", **variables).returncode == 0
    assert [row["n"] for row in shell.rows()] == list(range(1, 50, 2))
    assert [span.name for span in collector.spans] == [NODE, RUN]
    node = attributes_of(collector.spans[0])
    assert (node["llm_datagen.node.id"], node["llm_datagen.rows_in"]) == ("node_1", 25)


@pytest.mark.process
def test_a_collector_that_is_away_is_said_in_one_line(shell: Shell) -> None:
    shell.open_gate()
    variables: dict[str, Any] = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    done = shell.run("run", shell.yaml(["ops:Gate"]), "--id", "a", "--otel", "--otel-calls", "0", **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(shell.rows()) == 50
    assert [line.split(":")[0] for line in done.stdout.splitlines() if "OpenTelemetry" in line] == [
        "  warning OpenTelemetry"
    ]


ENDS = """
from llm_datagen import UnifiedPipeline
from llm_datagen.telemetry import OpenTelemetry

UnifiedPipeline([lambda item: item], "jsonl://in.jsonl", "jsonl://out.jsonl", hooks=OpenTelemetry()).create("a").run()
print("done", flush=True)
"""


@pytest.mark.process
def test_the_end_of_a_program_sends_what_is_left(tmp_path: Path, shell: Shell, collector: Collector) -> None:
    environment = shell.environment(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    done = programs.run(["-c", ENDS], cwd=tmp_path, env=environment, timeout=PATIENCE_SECONDS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert [span.name for span in collector.spans] == [NODE, RUN]
    assert "llm_datagen.rows" in collector.metrics


@pytest.mark.slow
def test_a_program_ends_though_its_collector_hangs(tmp_path: Path, shell: Shell, collector: Collector) -> None:
    collector.go.clear()
    environment = shell.environment(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    done = subprocess.run(  # noqa: PLW1510 - it is looked at
        [sys.executable, "-c", ENDS], cwd=tmp_path, env=environment, timeout=50, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert collector.asked.is_set()
