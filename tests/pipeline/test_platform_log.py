"""platform.log, and what importing the package does: nothing (M1, M28)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, DefaultPipelineHooks, JsonlStream, NodeFailedError, UnifiedPipeline
from llm_datagen.runs.logs import events

from ..kit import programs
from ..kit.support import PATIENCE_SECONDS, Bench, eventually, lines, numbered

CONSTANTS = {value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)}


def check(log: list[dict[str, Any]]) -> None:
    for line in log:
        assert isinstance(line, dict)
        assert line["event"] in CONSTANTS, line
        assert line["level"] in ("info", "warning", "error")
        assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None


def test_every_line_is_an_object_whose_event_is_a_constant(bench: Bench) -> None:
    """M28: one JSON object a line, with fields; no row, and nothing of one, is ever in it."""
    bench.give({"n": n, "text": f"hunter2-{n}"} for n in range(200))

    def work(item: Any, ctx: Any) -> Any:
        if item["n"] == 150:
            ctx.log("almost done", at=150)
        return [item, item]

    bench.pipeline(
        [work, lambda item: item],
        streaming=True,
        parallel_size=4,
        writer_config={"queue_size": 5, "flush_batch_size": 2},
    ).create("a").run()
    log = bench.log_lines()
    check(log)
    assert {line["pipeline_id"] for line in log} == {"a"}
    seen = [line["event"] for line in log]
    assert (seen[0], seen[-1]) == ("[Run Started]", "[Run Ended]")
    assert seen.count("[Node Started]") == seen.count("[Node Ended]") == 2
    assert len(log) < 60  # not a line a row
    (own,) = [line for line in log if line["event"] == "[Operator]"]
    assert (own["message"], own["at"], own["node_id"]) == ("almost done", 150, "node_0")
    assert "hunter2" not in bench.log.read_text()


def test_a_failure_is_logged_with_its_kind_and_ids_and_without_rows(bench: Bench) -> None:
    """M28, M24: which node, which error, which row ids; not what was in the rows."""
    bench.give({"n": n, "text": f"hunter2-{n}"} for n in range(10))

    def work(item: Any) -> Any:
        if item["n"] == 5:
            raise LookupError("no such thing")
        return item

    with pytest.raises(NodeFailedError):
        bench.pipeline([work]).run()
    check(bench.log_lines())
    (line,) = [line for line in bench.log_lines() if line["event"] == "[Node Failed]"]
    assert (line["node_id"], line["kind"], line["ids"], line["level"]) == ("node_0", "LookupError", ["5"], "error")
    assert "hunter2" not in bench.log.read_text()


def test_malformed_lines_are_not_quoted_in_the_log(bench: Bench) -> None:
    """M28: an error about a row that cannot be parsed says where it is, not what it is."""
    bench.input.write_text('{"n": 0}\n{"text": hunter2}\n')
    with pytest.raises(NodeFailedError, match="line 2") as caught:
        bench.pipeline([lambda item: item]).run()
    assert "hunter2" not in bench.log.read_text()
    assert 'in.jsonl, line 2): {"text": hunter2}' in str(caught.value)  # whoever ran it sees the row


def test_fields_that_json_does_not_know_do_not_break_an_operator(bench: Bench) -> None:
    """M13, M28: `ctx.log` never raises, whatever it is given."""
    bench.give([1])

    def work(item: Any, ctx: Any) -> Any:
        ctx.log("odd", thing=object(), path=Path("x"), bad="\ud800", big=2**80, error=ValueError("x"), keys={1: 2})
        ctx.log("\ud800")
        ctx.log("reserved", node_id="mine", event="x", level="y", timestamp="z", pipeline_id="p")
        return item

    bench.pipeline([work]).run()
    assert len(lines(bench.output)) == 1
    for line in bench.log.read_bytes().splitlines():
        json.loads(line)


def test_the_log_lies_under_the_working_directory_of_the_start(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """M28: `logs/platform.log`, where the run starts, not where the object was made; two runs share it."""
    bench.give(numbered(3))
    later = bench.folder / "later"
    later.mkdir()

    def pipeline(name: str) -> UnifiedPipeline:
        return UnifiedPipeline(
            [lambda item: item],
            f"jsonl://{bench.input}",
            f"jsonl://{bench.folder}/{name}.jsonl",
            results_dir=bench.results,
        )

    first, second = pipeline("one"), pipeline("two")
    first.create("one")
    second.create("two")
    assert not (bench.folder / "logs").exists()
    monkeypatch.chdir(later)
    first.run()
    second.run()
    assert not (bench.folder / "logs").exists()
    log = lines(later / "logs" / "platform.log")
    check(log)
    assert {line["pipeline_id"] for line in log} == {"one", "two"}


def test_without_a_log_file_nothing_is_written(bench: Bench) -> None:
    """M28: `log_file=None` turns it off."""
    bench.give(numbered(3))
    bench.pipeline([lambda item, ctx: ctx.log("hello") or item], log_file=None).run()
    assert not [name for name in bench.files() if "log" in name]


def test_a_reader_that_waits_says_eof_retry_five_times_and_then_that_it_waits(bench: Bench) -> None:
    """M18: 0.1 s apart, each logged; then one warning that says what to do, to the hooks as well; then patience."""
    heard: list[tuple[str, str, str, str]] = []

    class Heard(DefaultPipelineHooks):
        def on_log(self, cid: str, nid: str, level: str, message: str) -> None:
            heard.append((cid, nid, level, message))

    bench.give(numbered(3))
    pipeline = bench.pipeline(
        [lambda item: item, lambda item: item], follow_input=True, streaming=True, hooks=Heard()
    ).create("a")
    pipeline.start()
    eventually(lambda: bool(heard))
    JsonlStream(f"jsonl://{bench.input}").seal()
    pipeline.wait(PATIENCE_SECONDS)
    said = [line for line in bench.log_lines() if line.get("node_id") == "node_0"]
    retries = [line for line in said if line["event"] == "[EOF Retry]"]
    assert [line["attempt"] for line in retries] == [0, 1, 2, 3, 4, 5] or [line["attempt"] for line in retries] == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert [round(line["waited_s"], 1) for line in retries][-1] >= 0.5
    (waiting,) = [line for line in said if line["event"] == "[EOF Waiting]"]
    assert "seal()" in waiting["hint"]
    ((cid, nid, level, message),) = heard  # of the second node nobody need be told: the first one feeds it
    assert (cid, nid, level) == ("a", "node_0", "warning")
    assert f"{bench.input}, which is not sealed" in message


def test_a_log_on_a_full_disk_does_not_end_a_run(bench: Bench) -> None:
    """M28: the log is not worth a run."""
    bench.give(numbered(3))
    bench.pipeline([lambda item: item], log_file="/dev/full").run()
    assert len(lines(bench.output)) == 3


IMPORT = """
import logging, os, signal, sys, threading
before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), threading.active_count(),
          os.listdir("."), list(logging.root.handlers), logging.root.level, logging.raiseExceptions,
          sys.excepthook, threading.excepthook, sorted(os.listdir("/proc/self/fd")))
