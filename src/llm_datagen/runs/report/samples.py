"""Some rows of a run, with all that they came from, and the rows that failed, with one of each cause.

What is shown of each is bounded: a report stays small, however large the rows are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llm_datagen.errors import DatagenError, StreamError
from llm_datagen.runs.browse.failures import DeadLetterGroup, failure_groups
from llm_datagen.runs.browse.pages import Browser
from llm_datagen.runs.browse.reasons import ReasonCount, reasons_of
from llm_datagen.runs.browse.run_streams import find_stream, streams_of_run
from llm_datagen.runs.output_node import outputs_of
from llm_datagen.runs.report.families import FamilyOf, family_of, length_of
from llm_datagen.runs.report.model import Failure, Sample
from llm_datagen.runs.report.text import as_json
from llm_datagen.runs.words import cut

ITEM_CHARS = 2000
"""Characters of a row, a prompt or an answer, at most."""

_MESSAGE_CHARS = 500
_TRACE_CHARS = 2000
_MOST_FAILURES = 20
_MOST_REASONS = 50
_MOST_CHARS = 100_000
"""Characters of all sample rows together, with all that they come from, at most about."""

_TRACED_BYTES = 512 << 20
"""Of how many bytes of streams sample rows are followed through, all rows together."""

_LONGEST_TRACED = 1 << 30
"""Bytes of streams through which not even one row is followed."""

_NOT_TRACED = (
    "Where some of the sample rows come from: there is no room for it, or the streams are too long to be read for "
    "each. {} finds it for one."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was found in the streams of a run.

    Attributes:
        failures: rows that failed, the most frequent cause first.
        rejected: rejected rows by their reason, the most frequent first.
        rows: sample rows.
        left_out: what could not be read, and why.
    """

    failures: Sequence[Failure] = ()
    rejected: Sequence[ReasonCount] = ()
    rows: Sequence[Sample] = ()
    left_out: Sequence[str] = ()


def looked_through(
    run_state: Mapping[str, Any],
    shards: Sequence[Mapping[str, Any]] | None,
    relatives: FamilyOf,
    *,
    trace: str,
    rows: int = 5,
) -> Looked:
    """Look for rows that failed, and for sample rows.

    Args:
        run_state: the run state; of a run in shards, that of the whole.
        shards: the run states of its shards that have begun; None of a run without.
        relatives: finds where a row comes from.
        trace: the command that does so, for people.
        rows: how many sample rows.
    """
    left_out: list[str] = []
    failures: list[Failure] = []
    samples: list[Sample] = []
    try:
        found = failure_groups(entry for state in shards or [run_state] for entry in state["nodes"])
        failures = [_failure(group) for group in found[:_MOST_FAILURES]]
        if len(found) > _MOST_FAILURES:
            left_out.append(f"{len(found) - _MOST_FAILURES} rarer causes of failures: llm-datagen errors lists them.")
    except (DatagenError, OSError) as error:
        left_out.append(f"Rows that failed: {error}")
    rejected: list[ReasonCount] = []
    try:
        every = reasons_of(entry for state in shards or [run_state] for entry in state["nodes"])
        rejected = every[:_MOST_REASONS]
        if len(every) > len(rejected):
            left_out.append(f"{len(every) - len(rejected)} rarer reasons: llm-datagen errors --rejected lists them.")
    except (DatagenError, OSError) as error:
        left_out.append(f"Rejected rows: {error}")
    try:
        samples = list(_samples(run_state, shards, rows))
        samples = list(_with_families(samples, relatives, _read_by_traces(run_state, shards)))
        if not all(sample.family for sample in samples):
            left_out.append(_NOT_TRACED.format(trace))
    except (DatagenError, OSError) as error:
        left_out.append(f"Sample rows: {error}")
    return Looked(failures=failures, rejected=rejected, rows=samples, left_out=left_out)


def _failure(group: DeadLetterGroup) -> Failure:
    return Failure(
        node_id=group.node_id,
        kind=cut(group.kind, _MESSAGE_CHARS),
        message=cut(group.text, _MESSAGE_CHARS),
        count=group.count,
        row_id=str(group.row_id),
        input=as_json(group.input, ITEM_CHARS),
        traceback=cut(group.trace.strip(), _TRACE_CHARS),
    )


def _samples(run_state: Mapping[str, Any], shards: Sequence[Mapping[str, Any]] | None, count: int) -> Iterator[Sample]:
    """Yield rows of the output, evenly spread over it; where there are several outputs, of each."""
    outputs, streams, browser, shown = outputs_of(run_state), streams_of_run(run_state, shards), Browser(), 0
    for at, entry in enumerate(outputs):
        stream = find_stream(streams, entry["node_id"])
        seen, share = stream.look(), count * (at + 1) // len(outputs) - count * at // len(outputs)
        if seen.why_not and entry.get("rows_out") and count:
            raise StreamError(seen.why_not)
        for number in _spread(seen.rows or 0, share):
            for row in browser.page(stream, number, 1).rows:
                if shown > _MOST_CHARS:
                    return
                sample = Sample(
                    node_id=entry["node_id"],
                    number=row.number,
                    row_id=row.id,
                    item=as_json(row.item, ITEM_CHARS),
                    family=(),
                )
                shown += len(sample.item)
                yield sample


def _read_by_traces(run_state: Mapping[str, Any], shards: Sequence[Mapping[str, Any]] | None) -> int:
    """Return for how many rows it may be found where they come from: that reads all streams, some more than once."""
    size = sum(stream.look().bytes or 0 for stream in streams_of_run(run_state, shards))
    return max(_TRACED_BYTES // max(size, 1), 1 if size <= _LONGEST_TRACED else 0)


def _with_families(samples: Sequence[Sample], relatives: FamilyOf, most: int) -> Iterator[Sample]:
    """Yield rows with what they come from: of the first ones, as long as there is room."""
    shown = sum(len(sample.item) for sample in samples)
    for at, sample in enumerate(samples):
        if at >= most or shown > _MOST_CHARS:
            yield sample
            continue
        traced = replace(sample, family=list(family_of(relatives(sample.row_id), ITEM_CHARS)))
        shown += sum(map(length_of, traced.family))
        yield traced


def _spread(rows: int, count: int) -> Iterable[int]:
    """Return some numbers of rows, evenly spread, from the first one on."""
    return sorted({number * rows // count for number in range(count)}) if rows and count else ()
