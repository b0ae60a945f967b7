"""Run or resume a pipeline with a display, and print its summary."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_datagen.cli.budget import budget_options
from llm_datagen.cli.exit_codes import exit_code_of
from llm_datagen.cli.export_view import export_lines
from llm_datagen.cli.otel import NO_OTEL, OtelOptions, otel_hooks
from llm_datagen.cli.output import is_terminal, write
from llm_datagen.errors import TooManyErrorsError
from llm_datagen.errors.escape import listed
from llm_datagen.pipeline.base import BasePipeline
from llm_datagen.runs import RunFolder
from llm_datagen.runs.batch_jobs import in_words, jobs_of
from llm_datagen.runs.display.console import SafeConsole
from llm_datagen.runs.display.lines import failed_rows
from llm_datagen.runs.display.live import LiveTable
from llm_datagen.runs.display.plain import PlainLines
from llm_datagen.runs.exports import unfit_rows
from llm_datagen.runs.hooks import CompositePipelineHooks, IPipelineHooks
from llm_datagen.runs.output_node import outputs_to_name
from llm_datagen.runs.page_process import start_page
from llm_datagen.runs.run_report import RunReport
from llm_datagen.runs.sharded import is_sharded
from llm_datagen.runs.status import Status, why_short
from llm_datagen.runs.topology import written_outputs
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.runs.usage import COST, dollars, is_short, may_be_short
from llm_datagen.runs.words import number, rows_in_words
from llm_datagen.shards.run_view import folders_of
from llm_datagen.shards.spending import spending_of
from llm_datagen.streams.location import ERRORS_ENDING

Display = LiveTable | PlainLines

_MODELS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class PartOf:
    """What a run is part of that is one shard of another run.

    Attributes:
        whole: the folder of the whole.
        number: the number of the shard.
        count: how many there are.
    """

    whole: RunFolder
    number: int
    count: int

    @property
    def name(self) -> str:
        """What the shard is called."""
        return f"run {self.whole.pipeline_id}, shard {self.number} of {self.count}"


def run_watched(
    pipeline: BasePipeline, *, part: PartOf | None = None, ui: bool = False, otel: OtelOptions = NO_OTEL
) -> int:
    """Run a pipeline that was created or resumed, and return the exit code.

    Args:
        pipeline: the pipeline.
        part: which shard of another run it is; None of a run by itself.
        ui: whether a page shows it, too.
        otel: whether OpenTelemetry is told of it.

    Raises:
        DatagenError: when it failed.
        KeyboardInterrupt, SystemExit: as `BasePipeline.run`.
    """
    if ui:
        write(f"page: {start_page(RunFolder(pipeline.results_dir, pipeline.pipeline_id))}")
    with otel_hooks(otel) as hooks:
        return _run_watched(pipeline, part, hooks)


def _run_watched(pipeline: BasePipeline, part: PartOf | None, hooks: Sequence[IPipelineHooks]) -> int:
    display = _display(pipeline)
    pipeline.hooks = CompositePipelineHooks([display, *hooks, *([pipeline.hooks] if pipeline.hooks else [])])
    started, reason = time.monotonic(), ""
    try:
        reason = pipeline.run(progress=False).reason
    finally:
        display.close()
        if pipeline.status not in {Status.PENDING, Status.RESUMING}:  # otherwise it was refused before it began
            for line in summary(pipeline, time.monotonic() - started, reason, part):
                write(line)
    is_short = any(why_short(node) for node in pipeline.progress)
    has_unfit = bool(unfit_rows(RunFolder(pipeline.results_dir, pipeline.pipeline_id).load()))
    return exit_code_of(pipeline.status, is_short=is_short, has_unfit=has_unfit)


def _display(pipeline: BasePipeline) -> Display:
    nodes = pipeline.node_views()
    if is_terminal():
        return LiveTable(SafeConsole(), nodes, status=lambda: pipeline.status)
    return PlainLines(write, nodes)


def summary(pipeline: BasePipeline, seconds: float, reason: str = "", part: PartOf | None = None) -> Iterable[str]:
    """Return a run's summary in a few lines: why it was cancelled, and how to continue it if it is not completed."""
    folder = RunFolder(pipeline.results_dir, pipeline.pipeline_id)
    run_state = folder.load()
    report = RunReport(
        pipeline_id=pipeline.pipeline_id,
        status=pipeline.status,
        nodes=tuple(pipeline.progress),
        seconds=seconds,
        outputs=outputs_to_name(run_state),
        unfit=unfit_rows(run_state),
    )
    name = f"run {report.pipeline_id}" if part is None else part.name
    yield f"{name}: {report.status} after {seconds:.1f} s"
    if reason:
        yield f"  reason  {reason}"
    skipped, dead = (sum(getattr(node, name) for node in report.nodes) for name in ("skipped", "dead_letters"))
    yield (
        f"  rows    {number(report.rows_in)} in, {report.out}, {number(report.filtered)} filtered, "
        f"{number(report.failed)} failed" + (f" ({failed_rows(skipped, dead)})" if skipped or dead else "")
    )
    for text in report.warnings:
        yield f"  warning {text}"
    was_killed = bool(run_state.get("usage_is_partial"))
    for entry in report.usage:
        who = "/".join(part for part in (entry["provider"], entry["model"]) if part) or "operators"
        sums = (
            f"{key} {dollars(value) if key == COST else number(value)}"
            for key, value in entry.items()
            if key not in {"provider", "model"}
        )
        at_least = "at least " if was_killed and may_be_short(entry) else ""
        yield f"  usage   {who}: {at_least}{', '.join(sums)}"
    if report.cost is not None and len(report.usage) > 1:
        unpriced = [entry["model"] for entry in report.usage if "requests" in entry and COST not in entry]
        unknown = f", and what {listed(unpriced, _MODELS_SHOWN)} cost: no price is known" if unpriced else ""
        at_least = "at least " if is_short(run_state) else ""
        yield f"  cost    {at_least}{dollars(report.cost)}{unknown}"
    folders = folders_of(folder, run_state)
    spent = spending_of(folders)
    if spent is not None:
        yield f"  budget  {spent}"
    jobs = jobs_of(*(each.files_path for each in folders))
    if jobs:
        goes_on = "; these go on, and a resume collects them" if any(job.is_open for job in jobs) else ""
        yield f"  jobs    {in_words(jobs)}{goes_on}"
    yield from _outputs(pipeline, run_state)
    for line in export_lines(run_state, is_live=False):
        yield f"  {line}"
    for node, progress in zip(pipeline.nodes, report.nodes, strict=True):
        if progress.dead_letters and not is_sharded(run_state):  # those of shards lie in their folders
            yield f"  errors  {node.output.shown}{ERRORS_ENDING} ({rows_in_words(progress.dead_letters)})"
    if dead:
        head = "  errors  " if is_sharded(run_state) else "          "
        yield f"{head}{_command('errors', pipeline, part=part)}"
    if report.status is not Status.COMPLETED:
        is_spent = reason.startswith("the budget of ")
        more = budget_options(node.operator for node in pipeline.nodes) if is_spent else []
        yield f"  go on   {_command('resume', pipeline, *more) if part is None else 'the same command again'}"
    elif part is not None:
        yield f"  then    {_command('gather', pipeline, part=part)}   (when all shards are completed)"
    if part is None:
        yield from _ways_on(pipeline, report)


