"""What a report says: plain data. Its JSON has these keys, and ``format`` says which version of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llm_datagen.runs.browse.reasons import ReasonCount

FORMAT = 1
"""The version of the JSON of a report. It grows when a key changes its meaning or goes, not when one is added."""

SHARES = ("busy", "held_back", "rate_limited", "lead_limited", "starved")
"""What the time of a node went into."""

MARK = "llm-datagen report"
"""Stands at the beginning of each report, in every form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The run.

    Attributes:
        id: its id.
        status: its status; "interrupted" when its process is gone.
        is_live: whether a process runs it now.
        is_paused: whether it is paused.
        note: what else is to be said of the status, such as how to go on; empty when nothing is.
        reason: why it was cancelled or stopped; empty when nobody said so.
        error: what it failed of; None when it has not.
        failed_row: the row that it failed of.
        created_at, started_at, ended_at, updated_at: when it was made, begun, ended and saved last; None: not yet.
        seconds: how long the last execution took, or has taken.
        results_dir: the folder of the runs.
        host, pid: the machine and the process that ran it last.
        started_with: the file or the object that the command line started it with; empty when a program did.
        version: its number among the versions of the run.
        version_of: the id of its run, of an earlier version.
        earlier_versions: the ids of the versions before it that are kept.
        shards: of a run in shards: how many, how they are merged, and each of them; else None.
        software: versions by names, of the last execution; empty when the version that made the run noted none.
    """

    id: str
    status: str
    is_live: bool
    is_paused: bool
    note: str
    reason: str
    error: str | None
    failed_row: str | None
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    updated_at: str | None
    seconds: float | None
    results_dir: str
    host: str | None
    pid: int | None
    started_with: str
    version: int
    version_of: str | None
    earlier_versions: Sequence[str]
    shards: Mapping[str, Any] | None
    software: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowAccount:
    """What became of the source rows of a node, by the files of its streams: each is exactly one of these.

    Attributes:
        source_rows: rows of its source; None when nobody has counted them.
        done: source rows that are done: ``kept + filtered + skipped + dead_letters``.
        kept: those that gave output rows.
        filtered: those that gave none.
        rejected: of these, those that the operator gave a reason for.
        skipped: those that failed, and were left out.
        dead_letters: those that failed, and are kept as dead letters.
        pending: those that are not done; None when `source_rows` is.
        rows_out: rows in the output.
        is_sealed: whether the output is complete.
        is_known: whether the files say this; else these are the counts of the run state.
        findings: what does not fit together; empty when all does.
    """

    source_rows: int | None
    done: int
    kept: int
    filtered: int
    rejected: int
    skipped: int
    dead_letters: int
    pending: int | None
    rows_out: int
    is_sealed: bool
    is_known: bool
    findings: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """A node.

    Attributes:
        node_id: its id.
        operator: its operator.
        status: its status.
        inputs: the keys of the streams that it reads.
        output: the key of the stream that it writes.
        parallel_size: calls at once, at most.
        batch_size: rows per call.
        seconds: how long it ran, in the last execution.
        shares: of its workers' time in the last execution, from 0 to 1: ``busy``, ``held_back`` (they waited for the
            disk, or the next node), ``rate_limited``, ``lead_limited`` (`max_lead` held rows back), ``starved`` (there
            was no row to do).
        account: what became of its rows.
        failed: rows that failed, with the one that ended the run.
        target_rows: the rows that it is to write; None: as many as there are.
        usage: what its calls used, a dict for each provider and model.
        cost: US dollars; None while no price is known.
        error: what it failed of.
        stalled: how long nothing has moved; None unless it is stalled.
        settings: its settings that are not those of the pipeline.
    """

    node_id: str
    operator: str
    status: str
    inputs: Sequence[str]
    output: str
    parallel_size: int
    batch_size: int
    seconds: float
    shares: Mapping[str, float]
    account: RowAccount
    failed: int
    target_rows: int | None
    usage: Sequence[Mapping[str, Any]]
    cost: float | None
    error: str | None
    stalled: str | None
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """A stream.

    Attributes:
        key: what nodes name it by, in this report.
        uri: where it lies, without secrets.
        kind: "input", "between" or "output".
        rows: how many rows it has; None when not known.
    """

    key: str
    uri: str
    kind: str
    rows: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """What the calls of one model used, in one node.

    Attributes:
        node_id, provider, model: whose.
        calls: requests.
        tokens_in, tokens_out: tokens.
        cost: US dollars; None when no price is known.
    """

    node_id: str
    provider: str
    model: str
    calls: int
    tokens_in: int
    tokens_out: int
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that the calls of a run may cost.

    Attributes:
        caps: for each node that has one, its ``node_id``, ``usd`` and ``tokens``.
        spent: what was spent of it, in words; empty when there is no account.
    """

    caps: Sequence[Mapping[str, Any]]
    spent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Rows that failed in the same node of the same cause.

    Attributes:
        node_id: the node.
        kind: the class of the exception.
        message: the message of the first one.
        count: how many rows.
        row_id: the id of the first one.
        input: what its operator was given, as text, shortened.
        traceback: where it was raised, shortened.
    """

    node_id: str
    kind: str
    message: str
    count: int
    row_id: str
    input: str
    traceback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a model behind a row.

    Attributes:
        model: the model.
        prompt: what it was asked, as text, shortened; empty when it is not kept.
        answer: what it said, as text, shortened; empty when it is not kept.
        details: tokens, cost, attempts and more, in words.
    """

    model: str
    prompt: str
    answer: str
    details: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """A row in the family of a sample.

    Attributes:
        where: "input", or the id of the node that wrote it.
        relation: "ancestor", "itself" or "descendant".
        row_id: its id.
        state: "row", or what became of it.
        item: the row as JSON, shortened; the reason, of one that is none.
        calls: the calls behind it.
    """

    where: str
    relation: str
    row_id: str
    state: str
    item: str
    calls: Sequence[Call]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A row of the output, with all that it came from.

    Attributes:
        node_id: the node that has written it.
        number: its number in the output, from 0.
        row_id: its id.
        item: the row as JSON, shortened.
        family: what it came from, input first; it is the last one.
    """

    node_id: str
    number: int
    row_id: int | str
    item: str
    family: Sequence[Relative]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run, as it was when the report was made.

    Attributes:
        format: `FORMAT`.
        made_at: when.
        made_by: with what.
        run: the run.
        totals: ``rows_in``, ``rows_out``, ``outputs`` (which nodes these rows are of, with how many each has; empty
            where it can only be the last one), ``filtered``, ``failed``, ``cost``, ``tokens``, ``findings``.
        nodes: its nodes.
        streams: its streams.
        timeline: points ``[seconds since it was started first, US dollars, {node_id: [rows_in, rows_out, failed]}]``.
        models: what calls used, for each node and model.
        budget: its budget; None without one.
        jobs: how its jobs at batch APIs stand, in words; empty when there are none.
        failures: rows that failed, the most frequent cause first.
        rejected: rejected rows by their reason, the most frequent first.
        rows: sample rows.
        exports: files that it makes of its results.
        limit: what limits it, or limited it, in a sentence; empty while nothing can be said.
        settings: the settings of the pipeline, without secrets.
        warnings: what somebody should look at.
        left_out: what is not in this report, and why.
    """

    format: int
    made_at: str
    made_by: str
    run: RunFacts
    totals: Mapping[str, Any]
    nodes: Sequence[NodeFacts]
    streams: Sequence[StreamFacts]
    timeline: Sequence[tuple[float, float | None, Mapping[str, Sequence[int]]]]
    models: Sequence[ModelCost]
    budget: Budget | None
    jobs: str
    failures: Sequence[Failure]
    rejected: Sequence[ReasonCount]
    rows: Sequence[Sample]
    exports: Sequence[Mapping[str, Any]]
    limit: str
    settings: Mapping[str, Any]
    warnings: Sequence[str]
    left_out: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)
