"""A plan: run some rows, and estimate from them what the whole run will use: tokens, money, time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from llm_datagen.cli.estimate import NOTHING, Estimate
from llm_datagen.cli.exit_codes import FAILED
from llm_datagen.cli.output import write_json
from llm_datagen.cli.preview_run import PreviewRun, made_of, spent_in
from llm_datagen.cli.projection import NodeUse, as_data, is_upper_bound, project, run_seconds
from llm_datagen.cli.target import find_target, parse_settings
from llm_datagen.operators import operators_within
from llm_datagen.pipeline.preview import NodePreview, Sample, random_rows
from llm_datagen.runs.display.console import SafeConsole
from llm_datagen.runs.display.name_table import Name, NameTable, columns_of
from llm_datagen.runs.display.tables import one_line
from llm_datagen.runs.usage import PICO, dollars
from llm_datagen.runs.words import duration, number, rows_in_words
from llm_datagen.streams import Stream
from llm_datagen.streams.ids import RootNames

if TYPE_CHECKING:
    from llm_datagen.llm.observer import ObservedCall


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is expected to use.

    Attributes:
        name: the pipeline.
        count: rows of its inputs.
        nodes: what each node will do.
        seconds: how long the run takes.
        notes: what to know about these figures.
        spent: US dollars that the sample cost; None when no price is known.
        calls: calls that the sample took, without those that the cache answered.
        failed: rows of the sample that failed.
    """

    name: str
    count: int
    nodes: Sequence[NodeUse]
    seconds: Estimate
    notes: Sequence[str]
    spent: float | None
    calls: int
    failed: int

    @property
    def total(self) -> dict[str, Estimate | None]:
        """The sums over all nodes and models."""
        uses = [use for node in self.nodes for use in node.models]
        costs = [use.cost for use in uses]
        return {
            "calls": sum((use.calls for use in uses), NOTHING),
            "prompt_tokens": sum((use.prompt_tokens for use in uses), NOTHING),
            "completion_tokens": sum((use.completion_tokens for use in uses), NOTHING),
            "cost": None if None in costs else sum((cost for cost in costs if cost), NOTHING),
            "seconds": self.seconds,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {
            "pipeline": self.name,
            "rows": self.count,
            "sample": {"calls": self.calls, "cost": self.spent, "failed": self.failed},
            "nodes": [as_data(node) for node in self.nodes],
            "total": {name: value.as_dict() if value else None for name, value in self.total.items()},
            "notes": list(self.notes),
        }


def show_plan(name: str, settings: list[str], *, count: int, seed: int, as_json: bool) -> int:
    """Run some rows, and show what the whole run will use; return the exit code: 1 when all rows failed.

    Args:
        name: a YAML file, or ``module:attr``.
        settings: ``key=value`` each.
        count: how many rows each node gets at most.
        seed: the seed of the sample.
        as_json: whether to print JSON.

    Raises:
        ConfigError: when the pipeline is wrong.
        NodeFailedError: when something else than a row fails.
    """

    def choose(stream: Stream, root: RootNames | None) -> Sample:
        return random_rows(stream, count, seed=seed, root=root)

    preview_run = PreviewRun(find_target(name, parse_settings(settings)), choose, rows=count)
    plan = _plan(name, preview_run, seed)
    if as_json:
        write_json(plan.as_dict())
    else:
        console = SafeConsole()
        console.print(_table(plan))
        for line in _lines(plan):
            console.print(Text(line), soft_wrap=True)
    return FAILED if plan.failed and not any(node.rows_out.value for node in plan.nodes) else 0


def _plan(name: str, preview_run: PreviewRun, seed: int) -> Plan:
    counts = {place: sample.count or 0 for place, (_, sample) in preview_run.samples.items()}
    previews = list(preview_run.stages())
    nodes = project(previews, counts)
    return Plan(
        name=name,
        count=sum(counts.values()),
        nodes=nodes,
        seconds=run_seconds(nodes, streaming=bool(preview_run.run_state["config"]["streaming"])),
        notes=list(_notes(preview_run, previews, nodes, seed)),
        spent=spent_in(stage for stage, _ in previews).cost,
        calls=sum(made_of(calls) for _, calls in previews),
        failed=sum(len(stage.failed) for stage, _ in previews),
    )


def _notes(
    preview_run: PreviewRun,
    previews: Sequence[tuple[NodePreview, Sequence[ObservedCall]]],
    nodes: Sequence[NodeUse],
    seed: int,
) -> Iterator[str]:
    """Say what the figures are based on, and what they leave out."""
    for stream, sample in preview_run.samples.values():
        tried, there = len(sample.rows) + len(sample.unreadable), rows_in_words(sample.count or 0)
        if stream.is_endless:
            yield f"{preview_run.shown(stream)} has no end: the figures are those of its first {there}"
        yield f"{number(tried)} of {there} of {preview_run.shown(stream)} were tried, drawn with seed {seed}"
        if sample.unreadable:
            yield f"{number(len(sample.unreadable))} of them could not be read; the figures count on all rows"
    for (stage, calls), node in zip(previews, nodes, strict=True):
        for note in (*_notes_of_rows(stage, node), *_notes_of_calls(calls, node), *_notes_of_target(stage, node)):
            yield f"{node.node_id}: {note}"
    yield from _notes_of_budgets(previews, nodes)
    left_out = "tries that fail, pauses after them, and limits that nobody gave, are left out"
    yield f"± is the sampling error at 95 %; {left_out}"


def _notes_of_rows(stage: NodePreview, node: NodeUse) -> Iterator[str]:
    given = rows_in_words(len(stage.given))
    if stage.waiting:
        there = len(stage.given) + stage.waiting
        yield f"it got {number(len(stage.given))} of the {number(there)} rows that were there"
    if not stage.given:
        yield "it got no row, so what it will use is not known"
    elif not stage.made:
        yield f"nothing came of {given}, so what comes behind it is not known"
    if is_upper_bound(stage, node.rows_in):
        yield (
            "it looks at many rows, of which the sample has few (few duplicates lie in it), so what comes behind it is "
            "at most (≤) as shown, and may be much less"
        )
    if stage.failed:
        first = one_line(str(stage.failed[0]["error"]["text"]), 200)
        yield f"{number(len(stage.failed))} of {given} failed, such as: {first}"


def _notes_of_calls(calls: Sequence[ObservedCall], node: NodeUse) -> Iterator[str]:
    cached = sum(1 for call in calls if call.answer and call.answer.is_cached)
    if cached:
        yield (
            f"the cache answered {number(cached)} of {number(len(calls))} calls; they count as if they were paid, so "
            "where prompts repeat, or were asked before, the run costs less"
        )
    if node.is_in_jobs:
        yield "its rows go as jobs to a batch API, at whose price they count; how long that takes is not known"
    elif node.bound == "calls" and node.at_once > node.was_at_once:
        yield (
            f"{rows_in_words(node.was_at_once)} at once here, {number(node.at_once)} in the run: that calls then take "
            "no longer is assumed"
        )
    elif node.bound not in ("", "calls"):
        yield f"its {node.bound} decides on the time"
    if node.models and not calls:
        yield "it reported its usage itself, so the variation between rows is unknown"
    unpriced = [use.model for use in node.models if use.cost is None]
    if unpriced:
        yield f"no price is known of {', '.join(unpriced)}: give prices, if it costs anything"


def _notes_of_target(stage: NodePreview, node: NodeUse) -> Iterator[str]:
    """Say what a target changes: these figures are those of the whole input."""
    target, rows = stage.entry.get("target"), node.rows_out.value
    if target is None or not stage.made:
        return
    if node.rows_out.is_at_most:
        if node.rows_out.high < target:
            yield f"at most {_short(node.rows_out.high)} rows come out, fewer than its target of {number(target)}"
        else:
            yield f"after how many rows its target of {rows_in_words(target)} is met is not known"
    elif rows < target:
        yield f"about {_short(rows)} rows come out, fewer than its target of {number(target)}"
    else:
        yield (
            f"its target of {rows_in_words(target)} ends the run when about {target / rows:.0%} of its rows are done; "
            "the figures are those of all rows"
        )


def _notes_of_budgets(
    previews: Sequence[tuple[NodePreview, Sequence[ObservedCall]]], nodes: Sequence[NodeUse]
) -> Iterator[str]:
    """Warn of a budget that is too small. Operators share the budget of a run; the lowest one stops the run."""
    found = []
    for (stage, _), node in zip(previews, nodes, strict=True):
        budgets = [getattr(operator, "budget", None) for operator in operators_within(stage.operator)]
        found += [(budget, use) for use in node.models for budget in budgets if budget is not None]
    usd = min((budget.picodollars for budget, _ in found if budget.picodollars), default=None)
    tokens = min((budget.tokens for budget, _ in found if budget.tokens), default=None)
    cost = sum((use.cost for _, use in found if use.cost), NOTHING)
    amount = sum((use.prompt_tokens + use.completion_tokens for _, use in found), NOTHING)
    if usd is not None and cost.value > usd / PICO:
        yield f"the budget of {dollars(usd / PICO)} {_ends(cost)} {dollars(cost.told)}"
    if tokens is not None and amount.value > tokens:
        yield f"the budget of {number(tokens)} tokens {_ends(amount)} {_short(amount.told)}"


def _ends(use: Estimate) -> str:
    return "may end the run early: it takes at most" if use.is_at_most else "ends the run early: it takes about"


def _table(plan: Plan) -> NameTable:
    names, rows = [], []
    for node in plan.nodes:
        names.append(Name(node.node_id, node.operator if node.operator != node.node_id else ""))
        rows.append([_amount(node.rows_in), "", "", "", "", _time(node.seconds)])
        for use in node.models:
            amounts = [_amount(each) for each in (use.calls, use.prompt_tokens, use.completion_tokens)]
            names.append(Name(f"  {use.model}", style="cyan"))
            rows.append(["", *amounts, _money(use.cost), ""])
    total = plan.total
    amounts = [_amount(total[name] or NOTHING) for name in ("calls", "prompt_tokens", "completion_tokens")]
    cost = _money(total["cost"]) if any(node.models for node in plan.nodes) else ""
    names.append(Name("all"))
    rows.append([number(plan.count), *amounts, cost, _time(plan.seconds)])
    columns = columns_of(("rows in", "calls", "prompt", "completion", "cost", "time"), rows)
    return NameTable("node", names, columns, styles=[""] * (len(names) - 1) + ["bold"])


def _lines(plan: Plan) -> Iterator[str]:
    cost = "cost unknown" if plan.spent is None else f"${plan.spent:.6f}"
    yield "prompt and completion are tokens; " + (
        f"the sample took {number(plan.calls)} calls, {cost}" if plan.calls else "the sample took no call"
    )
    for note in plan.notes:
        yield f"* {note}"


def _amount(value: Estimate) -> str:
    if value.is_at_most:
        return f"≤ {_short(value.high)}"
    margin = _short(value.margin)
    return _short(value.value) + (f" ± {margin}" if margin != "0" else "")


def _short(value: float) -> str:
    """Return a number, rounded to what a plan can know: ``9,999``, ``41.2k``, ``1.25M``."""
    for unit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 9_999.5 and value >= unit:
            return f"{value / unit:.{2 if value < 10 * unit else 1 if value < 100 * unit else 0}f}{sign}"
    return number(round(value))


def _money(value: Estimate | None) -> str:
    if value is None:
        return "unknown"
    digits = 2 if value.value >= 1 or not value.value else 4
    if value.is_at_most:
        return f"≤ ${value.high:,.{digits}f}"
    margin = f" ± {value.margin:,.{digits}f}" if round(value.margin, digits) else ""
    return f"${value.value:,.{digits}f}{margin}"


def _time(value: Estimate) -> str:
    if value.value < 0.5:
        return "-"
    if value.is_at_most:
        return f"≤ {duration(value.high)}"
    margin = round(value.margin)
    return duration(value.value) + (f" ± {duration(margin)}" if margin else "")
