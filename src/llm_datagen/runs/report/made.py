"""A report, put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from llm_datagen.runs.caps import caps_of
from llm_datagen.runs.exports import unfit_rows
from llm_datagen.runs.limit import limit_of
from llm_datagen.runs.masking import masked
from llm_datagen.runs.report.accounts import accounts_of
from llm_datagen.runs.report.chart import points_of, thinned
from llm_datagen.runs.report.facts import model_costs, node_facts, run_facts, streams_of_state, totals_of
from llm_datagen.runs.report.model import FORMAT, Budget, NodeFacts, Report
from llm_datagen.runs.report.samples import Looked
from llm_datagen.runs.software import version_of
from llm_datagen.runs.status import report_of_entry, shortcomings
from llm_datagen.runs.timeline import Point
from llm_datagen.runs.usage import is_short
from llm_datagen.streams.storage.owner import now_text

_MOST_POINTS = 600
"""Points of the timeline in a report, at most."""

_NO_POINTS = (
    "Charts: the run has no points over time. Older versions of llm-datagen kept none, nor do runs on an object store, "
    "and shards that nobody drives as a whole."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A run that is reported.

    Attributes:
        run_state: its run state; of a run in shards, that of the whole, added up.
        parts: the run states that say where its streams lie: its own, or those of its shards that have begun.
        status: its true status.
        is_live: whether a process runs it.
        note: what else is to be said of the status.
        results_dir: the folder of the runs, or its URI.
        started_with: what the command line started it with.
        earlier_versions: the ids of its earlier versions.
        spent: what it has spent of its budget, in words.
        jobs: how its jobs at batch APIs stand, in words.
        given: what the last resume was given to spend, in place of what the budgets say; see `Origin.caps`.
        timeline: its points.
        notes: what else somebody should look at.
    """

    run_state: Mapping[str, Any]
    parts: Sequence[Mapping[str, Any]]
    status: str
    is_live: bool = False
    note: str = ""
    results_dir: str = ""
    started_with: str = ""
    earlier_versions: Sequence[str] = ()
    spent: str = ""
    jobs: str = ""
    given: Mapping[str, float | int] = field(default_factory=dict)
    timeline: Sequence[Point] = ()
    notes: Sequence[str] = field(default=())


def report_of(subject: Subject, looked: Looked) -> Report:
    """Return the report of a run.

    Args:
        subject: the run.
        looked: what was found in its streams.
    """
    run_state = subject.run_state
    accounts = accounts_of(subject.parts, is_live=subject.is_live)
    nodes = node_facts(run_state, accounts, status=subject.status)
    caps = [{**asdict(cap), **subject.given} for cap in caps_of(run_state)]
    missing = list(looked.left_out)
    if not subject.timeline:
        missing.append(_NO_POINTS)
    return Report(
        format=FORMAT,
        made_at=now_text(),
        made_by=f"llm-datagen {version_of('llm-datagen')}",
        run=run_facts(
            run_state,
            status=subject.status,
            is_live=subject.is_live,
            note=subject.note,
            results_dir=subject.results_dir,
            started_with=subject.started_with,
            earlier_versions=subject.earlier_versions,
        ),
        totals=totals_of(run_state, nodes),
        nodes=nodes,
        streams=streams_of_state(run_state, accounts),
        timeline=thinned(points_of(subject.timeline), _MOST_POINTS),
        models=model_costs(run_state),
        budget=Budget(caps=caps, spent=subject.spent) if caps or subject.spent else None,
        jobs=subject.jobs,
        failures=looked.failures,
        rejected=looked.rejected,
        rows=looked.rows,
        exports=[masked(entry) for entry in run_state.get("exports") or ()],
        limit=limit_of(run_state, is_live=subject.is_live),
        settings=masked({name: value for name, value in run_state["config"].items() if value is not None}),
        warnings=[*_warnings(subject, nodes), *subject.notes],
        left_out=missing,
    )


def _warnings(subject: Subject, nodes: Sequence[NodeFacts]) -> Iterator[str]:
    yield from shortcomings(map(report_of_entry, subject.run_state["nodes"]))
    yield from map(str, unfit_rows(subject.run_state))
    for node in nodes:
        if node.stalled:
            yield f"{node.node_id} is stalled: {node.stalled}"
        if node.account.findings:
            yield f"{node.node_id}: its counts do not add up; see below"
    if is_short(subject.run_state):
        yield "usage and cost are at least these: the last usage before a kill is missing"
