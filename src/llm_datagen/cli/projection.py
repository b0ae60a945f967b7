"""Projection from some rows to all: sums, each with its standard error.

The error is that of the sampling alone: rows are taken as drawn at random and independent, and all calls as if they
were to be made and paid for. Errors of factors are combined as if they were independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llm_datagen.cli.estimate import NOTHING, Estimate, mean_of
from llm_datagen.operators import Call, operators_within
from llm_datagen.operators.call import has_jobs
from llm_datagen.operators.references import parallel_size_of
from llm_datagen.pipeline.preview import NodePreview, sources_of
from llm_datagen.streams import Place, StreamFactory

if TYPE_CHECKING:
    from llm_datagen.llm.observer import ObservedCall
    from llm_datagen.llm.types import ChatAnswer

SLOW_SECONDS = 0.005
"""In the time of a run, a row of an operator without calls counts only if it takes so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """What a node will use of a model.

    Attributes:
        model: the model, as the answers name it.
        calls: calls that are answered.
        prompt_tokens: tokens of the prompts.
        completion_tokens: tokens of the answers.
        cost: US dollars; None when no price is known.
    """

    model: str
    calls: Estimate
    prompt_tokens: Estimate
    completion_tokens: Estimate
    cost: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUse:
    """What a node will do.

    Attributes:
        node_id: the node.
        operator: its operator's identity.
        rows_in: rows that it gets.
        rows_out: rows that come out.
        models: what it uses of each model.
        row_seconds: how long a row takes, on the average.
        seconds: how long all take; 0 if the time is negligible.
        at_once: rows in the operator at once.
        was_at_once: the most that were in the preview.
        bound: what limits `seconds`: "calls", "requests_per_minute", "tokens_per_minute", "rate"; "" for nothing.
        is_in_jobs: whether its rows are rows of jobs at a batch API.
    """

    node_id: str
    operator: str
    rows_in: Estimate
    rows_out: Estimate
    models: Sequence[ModelUse]
    row_seconds: float
    seconds: Estimate
    at_once: int
    was_at_once: int
    bound: str
    is_in_jobs: bool = False


def project(
    previews: Iterable[tuple[NodePreview, Sequence[ObservedCall]]], counts: Mapping[Place, int]
) -> list[NodeUse]:
    """Return what each node will do.

    Args:
        previews: the nodes with their calls, each behind those that it reads from.
        counts: how many rows each input has, by its place.
    """
    known = {place: Estimate(count) for place, count in counts.items()}
    found = []
    for stage, calls in previews:
        rows_in = sum((known[stream.place] for stream in sources_of(stage.entry)), NOTHING)
        use = _node_use(stage, calls, rows_in)
        known[StreamFactory.create(stage.entry["output_uri"]).place] = use.rows_out
        found.append(use)
    return found


def _node_use(stage: NodePreview, calls: Sequence[ObservedCall], rows_in: Estimate) -> NodeUse:
    rows = _by_row(stage, calls)
    each = [_seconds_of(row) for row in rows]
    answers = [[call.answer for call in row if call.answer] for row in rows]
    names = sorted({answer.model for row in answers for answer in row})
    share = 1 / max(getattr(each, "rows_per_request", 1) for each in operators_within(stage.operator))
    price = min(getattr(each, "price_share", 1.0) for each in operators_within(stage.operator))
    models = (
        [_model_use(name, answers, rows_in, share, price) for name in names] if calls else _reported(stage, rows_in)
    )
    call = Call(stage.operator)
    size = 1 if call.batch else stage.entry["batch_size"]
    at_once = 1 if call.keeps_state else parallel_size_of(stage.entry) * size
    if calls:
        row = mean_of(each, rows_in.value)
    else:
        busy = stage.report.busy_s / len(stage.given) if stage.given else 0.0
        row = Estimate(busy if busy >= SLOW_SECONDS else 0.0)
    ways = {"calls": rows_in * row * (1 / at_once), **_at_the_limit(stage.operator, models, row.value)}
    if stage.entry["rate"]:
        ways["rate"] = rows_in * (1 / stage.entry["rate"])
    bound = max(ways, key=lambda name: ways[name].value)
    return NodeUse(
        node_id=stage.node_id,
        operator=str(stage.entry["operator"]),
        rows_in=rows_in,
        rows_out=_rows_out(stage, rows_in),
        models=models,
        row_seconds=row.value,
        seconds=ways[bound],
        at_once=at_once,
        was_at_once=min(at_once, len(stage.given)),
        bound=bound if ways[bound].value else "",
        is_in_jobs=has_jobs(stage.operator),
    )


def _rows_out(stage: NodePreview, rows_in: Estimate) -> Estimate:
    """Return how many rows come out; of an upper bound, no more than go in where no row of the sample gave several."""
    rows = rows_in * replace(_rows_per_row(stage, rows_in.value), is_at_most=is_upper_bound(stage, rows_in))
    return rows.at_most(rows_in.high) if rows.is_at_most and _gives_no_more(stage) else rows


def _gives_no_more(stage: NodePreview) -> bool:
    """Return whether each row of the sample gave one row at most, as far as that is known of it; else all together."""
    made_of = stage.made_of()
    if made_of is None:
        return len(stage.made) <= len(stage.given)
    return all(len(made) <= 1 for made in made_of.values())


def is_upper_bound(stage: NodePreview, rows_in: Estimate) -> bool:
    """Return whether less may come of each row than in the sample, as of rows with duplicates that it lacks.

    Args:
        stage: the preview of the node.
        rows_in: how many rows the node gets.
    """
    call = Call(stage.operator)
    return (call.keeps_state or call.finish is not None) and bool(stage.made) and len(stage.given) < rows_in.value


