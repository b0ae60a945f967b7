"""`max_lead`: a node is not far ahead of those that read from it, and nodes never wait for each other in a circle."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from llm_datagen import ConfigError, Generate, Route, StopRun, StreamFactory, UnifiedNode, UnifiedNodePipeline
from llm_datagen.actors.clock import SystemClock
from llm_datagen.actors.lead_limit import LeadLimit
from llm_datagen.messages.lead import LeadMoved, LimitLead, Starving
from llm_datagen.operators import FunctionOperator

from ..kit.support import Bench, lines, numbered


class Counting:
    """Counts the rows that it was called for, and passes them on."""

    version = "1"
    name = "counting"
    stateful = True

    def __init__(self) -> None:
        self.calls = 0
        self._lock = threading.Lock()

    def process_item(self, item: Any, ctx: Any) -> Any:
        with self._lock:
            self.calls += 1
        return item


class Watching:
    """Notes how many rows more than itself another operator was called for."""

    version = "1"
    name = "watching"
    stateful = True

    def __init__(self, first: Counting, *, keeps: int = 1) -> None:
        self.first = first
        self.keeps = keeps
        self.leads: list[int] = []

    def process_item(self, item: Any, ctx: Any) -> Any:
        self.leads.append(self.first.calls - len(self.leads))
        return item if len(self.leads) % self.keeps == 0 else None


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("lead", [1, 7])
@pytest.mark.parametrize("keeps", [1, 10**9])
@pytest.mark.parametrize("parallel_size", [1, 4])
def test_a_node_is_at_most_so_many_rows_ahead(bench: Bench, lead: int, keeps: int, parallel_size: int) -> None:
    bench.give(numbered(300))
    first = Counting()
    watching = Watching(first, keeps=keeps)
    settings: dict[str, Any] = {"streaming": True, "node_configs": [{"max_lead": lead, "parallel_size": parallel_size}]}
    report = bench.pipeline([first, watching], **settings).create("a").run()
    assert report.status == "completed"
    assert report.rows_out == (300 if keeps == 1 else 0)
    assert len(watching.leads) == 300
    assert max(watching.leads) <= lead  # the row of the call is not done
    assert report.nodes[0].lead_limited_s > 0
    assert report.nodes[1].lead_limited_s == 0


def test_without_it_a_node_runs_ahead(bench: Bench) -> None:
    bench.give(numbered(300))
    first = Counting()
    go_on = threading.Event()

    def last(item: Any) -> Any:
        go_on.wait(10)
        return item

    def passing(item: Any) -> Any:
        result = first.process_item(item, None)
        if first.calls == 300:
            go_on.set()
        return result

    assert bench.pipeline([passing, last], streaming=True).create("a").run().rows_out == 300
    assert go_on.is_set()


def batches(items: list[Any]) -> list[Any]:
    return items


def test_a_reader_of_batches_gets_whole_ones(bench: Bench) -> None:
    bench.give(numbered(203))
    report = (
        bench.pipeline(
            [Counting(), FunctionOperator(batches, batch=True), Counting()],
            streaming=True,
            max_lead=3,
            node_configs=[None, {"batch_size": 20}],
        )
        .create("a")
        .run()
    )
    assert (report.status, report.rows_out) == ("completed", 203)


@pytest.mark.parametrize("lead", [1, 5])
def test_children_of_one_parent_come_together_whatever_the_lead(bench: Bench, lead: int) -> None:
    bench.give(numbered(40))

    def nine(item: Any) -> Any:
        return [{"n": item["n"], "k": k} for k in range(9)]

    def sums(items: list[Any]) -> list[Any]:
        return [{"n": items[0]["n"], "count": len(items)}]

    pipeline = bench.pipeline(
        [Counting(), nine, FunctionOperator(sums, batch=True)],
        streaming=True,
        max_lead=lead,
        node_configs=[None, {"ordered": True}, {"batch_by": "parent", "batch_size": 9}],
    )
    assert pipeline.create("a").run().status == "completed"
    rows = lines(bench.output)
    assert sorted((row["n"], row["count"]) for row in rows) == [(n, 9) for n in range(40)]


def to_side(row: Any) -> Any:
    return Route("rare" if row["n"] == 77 else "often", row)


def same(row: Any) -> Any:
    return row


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("lead", [1, 4])
def test_a_diamond_with_a_branch_that_gets_one_row_comes_to_its_end(bench: Bench, lead: int) -> None:
    bench.give(numbered(120))
    at = {name: str(bench.folder / f"{name}.jsonl") for name in ("often", "rare", "a", "b")}
    sides = {"often": at["often"], "rare": at["rare"]}
    nodes = [
        UnifiedNode("route", max_lead=lead).bind_io(str(bench.input), sides).set_operator(to_side),
        UnifiedNode("a", max_lead=lead).bind_io(at["often"], at["a"]).set_operator(same),
        UnifiedNode("b", max_lead=lead).bind_io(at["rare"], at["b"]).set_operator(same),
        UnifiedNode("merge").bind_io([at["a"], at["b"]], str(bench.output)).set_operator(same),
    ]
    pipeline = UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=None).create("a")
    StreamFactory.create(str(bench.input)).seal()
    assert pipeline.run().status == "completed"
    assert sorted(row["n"] for row in lines(bench.output)) == list(range(120))


def test_a_run_that_was_stopped_goes_on_within_the_bound(bench: Bench) -> None:
    bench.give(numbered(300))
    settings: dict[str, Any] = {"streaming": True, "max_lead": 5, "node_configs": [{"parallel_size": 3}]}
    for stop in (50, 150, None):
        first = Counting()
        watching = Stopping(first, stop)
        pipeline = bench.pipeline([first, watching], **settings)
        report = pipeline.create("a", if_exists="resume").run()
        assert max(watching.leads) <= 5 + 5  # rows that were committed before do not count as calls
    assert report.status == "completed"
    assert sorted(row["n"] for row in lines(bench.output)) == list(range(300))


class Stopping(Watching):
    """Stops the run at a row."""

    def __init__(self, first: Counting, at: int | None) -> None:
        super().__init__(first)
        self.at = at

    def process_item(self, item: Any, ctx: Any) -> Any:
        if item["n"] == self.at:
            raise StopRun("enough")
        return super().process_item(item, ctx)


def test_an_input_without_an_end_does_not_fill_the_disk(bench: Bench) -> None:
    def stops(item: Any) -> Any:
        if item["_i"] == 400:
            raise StopRun("enough")
        return item

    pipeline = bench.pipeline(
        [Counting(), same, stops], input=Generate({"a": [1, 2]}), input_uri=None, streaming=True, max_lead=10
    )
    assert pipeline.create("a").run().status == "stopped"
    assert 400 <= len(lines(bench.between("a"))) <= 400 + 2 * 10 + 2


def test_a_reader_that_has_ended_early_holds_nobody_back(bench: Bench) -> None:
    bench.give(numbered(300))
    StreamFactory.create(str(bench.input)).seal()
    at = {name: str(bench.folder / f"{name}.jsonl") for name in ("a", "few", "all", "many", "last")}
    nodes = [
        UnifiedNode("a", max_lead=40, parallel_size=4).bind_io(str(bench.input), at["a"]).set_operator(Counting()),
        UnifiedNode("few", target=5).bind_io(at["a"], at["few"]).set_operator(same),
        UnifiedNode("many").bind_io(at["a"], at["many"]).set_operator(same),
        UnifiedNode("last", target=5).bind_io(at["many"], at["last"]).set_operator(same),
        UnifiedNode("all").bind_io(at["a"], at["all"]).set_operator(same),
    ]
    report = UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=None).create("a").run()
    assert report.status == "completed"
    assert report.nodes[2].status in ("unneeded", "completed")
    assert [len(lines(bench.folder / f"{name}.jsonl")) for name in ("few", "all")] == [5, 300]


def test_it_needs_nodes_that_run_at_once(bench: Bench) -> None:
    bench.give(numbered(3))
    with pytest.raises(ConfigError, match="node_0: max_lead bounds how far a node is ahead of its readers"):
        bench.pipeline([same, same], max_lead=3).create("a")
    with pytest.raises(ConfigError, match="max_lead must be a whole number of at least 1, not 0"):
        bench.pipeline([same], max_lead=0)
    bench.pipeline([same], max_lead=3).create("a").run()


def limit(lead: int | None = 4, step: int = 1) -> LeadLimit:
    found = LeadLimit(SystemClock(), lead, done=0, rows_out=0)
    found.hear(LimitLead("b", step, 0))
    return found


def test_rows_in_flight_and_rows_that_were_written_count() -> None:
    lead = limit()
    assert lead.rows() == 4
    lead.spend(3)
    assert lead.rows() == 1
    lead.hear(LeadMoved("", 3, 3))
    assert lead.rows() == 1
    lead.hear(LeadMoved("b", 2, 0))
    assert lead.rows() == 3
    lead.hear(LeadMoved("b", 3, 0))
    lead.spend(4)
    assert lead.rows() == 0
    lead.hear(LeadMoved("", 7, 3))  # they were filtered
    assert lead.rows() == 4
    lead.give_back(0)
    assert limit(step=20).rows() == 20
    assert limit(None).rows() > 10**9


def test_a_reader_that_starves_gets_a_call_at_a_time() -> None:
    lead = limit(2)
    lead.spend(2)
    lead.hear(LeadMoved("", 2, 9))
    assert lead.rows() == 0
    lead.hear(Starving("b", 5))  # it has not seen all of them
    assert lead.rows() == 0
    lead.hear(Starving("b", 9))
    assert lead.rows() == 1
    lead.spend(1)
    assert lead.rows() == 0
    lead.hear(LeadMoved("", 3, 9))  # nothing came of it
    assert lead.rows() == 1
    lead.hear(LeadMoved("", 3, 10))
    assert lead.rows() == 0
    lead.hear(Starving("b", None))
    assert lead.rows() == 1


def test_a_reader_that_reads_no_more_does_not_count() -> None:
    lead = limit()
    lead.hear(LimitLead("c", 1, 0))
    lead.spend(4)
    lead.hear(LeadMoved("", 4, 4))
    lead.hear(LeadMoved("c", sys.maxsize, 0))
    assert lead.rows() == 0
    lead.hear(LeadMoved("b", sys.maxsize, 0))
    assert lead.rows() > 4


def test_the_slowest_of_several_readers_counts() -> None:
    lead = limit()
    lead.hear(LimitLead("c", 1, 0))
    lead.spend(4)
    lead.hear(LeadMoved("", 4, 4))
    lead.hear(LeadMoved("b", 4, 0))
    assert lead.rows() == 0
    lead.hear(LeadMoved("c", 1, 0))
    assert lead.rows() == 1
