"""Every line of a log has exactly the fields that docs/reference/log.md names for its event (M28)."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from llm_datagen import (
    BaseOperator,
    ConfigError,
    DefaultPipelineHooks,
    JsonlStream,
    NodeFailedError,
    NotRunningError,
    ResumeWarning,
    UnifiedNode,
    UnifiedPipeline,
)
from llm_datagen.config import NodeConfigOptions, settings_in
from llm_datagen.messages import Cancel, Pause, Reconfigure, Unpause
from llm_datagen.runs.logs.reader import EVENTS
from llm_datagen.shards import splitter
from llm_datagen.shards.executor import ShardJob, ShardOutcome
from llm_datagen.shards.pipeline import ShardedPipeline
from llm_datagen.testing import Fault, inject

from ..examples.pages import DOCS, names_in, table
from ..kit.shards import InThreads
from ..kit.support import PATIENCE_SECONDS, QUICK, Bench, eventually, lines, numbered

REFERENCE = DOCS / "reference"
SECTION = "platform.log"
COMMON = {"event", "level", "timestamp", "run"}
OPERATORS_OWN = {"mood"}


def documented() -> dict[str, set[str]]:
    """Return the fields of each event, by the tables of the reference."""
    fields = {}
    for cell, (_, shown) in table(REFERENCE, SECTION, "event").items():
        fields[cell.strip("`")] = set(names_in(shown.replace("[`NodeReport`]", ""))) | COMMON
    of_report = {name for cell in table(REFERENCE, "Reports", "field of NodeReport") for name in names_in(cell)}
    fields["[Node Ended]"] = {"node_id", *COMMON, *of_report} - {"usage", "error"}
    fields["[Node Started]"] |= {"operator", *settings_in(NodeConfigOptions)}
    fields["[Operator]"] |= OPERATORS_OWN
    return fields


class Moody(BaseOperator):
    """Logs, fails at a row, and cannot end in peace."""

    def process_item(self, item: Any, ctx: Any) -> Any:
        if item["n"] == 0:
            ctx.log("hello", mood="good")
        if item["n"] == 1:
            raise ValueError(item)
        return item

    def teardown(self) -> None:
        raise OSError("no peace")


class Grumpy(DefaultPipelineHooks):
    def on_node_start(self, cid: str, nid: str, config: Any) -> None:
        raise LookupError(nid)


def moody_run(bench: Bench) -> None:
    """Rows that fail, a hook and a teardown that do, a line of the operator's."""
    bench.pipeline([Moody()], on_error="skip", hooks=Grumpy()).create("moody").run()


def failing_run(bench: Bench) -> None:
    """A node that fails."""
    with pytest.raises(NodeFailedError):
        bench.pipeline([Moody()], output_uri="memory://schema").create("failing").run()


def slow_disk_run(bench: Bench) -> None:
    """A writer that holds its workers back."""
    bench.give(numbered(40))
    with inject(Fault(operation="write", path="*slow.jsonl", action="delay", seconds=0.02, times=None)):
        bench.pipeline(
            [lambda item: item],
            output_uri=f"jsonl://{bench.folder}/slow.jsonl",
            writer_config={"queue_size": 1, "flush_batch_size": 1},
        ).create("slow").run()


def hanging_run(bench: Bench) -> None:
    """A source that gives nothing, then an operator that hangs: stalled, cancelled, given up."""
    gate, begun = threading.Event(), threading.Event()

    def hang(item: Any) -> Any:
        if item["n"] == 39:
            begun.set()
            gate.wait(PATIENCE_SECONDS)
        return item

    pipeline = bench.pipeline(
        [hang], output_uri=f"jsonl://{bench.folder}/hung.jsonl", follow_input=True, grace=0.1, stall_after=0.2
    ).create("hanging")
    ref = pipeline.start()
    eventually(lambda: "[EOF Waiting]" in bench.log.read_text())
    eventually(begun.is_set)
    eventually(lambda: "[Stalled]" in bench.log.read_text())
    ref.tell(Cancel("enough"))
    pipeline.wait(PATIENCE_SECONDS)
    gate.set()
    JsonlStream(f"jsonl://{bench.input}").seal()


def lone_run(bench: Bench) -> None:
    """A node by itself."""
    node = UnifiedNode("alone", log_file=bench.log, writer_config=QUICK)
    node.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.folder}/alone.jsonl").set_operator(lambda item: item).run()


def controlled_run(bench: Bench) -> None:
    """A run that is paused, changed, refused a change, and goes on."""
    output = f"jsonl://{bench.folder}/controlled.jsonl"
    pipeline = bench.pipeline([lambda item: item], output_uri=output, follow_input=True).create("controlled")
    ref = pipeline.start()
    ref.ask(Pause())
    ref.ask(Reconfigure("node_0", parallel_size=2))
    with pytest.raises(ConfigError):
        ref.ask(Reconfigure("node_0", parallel_size=0))
    ref.ask(Unpause())
    JsonlStream(f"jsonl://{bench.input}").seal()
    pipeline.wait(PATIENCE_SECONDS)


def fruitless_run(bench: Bench) -> None:
    """A run of which no row comes."""
    bench.pipeline([lambda item: None], output_uri="memory://fruitless").create("fruitless").run()


def targeted_runs(bench: Bench) -> None:
    """A run that meets its target, and one whose input is too short for that."""
    for target in (2, 1000):
        name = f"target-{target}"
        bench.pipeline([lambda item: item], output_uri=f"memory://{name}", target=target).create(name).run()