import llm_datagen
from llm_datagen import *
assert llm_datagen.messages.Cancel and llm_datagen.actors.PipelineActor
import atexit, structlog
after = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), threading.active_count(),
         os.listdir("."), list(logging.root.handlers), logging.root.level, logging.raiseExceptions,
         sys.excepthook, threading.excepthook, sorted(os.listdir("/proc/self/fd")))
assert before == after, (before, after)
assert not structlog.is_configured()
assert "pykka" in sys.modules and not logging.getLogger("llm_datagen").handlers
"""

RUN = """
import logging, structlog
from pathlib import Path
from llm_datagen import UnifiedPipeline
Path("in.jsonl").write_text("1\\n2\\n")
UnifiedPipeline([lambda item: item], "jsonl://in.jsonl", "jsonl://out.jsonl").run()
assert not structlog.is_configured() and not logging.root.handlers
"""


@pytest.mark.process
def test_importing_has_no_side_effect(tmp_path: Path) -> None:
    """M1: no file, thread, signal handler, print, or change of structlog's or logging's configuration."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_a_run_configures_nothing_globally_and_prints_nothing(tmp_path: Path) -> None:
    """M28: the log is built without structlog's or logging's global configuration."""
    done = programs.run(["-W", "error", "-c", RUN], cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "out.jsonl", "out.jsonl.done", "logs", "tmp"}


class _Kept:
    """A logger as a host may have it: it keeps what it gets, and raises when it is told of the end."""

    def __init__(self, events: list[dict[str, Any]], bound: dict[str, Any]) -> None:
        self.events, self.bound = events, bound

    def bind(self, **fields: Any) -> _Kept:
        return _Kept(self.events, {**self.bound, **fields})

    def info(self, event: str, **fields: Any) -> None:
        self.events.append({**self.bound, "event": event, **fields})
        if event == events.RUN_ENDED:
            raise RuntimeError("no line is worth a run")

    warning = error = info


def test_a_logger_of_the_hosts_own_gets_the_events_and_there_is_no_file(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M28: the log is the host's to decide on; whatever its logger does, the run goes on."""
    monkeypatch.chdir(bench.folder)
    bench.give(numbered(3))
    kept: list[dict[str, Any]] = []
    pipeline = bench.pipeline([lambda item: item], log_file=_Kept(kept, {"app": "mine"})).create("a")
    assert pipeline.run().rows_out == 3
    assert [line["event"] for line in kept] == [
        events.RUN_STARTED,
        events.NODE_STARTED,
        events.NODE_ENDED,
        events.RUN_ENDED,
    ]
    assert {(line["app"], line["pipeline_id"]) for line in kept} == {("mine", "a")}
    assert not (bench.folder / "logs").exists()
    with pytest.raises(ConfigError, match=r"log_file must be a path, .*not 7"):
        bench.pipeline([lambda item: item], log_file=7)


def test_several_threads_and_processes_share_a_log_without_tearing_it(bench: Bench) -> None:
    """M28: a line is one write; runs that go on at the same time do not mix theirs."""
    bench.give(numbered(20))

    def work(item: Any, ctx: Any) -> Any:
        ctx.log("x" * 3000)
        return item

    def run(number: int) -> None:
        bench.pipeline([work], output_uri=f"jsonl://{bench.folder}/{number}.jsonl", parallel_size=2).run()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    log = bench.log_lines()
    check(log)
    assert len([line for line in log if line["event"] == "[Operator]"]) == 60
