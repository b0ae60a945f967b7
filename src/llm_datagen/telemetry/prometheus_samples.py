"""What the metrics of a run are: from its run state to samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llm_datagen.errors import DatagenError
from llm_datagen.runs.status import INTERRUPTED, LIVE, Status
from llm_datagen.runs.usage import COST, TOKEN_NAMES, tokens_of
from llm_datagen.shards.spending import RunSpending
from llm_datagen.streams import StreamFactory

STATUSES = (*map(str, Status), INTERRUPTED)
"""What a run can be."""

_OUTCOMES = {"kept": "kept", "filtered": "filtered", "skipped": "skipped", "dead_letters": "dead_letter"}
_SECONDS = ("busy", "held_back", "rate_limited", "lead_limited", "starved")
_USED = {
    "llm_datagen_cost_usd_total": COST,
    "llm_datagen_cached_input_tokens_total": "cached_tokens",
    "llm_datagen_requests_total": "requests",
    "llm_datagen_cached_answers_total": "cached",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of a metric.

    Attributes:
        name: the metric.
        labels: the values of its labels, in order.
        value: the value.
    """

    name: str
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRun:
    """A run, as its files show it.

    Attributes:
        results_dir: the folder of the runs.
        pipeline_id: its id.
        status: its true status.
        is_live: whether a process works on it.
        state: its run state.
        spending: what it has spent of its budget; None of a run without one.
    """

    results_dir: str
    pipeline_id: str
    status: str
    is_live: bool
    state: Mapping[str, Any]
    spending: RunSpending | None = None


def samples_of(run: ShownRun) -> Iterator[Sample]:
    """Yield all samples of a run."""
    labels = (run.results_dir, run.pipeline_id)
    for status in STATUSES:
        yield Sample("llm_datagen_run_status", (*labels, status), status == run.status)
    yield Sample("llm_datagen_run_live", labels, run.is_live)
    yield Sample("llm_datagen_run_paused", labels, run.is_live and bool(run.state.get("paused")))
    for what in ("started", "ended", "updated"):
        if time := run.state.get(f"{what}_at"):
            yield Sample(f"llm_datagen_run_{what}_timestamp_seconds", labels, datetime.fromisoformat(time).timestamp())
    if run.spending is not None and not run.spending.problem:
        for amount, each in run.spending.amounts.items():
            yield Sample("llm_datagen_budget_usd", (*labels, amount), each.usd)
            yield Sample("llm_datagen_budget_tokens", (*labels, amount), each.tokens)
    nodes: Sequence[Mapping[str, Any]] = run.state["nodes"]
    queues = queue_rows(nodes)
    for node in nodes:
        node_id = node["node_id"]
        yield from _of_node(run, node, (*labels, node_id))
        if node_id in queues:
            yield Sample("llm_datagen_queue_rows", (*labels, node_id), queues[node_id])


def queue_rows(nodes: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many rows wait for each node that reads what others write, by the entries of a run state."""
    try:
        written = {StreamFactory.create(node["output_uri"]).place: int(node["rows_out"]) for node in nodes}
        sources = {node["node_id"]: StreamFactory.source(node["input_uri"]).places for node in nodes}
    except DatagenError:  # a protocol of the program's own, which is not known here
        return {}
    return {
        node["node_id"]: max(0, sum(written[place] for place in places) - int(node["rows_in"]))
        for node in nodes
        if (places := sources[node["node_id"]]) and written.keys() >= set(places)
    }


def _of_node(run: ShownRun, node: Mapping[str, Any], labels: tuple[str, ...]) -> Iterator[Sample]:
    is_dead = run.status == INTERRUPTED and node["status"] in LIVE
    for status in STATUSES:
        is_it = status == (INTERRUPTED if is_dead else node["status"])
        yield Sample("llm_datagen_node_status", (*labels, status), is_it)
    kept = node["rows_in"] - sum(node.get(name, 0) for name in ("filtered", "skipped", "dead_letters"))
    for name, outcome in _OUTCOMES.items():
        count = kept if name == "kept" else node.get(name, 0)
        yield Sample("llm_datagen_rows_total", (*labels, outcome), count)
    yield Sample("llm_datagen_output_rows_total", labels, node["rows_out"])
    if node.get("total") is not None:
        yield Sample("llm_datagen_input_rows", labels, node["total"])
        yield Sample("llm_datagen_input_rows_exact", labels, bool(node.get("total_is_exact")))
    yield Sample("llm_datagen_rows_in_flight", labels, run.is_live and node.get("in_flight", 0))
    yield Sample("llm_datagen_rows_per_second", labels, run.is_live and node.get("rows_per_second", 0.0))
    yield Sample("llm_datagen_node_workers", labels, node.get("workers", 0))
    yield Sample("llm_datagen_node_stalled", labels, run.is_live and bool(node.get("stalled")))
    yield Sample("llm_datagen_node_seconds_total", labels, node.get("seconds", 0.0))
    for name in _SECONDS:
        yield Sample(f"llm_datagen_node_{name}_seconds_total", labels, node.get(f"{name}_s", 0.0))
    for entry in node.get("usage") or ():
        yield from _of_usage(entry, (*labels, entry["provider"], entry["model"]))


def _of_usage(entry: Mapping[str, Any], labels: tuple[str, ...]) -> Iterator[Sample]:
    for name, key in _USED.items():
        if key in entry:
            yield Sample(name, labels, entry[key])
    for kind in TOKEN_NAMES:
        tokens = tokens_of(entry, kind)
        if tokens is not None:
            yield Sample("llm_datagen_tokens_total", (*labels, kind), tokens)
