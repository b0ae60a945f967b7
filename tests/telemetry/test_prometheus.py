"""Metrics for Prometheus: exact, of runs of any process, also of dead ones; read by the official parser."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from llm_datagen import (
    BaseOperator,
    ConfigError,
    JsonlStream,
    StopRun,
    UnifiedNode,
    UnifiedNodePipeline,
    UnifiedPipeline,
)
from llm_datagen.cli.app import app
from llm_datagen.telemetry import PrometheusFile, metrics_text, write_metrics
from llm_datagen.telemetry.prometheus_names import MEASURES

from ..cli.shell import Shell
from ..kit.support import Bench, eventually, numbered
from ..kit.web import serving

Values = dict[tuple[str, ...], float]


def parsed(text: bytes) -> dict[str, Values]:
    """Return the samples of each metric, by the values of its labels without the folder, in the order of the table."""
    found: dict[str, Values] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            measure = MEASURES[sample.name]
            assert set(sample.labels) == set(measure.labels), sample.name
            assert family.type == measure.kind
            key = tuple(
                sample.labels[label] for label in measure.labels if label != "folder" or len(measure.labels) == 1
            )
            values = found.setdefault(sample.name, {})
            assert key not in values, f"{sample.name}{key} is there twice"
            values[key] = sample.value
    return found


def of(results_dir: Path, **options: Any) -> dict[str, Values]:
    return parsed(metrics_text([results_dir], **options))


class Picky:
    """Keeps even rows, filters odd ones, and fails at each tenth; reports what a model would have used."""

    version = "1"

    def process_item(self, item: Any, ctx: Any) -> Any:
        if item["n"] % 10 == 0:
            raise ValueError("not this one")
        ctx.report_usage(
            {"provider": "p", "model": "m", "prompt_tokens": 3, "completion_tokens": 2, "cost": 0.5, "requests": 1}
        )
        return item if item["n"] % 2 == 0 else None


def test_the_metrics_of_a_completed_run_are_its_counts(bench: Bench) -> None:
    bench.give(numbered(40))
    bench.pipeline([Picky(), Picky()], on_error="dead_letter").create("a").run()
    found = of(bench.results)
    # Of 40 rows, 4 fail, 20 are odd; of the 16 that are left none fails.
    first, second = ("a", "node_0"), ("a", "node_1")
    assert found["llm_datagen_rows_total"] == {
        (*first, "kept"): 16, (*first, "filtered"): 20, (*first, "skipped"): 0, (*first, "dead_letter"): 4,
        (*second, "kept"): 16, (*second, "filtered"): 0, (*second, "skipped"): 0, (*second, "dead_letter"): 0,
    }  # fmt: skip
    assert found["llm_datagen_output_rows_total"] == {first: 16, second: 16}
    assert found["llm_datagen_input_rows"] == {first: 40, second: 16}
    assert found["llm_datagen_input_rows_exact"] == {first: 1, second: 1}
    assert found["llm_datagen_queue_rows"] == {second: 0}
    assert found["llm_datagen_cost_usd_total"] == {(*first, "p", "m"): 18.0, (*second, "p", "m"): 8.0}
    assert found["llm_datagen_requests_total"] == {(*first, "p", "m"): 36, (*second, "p", "m"): 16}
    assert found["llm_datagen_tokens_total"] == {
        (*first, "p", "m", "input"): 108, (*first, "p", "m", "output"): 72,
        (*second, "p", "m", "input"): 48, (*second, "p", "m", "output"): 32,
    }  # fmt: skip
    assert {key: value for key, value in found["llm_datagen_run_status"].items() if value} == {("a", "completed"): 1}
    assert {key for key, value in found["llm_datagen_node_status"].items() if value} == {
        (*first, "completed"), (*second, "completed"),
    }  # fmt: skip
    assert found["llm_datagen_run_live"] == {("a",): 0}
    run_state = bench.run_state("a")
    times = [found[f"llm_datagen_run_{what}_timestamp_seconds"]["a",] for what in ("started", "ended", "updated")]
    assert times == sorted(times)
    assert time.time() - 3600 < times[0] <= times[2] < time.time() + 60
    assert found["llm_datagen_node_busy_seconds_total"][first] == run_state["nodes"][0]["busy_s"]
    assert set(found["llm_datagen_unreadable_runs"].values()) == {0}


def test_every_metric_of_the_table_is_there_and_follows_the_rules_for_names(bench: Bench) -> None:
    bench.give(numbered(4))
    bench.pipeline([Caching(), Caching()]).create("a").run()
    files = bench.results / "a" / "files"
    files.mkdir()
    (files / "budget.jsonl").write_bytes(b'{"format": 1, "spent": [2000000000000, 5], "lost": [0, 0]}\n')
    assert of(bench.results).keys() == MEASURES.keys()
    for name, measure in MEASURES.items():
        assert name.startswith("llm_datagen_")
        assert name.endswith("_total") is (measure.kind == "counter"), name


class Caching:
    version = "1"

    def process_item(self, item: Any, ctx: Any) -> Any:
        ctx.report_usage(
            {"prompt_tokens": 1, "completion_tokens": 1, "cached_tokens": 1, "cost": 1, "requests": 1, "cached": 1}
        )
        return item


def test_a_run_is_live_while_it_runs_and_what_waits_is_counted(bench: Bench) -> None:
    """Rows that the first node has written wait for the second one, which holds its first row."""
    go, holds = threading.Event(), threading.Event()

    def hold(item: Any) -> Any:
        holds.set()
        assert go.wait(60)
        return item

    bench.give(numbered(30))
    pipeline = bench.pipeline([lambda item: item, hold], streaming=True).create("a")
    pipeline.start()
    try:
        assert holds.wait(60)
        wanted = {("a", "node_1"): 30}
        eventually(lambda: of(bench.results)["llm_datagen_queue_rows"] == wanted, "all rows wait")
        found = of(bench.results)
        assert found["llm_datagen_run_live"] == {("a",): 1}
        assert found["llm_datagen_run_status"]["a", "running"] == 1
        assert found["llm_datagen_rows_total"]["a", "node_1", "kept"] == 0
        assert "llm_datagen_run_ended_timestamp_seconds" not in found
    finally:
        go.set()
        pipeline.wait(60)
    found = of(bench.results)
    assert found["llm_datagen_queue_rows"] == {("a", "node_1"): 0}
    assert found["llm_datagen_run_live"] == {("a",): 0}


@pytest.mark.process
def test_a_killed_run_is_interrupted_and_its_rows_are_counted(shell: Shell) -> None:
    """After kill -9, the run state still says that it is running. The resumed run goes on with the counts."""
    results = shell.folder / "tmp" / "results"
    with shell.started("run", shell.yaml(["ops:Gate"], writer_config={"flush_interval": 0.01}), "--id", "a") as run:
        shell.reach()
        eventually(lambda: of(results)["llm_datagen_rows_total"]["a", "node_0", "kept"] > 0, "rows are saved")
        assert of(results)["llm_datagen_run_live"] == {("a",): 1}
        eventually(lambda: of(results)["llm_datagen_rows_in_flight"]["a", "node_0"] == 1, "a row is at the gate")
        run.kill()
        run.wait()
    found = of(results)
    assert {key for key, value in found["llm_datagen_run_status"].items() if value} == {("a", "interrupted")}
    assert {key for key, value in found["llm_datagen_node_status"].items() if value} == {("a", "node_0", "interrupted")}
    assert found["llm_datagen_run_live"] == {("a",): 0}
    assert found["llm_datagen_rows_in_flight"] == {("a", "node_0"): 0}
    done = found["llm_datagen_rows_total"]["a", "node_0", "kept"]
    shell.open_gate()
    assert shell.run("resume", "a").returncode == 0
    found = of(results)
    assert found["llm_datagen_rows_total"]["a", "node_0", "kept"] == 50 > done
    assert found["llm_datagen_run_status"]["a", "completed"] == 1


ODD = ['a "b" c', "a{b=1}", "ü€𝄞", "x,y=z", "'", "line\u2028s"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("odd", ODD)
def test_odd_characters_in_ids_and_models_come_back_from_the_parser(bench: Bench, odd: str) -> None:
    model = odd + ' \\ \n "'

    class Reports(BaseOperator):
        version = "1"

        def process_item(self, item: Any, ctx: Any) -> Any:
            ctx.report_usage({"provider": odd, "model": model, "requests": 1})
            return item

    bench.give(numbered(3))
    node = UnifiedNode(odd, follow_input=False)
    node.bind_io(JsonlStream(str(bench.input)), JsonlStream(str(bench.output)))
    node.set_operator(Reports())
    UnifiedNodePipeline([node], results_dir=bench.results, log_file=bench.log).create(odd).run()
    found = of(bench.results)
    assert found["llm_datagen_requests_total"] == {(odd, odd, odd, model): 3}
    assert found["llm_datagen_run_live"] == {(odd,): 0}


def test_runs_that_ended_long_ago_are_left_out_and_those_that_run_are_not(bench: Bench) -> None:
    go, holds = threading.Event(), threading.Event()

    def hold(item: Any) -> Any:
        holds.set()
        assert go.wait(60)
        return item

    bench.give(numbered(1))
    bench.pipeline([lambda item: item]).create("ended").run()
    pipeline = bench.pipeline([hold], output_uri=f"jsonl://{bench.folder / 'other.jsonl'}").create("runs")
    pipeline.start()
    try:
        assert holds.wait(60)
        assert set(of(bench.results)["llm_datagen_run_live"]) == {("ended",), ("runs",)}
        later = of(bench.results, now=time.time() + 2 * 86_400)
        assert later["llm_datagen_run_live"] == {("runs",): 1}
        assert set(later["llm_datagen_left_out_runs"].values()) == {1}
    finally:
        go.set()
        pipeline.wait(60)
    assert set(of(bench.results, max_age=86_400 * 3, now=time.time() + 2 * 86_400)["llm_datagen_run_live"]) == {
        ("ended",), ("runs",),
    }  # fmt: skip


def test_two_folders_may_have_a_run_of_the_same_id(bench: Bench, tmp_path: Path) -> None:
    bench.give(numbered(2))
    bench.pipeline([lambda item: item]).create("a").run()
    second = tmp_path / "more"
    output = f"jsonl://{tmp_path / 'second.jsonl'}"
    bench.pipeline([lambda item: item], results_dir=second, output_uri=output).create("a").run()
    text = metrics_text([bench.results, second, f"{second}/"]).decode()
    for folder in (bench.results, second):
        assert text.count(f'llm_datagen_run_live{{folder="{folder}",run="a"}} 0.0\n') == 1


def test_what_cannot_be_read_is_counted_and_hides_nothing_else(bench: Bench) -> None:
    bench.give(numbered(2))
    bench.pipeline([lambda item: item]).create("good").run()
    for name in ("torn", "edited", "back\\slash", os.fsdecode(b"not-\xff-text")):
        (bench.results / name).mkdir()
        (bench.results / name / "runtime.json").write_bytes(b'{"format": 2')
    (bench.results / "empty").mkdir()
    found = of(bench.results)
    assert found["llm_datagen_run_live"] == {("good",): 0}
    assert set(found["llm_datagen_unreadable_runs"].values()) == {2}
    assert set(of(bench.folder / "nowhere")["llm_datagen_unreadable_runs"].values()) == {0}


def test_counters_go_on_over_a_resume(bench: Bench) -> None:
    bench.give(numbered(9))

    class Stops:
        version = "1"

        def __init__(self, at: int | None) -> None:
            self.at = at

        def process_item(self, item: Any, ctx: Any) -> Any:
            if item["n"] == self.at:
                raise StopRun("enough")
            ctx.report_usage({"model": "m", "requests": 1})
            return item

    bench.pipeline([Stops(4)]).create("a").run()
    found = of(bench.results)
    assert found["llm_datagen_rows_total"]["a", "node_0", "kept"] == 4
    assert found["llm_datagen_requests_total"] == {("a", "node_0", "", "m"): 4}
    assert found["llm_datagen_run_status"]["a", "stopped"] == 1
    bench.pipeline([Stops(None)]).resume("a").run()
    found = of(bench.results)
    assert found["llm_datagen_rows_total"]["a", "node_0", "kept"] == 9
    assert found["llm_datagen_requests_total"] == {("a", "node_0", "", "m"): 9}


def test_a_file_is_written_beside_a_run_and_says_how_it_ended(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "collected" / "datagen.prom"
    bench.give(numbered(50))
    bench.pipeline([lambda item: item], hooks=PrometheusFile(file, every=0.001)).create("a").run()
    found = parsed(file.read_bytes())
    assert found["llm_datagen_run_status"]["a", "completed"] == 1
    assert found["llm_datagen_rows_total"]["a", "node_0", "kept"] == 50
    assert [path.name for path in file.parent.iterdir()] == ["datagen.prom"]


def test_a_file_that_cannot_be_written_does_not_stop_a_run(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "in_the_way").write_text("")
    bench.give(numbered(5))
    hooks = PrometheusFile(tmp_path / "in_the_way" / "a.prom")
    assert bench.pipeline([lambda item: item], hooks=hooks).create("a").run().rows_out == 5
    assert any(line["event"] == "[Hook Failed]" for line in bench.log_lines())


def test_a_file_is_replaced_as_a_whole_and_wrong_arguments_are_refused(bench: Bench, tmp_path: Path) -> None:
    bench.give(numbered(1))
    bench.pipeline([lambda item: item]).create("a").run()
    file = tmp_path / "a.prom"
    file.write_text("what was there before")
    write_metrics([bench.results], file)
    assert file.read_bytes() == metrics_text([bench.results])
    with pytest.raises(ConfigError, match=r"must end in \.prom, else the node exporter does not read it: 'a\.txt'"):
        write_metrics([bench.results], tmp_path / "a.txt")
    with pytest.raises(ConfigError, match="max_age must be a positive number of seconds, not 0"):
        metrics_text([bench.results], max_age=0)
    with pytest.raises(ConfigError, match="every must be a positive number of seconds, not -1"):
        PrometheusFile(file, every=-1)


def test_the_command_prints_the_metrics_or_writes_them(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_DATAGEN_RESULTS", str(bench.results))
    monkeypatch.chdir(bench.folder)
    bench.give(numbered(7))
    bench.pipeline([lambda item: item]).create("a").run()
    command = CliRunner()
    printed = command.invoke(app, ["metrics"])
    assert parsed(printed.stdout.encode())["llm_datagen_rows_total"]["a", "node_0", "kept"] == 7
    written = command.invoke(app, ["metrics", "results", "-o", "a.prom"])
    assert (written.exit_code, written.output) == (0, "")
    assert (bench.folder / "a.prom").read_text() == printed.stdout
    refused = command.invoke(app, ["metrics", "-o", "a.txt"])
    assert refused.exit_code == 2
    assert "must end in .prom" in refused.stderr


def test_the_server_of_the_page_answers_prometheus(bench: Bench) -> None:
    """By the token only, as all else; of no folder but its own."""
    bench.give(numbered(3))
    bench.pipeline([lambda item: item]).create("a").run()
    with serving(bench.results) as client:
        answer = client.ask("/metrics")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert answer.body == metrics_text([bench.results])
        assert client.ask("/metrics", Authorization=None).status == 401
        assert parsed(answer.body)["llm_datagen_rows_total"]["a", "node_0", "kept"] == 3


@pytest.mark.slow
def test_a_run_in_shards_is_counted_as_one(bench: Bench) -> None:
    from llm_datagen import ShardedPipeline

    from ..kit.shards import InThreads

    bench.give(numbered(40))
    pipeline: UnifiedPipeline = bench.pipeline([Picky()], on_error="dead_letter")
    ShardedPipeline(pipeline, shards=3, executor=InThreads()).create("a").run()
    found = of(bench.results)
    assert found["llm_datagen_rows_total"] == {
        ("a", "node_0", "kept"): 16,
        ("a", "node_0", "filtered"): 20,
        ("a", "node_0", "skipped"): 0,
        ("a", "node_0", "dead_letter"): 4,
    }
    assert found["llm_datagen_cost_usd_total"] == {("a", "node_0", "p", "m"): 18.0}
    assert set(found["llm_datagen_run_live"]) == {("a",)}