def _outputs(pipeline: BasePipeline, run_state: Mapping[str, Any]) -> Iterable[str]:
    """Return where the rows are. The outputs of a run in shards are made when all of them are completed."""
    if is_sharded(run_state):
        if pipeline.status is Status.COMPLETED:
            from llm_datagen.shards.gathered import shown_outputs

            for name in shown_outputs(run_state):
                yield f"  output  {name}"
        return
    written = {entry["node_id"] for entry in written_outputs(run_state)}
    for node in pipeline.nodes:
        if node.node_id in written:
            yield f"  output  {node.output.shown}"


def _ways_on(pipeline: BasePipeline, report: RunReport) -> Iterable[str]:
    """Return how to continue without the rows that fail, if these ended the run.

    None if every row may fail like that, as with a wrong prompt.
    """
    if report.status is not Status.FAILED:
        return
    if any((node.error or "").startswith(TooManyErrorsError.__name__) for node in report.nodes):
        yield f"          or let more rows fail: {_command('resume', pipeline, '--max-errors', 'N')}"
    elif any(node.failed > node.skipped + node.dead_letters and node.kept + node.filtered for node in report.nodes):
        leave_out = _command("resume", pipeline, "--on-error", "dead_letter")
        yield f"          or without rows that fail: {leave_out}"


def _command(verb: str, pipeline: BasePipeline, *options: str, part: PartOf | None = None) -> str:
    run = pipeline if part is None else part.whole
    return command_line(verb, run.pipeline_id, run.results_dir, options=options)