def _at_the_limit(operator: Any, models: Sequence[ModelUse], seconds: float) -> dict[str, Estimate]:
    """Return how long the calls take if only the given limits slow them down."""
    limits = next((found for each in operators_within(operator) if (found := getattr(each, "limits", None))), None)
    wanted = {
        "requests_per_minute": sum((use.calls for use in models), NOTHING),
        "tokens_per_minute": sum((use.prompt_tokens + use.completion_tokens for use in models), NOTHING),
    }
    # A call counts from when it is sent until a minute after its end.
    return {
        name: amount * ((60 + seconds) / limit)
        for name, amount in wanted.items()
        if (limit := getattr(limits, name, None)) is not None
    }


def _by_row(stage: NodePreview, calls: Sequence[ObservedCall]) -> list[list[ObservedCall]]:
    """Return the calls of each row; calls without a row are spread evenly."""
    rows: dict[str, list[ObservedCall]] = {f"row {row_id}": [] for row_id, _ in stage.given}
    names = list(rows)
    for number, call in enumerate(calls):
        row = call.request.row
        rows[row if row in rows else names[number % len(names)]].append(call)
    return list(rows.values())


def _seconds_of(calls: Iterable[ObservedCall]) -> float:
    """Return how long the calls of a row take: samples at once, repairs one after the other, no pauses."""
    samples: dict[int, float] = {}
    for call in calls:
        seconds = call.answer.seconds if call.answer else call.seconds
        samples[call.request.sample] = samples.get(call.request.sample, 0.0) + seconds
    return max(samples.values(), default=0.0)


def _model_use(
    name: str, answers: Sequence[Sequence[ChatAnswer]], rows_in: Estimate, share: float, price: float
) -> ModelUse:
    """Return what a node will use of a model, where an answer is this share of a call, and costs this share of one."""
    rows = [[answer for answer in row if answer.model == name] for row in answers]
    found = [[answer.saved if answer.is_cached else answer.cost for answer in row] for row in rows]
    is_known = all(cost is not None for row in found for cost in row)
    costs = [[(cost or 0.0) * price for cost in row] for row in found]

    def total(values: Iterable[float]) -> Estimate:
        return rows_in * mean_of(list(values), rows_in.value)

    calls = total(len(row) for row in rows)
    if share < 1:  # the last request may be for few rows
        calls = replace(calls * share, value=math.ceil(calls.value * share))
    return ModelUse(
        model=name,
        calls=calls,
        prompt_tokens=total(sum(answer.usage.get("prompt_tokens", 0) for answer in row) for row in rows),
        completion_tokens=total(sum(answer.usage.get("completion_tokens", 0) for answer in row) for row in rows),
        cost=total(map(sum, costs)) if is_known else None,
    )


def _reported(stage: NodePreview, rows_in: Estimate) -> list[ModelUse]:
    """Return what an operator that calls models itself has reported; the variation between rows is unknown."""
    uses = []
    for usage in stage.report.usage:

        def total(*names: str, usage: Mapping[str, Any] = usage) -> Estimate:
            value = next((usage[name] for name in names if name in usage), 0)
            return rows_in * (value / len(stage.given))

        uses.append(
            ModelUse(
                model=str(usage.get("model") or usage.get("provider") or "reported"),
                calls=total("requests", "calls"),
                prompt_tokens=total("prompt_tokens"),
                completion_tokens=total("completion_tokens"),
                cost=total("cost") if "cost" in usage else None,
            )
        )
    return uses


def _rows_per_row(stage: NodePreview, population: float) -> Estimate:
    made_of = stage.made_of()
    if made_of is not None:
        return mean_of([len(made) for made in made_of.values()], population)
    given, made = len(stage.given), len(stage.made)  # of whole batches: the share of each row is unknown
    return Estimate(made / given, math.sqrt(made) / given)


def run_seconds(nodes: Sequence[NodeUse], *, streaming: bool) -> Estimate:
    """Return how long a run takes: the slowest node plus one row of each other; or one node after the other.

    Nodes that wait for the limits of the same models share these, and so their time.
    """
    if not streaming:
        return sum((node.seconds for node in nodes), NOTHING)
    groups: dict[Any, list[NodeUse]] = {}
    for node in nodes:
        models = tuple(use.model for use in node.models)
        groups.setdefault(models if node.bound.endswith("_per_minute") else node.node_id, []).append(node)
    slowest = max(groups.values(), key=lambda group: sum(node.seconds.value for node in group))
    others = Estimate(sum(node.row_seconds for node in nodes if node not in slowest))
    return sum((node.seconds for node in slowest), others)


def as_data(node: NodeUse) -> dict[str, Any]:
    """Return a node's use as plain data."""
    return {
        "node_id": node.node_id,
        "operator": node.operator,
        "rows_in": node.rows_in.as_dict(),
        "rows_out": node.rows_out.as_dict(),
        "seconds": node.seconds.as_dict(),
        "row_seconds": node.row_seconds,
        "at_once": node.at_once,
        "bound": node.bound,
        "models": [
            {
                "model": use.model,
                "calls": use.calls.as_dict(),
                "prompt_tokens": use.prompt_tokens.as_dict(),
                "completion_tokens": use.completion_tokens.as_dict(),
                "cost": use.cost.as_dict() if use.cost else None,
            }
            for use in node.models
        ],
    }