def unfit_run(bench: Bench) -> None:
    """A run with a row that its output cannot hold."""
    bench.pipeline([lambda item: {"v": item["n"] or "x"}], output_uri=f"{bench.folder}/unfit.parquet").create("u").run()


def uncontrollable_run(bench: Bench) -> None:
    """A run that can have no control socket."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llm_datagen.runs.control_client._homes", lambda: iter([]))
        bench.pipeline([lambda item: item], output_uri="memory://uncontrollable").create("uncontrollable").run()


def edited_run(bench: Bench) -> None:
    """A run that goes on with an operator that was edited, and other paths than its own."""

    def double(row: Any) -> Any:
        if factor == 2 and row["n"] == 3:
            raise ValueError("here it ends")
        return {**row, "n": row["n"] * factor}

    factor = 2
    output = f"jsonl://{bench.folder}/edited.jsonl"
    given: dict[str, Any] = {"log_file": bench.log, "results_dir": bench.results}
    with pytest.raises(NodeFailedError):
        UnifiedPipeline([double], f"jsonl://{bench.input}", output, **given).create("edited").run()
    factor = 3
    with pytest.warns(ResumeWarning):
        UnifiedPipeline([double], f"jsonl://{bench.input}", f"{output}l", **given).resume(
            "edited", on_change="accept"
        ).run()


class LosesOne(InThreads):
    """Loses the second shard, the first time."""

    def start(self, job: ShardJob) -> Any:
        if job.number == 1 and 1 not in self.jobs:
            self.jobs.append(1)
            return Lost()
        return super().start(job)


class Lost:
    """A shard whose process died at once."""

    number = 1

    def status(self) -> None:
        """Return None: nobody knows."""

    def events(self) -> list[Any]:
        return []

    def send(self, command: Any) -> None:
        raise NotRunningError("it has died")

    def wait(self, seconds: float | None = None) -> ShardOutcome:
        return ShardOutcome("failed", "its process died", is_lost=True)


def sharded_run(bench: Bench) -> list[dict[str, Any]]:
    """A run in shards, of which one is lost, and one gives rows away; return what all have logged."""
    folder = bench.folder / "sharded"
    folder.mkdir()
    bench = Bench(folder)

    def slow(row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] == 0:
            eventually(lambda: any(line["event"] == "[Shard Split]" for line in bench.log_lines()), "it is split")
        return row

    bench.give(numbered(1200))
    executor = LosesOne(2, gives_away=True)
    line = bench.pipeline([slow], batch_size=1)
    ShardedPipeline(line, shards=2, executor=executor).create("sharded").run()
    return [*bench.log_lines(), *(line for path in bench.results.rglob("0*/platform.log") for line in lines(path))]


def test_each_line_has_exactly_the_documented_fields(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """M28: runs in which everything happens that is logged; what programs read of the log is what is written there."""
    monkeypatch.setattr(splitter, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(splitter, "AGAIN_SECONDS", 0.05)
    bench.give(numbered(5))
    moody_run(bench)
    failing_run(bench)
    slow_disk_run(bench)
    controlled_run(bench)
    fruitless_run(bench)
    targeted_runs(bench)
    unfit_run(bench)
    uncontrollable_run(bench)
    edited_run(bench)
    JsonlStream(f"jsonl://{bench.input}").unseal()
    hanging_run(bench)
    lone_run(bench)
    of_shards = sharded_run(bench)
    expected = documented()
    logged = [*bench.log_lines(), *of_shards]
    assert {line["event"] for line in logged} == set(EVENTS) == set(expected)
    for line in logged:
        is_alone = line.get("node_id") == "alone" or "pipeline_id" not in line
        assert set(line) == expected[line["event"]] | (set() if is_alone else {"pipeline_id"}), line
    alone = [line for line in logged if "pipeline_id" not in line]
    assert {line["event"] for line in alone} >= {"[Run Started]", "[Node Ended]", "[Run Ended]"}
    assert len({line["run"] for line in bench.log_lines()}) == 13
    assert len({line["run"] for line in alone}) == 1


def test_each_field_of_an_event_is_explained_and_has_its_unit() -> None:
    rows = table(REFERENCE, SECTION, "field of a line")
    explained = {name: unit for cell, (unit, _) in rows.items() for name in names_in(cell)}
    used = {"pipeline_id"}
    for event, fields in documented().items():
        if event not in ("[Node Ended]", "[Node Started]"):  # these are explained where reports and settings are
            used |= fields
    assert set(explained) == used - OPERATORS_OWN
    for name, unit in explained.items():
        assert (unit == "seconds") == (name == "seconds" or name.endswith("_s")), name


def test_the_fields_of_what_reads_a_log_are_documented() -> None:
    from dataclasses import fields

    from llm_datagen import LogFile, logs
    from llm_datagen.runs.logs import LogEvent, LogSummary, NodeSummary, RunSummary

    for cls in (LogFile, LogEvent, LogSummary, RunSummary, NodeSummary):
        shown = [name for cell in table(REFERENCE, SECTION, f"field of {cls.__name__}") for name in names_in(cell)]
        derived = [name for name, value in vars(cls).items() if isinstance(value, property)]
        assert sorted(shown) == sorted([*(field.name for field in fields(cls)), *derived]), cls
    rows = table(REFERENCE, SECTION, "function of llm_datagen.logs")
    assert [cell.strip("`").partition("(")[0] for cell in rows] == [name for name in logs.__all__ if name.islower()]
