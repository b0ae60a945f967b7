"""The commands and their options."""

from __future__ import annotations

from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated

import typer

from llm_datagen.cli import cancel as canceling
from llm_datagen.cli.budgets import Caps
from llm_datagen.cli.demo import run_demo_watched
from llm_datagen.cli.execute import run_watched, write
from llm_datagen.cli.failing import FAILED, exit_codes
from llm_datagen.cli.ledger import verify_run
from llm_datagen.cli.letters import show_errors
from llm_datagen.cli.logs import show_events, show_summary
from llm_datagen.cli.options import (
    DrawingOption,
    IdArgument,
    IfExistsOption,
    JsonOption,
    OnErrorOption,
    OriginArgument,
    PipelineArgument,
    ResultsOption,
    SetOption,
    TracebackOption,
)
from llm_datagen.cli.origin import Origin
from llm_datagen.cli.plan import show_plan
from llm_datagen.cli.preview import preview_pipeline
from llm_datagen.cli.resume import parse_max_errors, replay_run, resume_run
from llm_datagen.cli.runs import run_lines
from llm_datagen.cli.status import show_status
from llm_datagen.cli.steering import pause_run, reconfigure_run, unpause_run
from llm_datagen.cli.target import default_results, find_target, parse_settings
from llm_datagen.cli.target import describe as describe_pipeline
from llm_datagen.cli.tracing import trace_row
from llm_datagen.runtime import RunFolder

app = typer.Typer(
    name="llm-datagen",
    help="Run LLM data pipelines of millions of rows: no row lost, repeated or paid twice.\n\n"
    "Ctrl+C ends what is in flight, saves it, and tells how to resume. "
    "Exit codes: 0 completed, 1 failed or not completed, 2 wrong usage or settings, 130 after Ctrl+C, "
    "143 after SIGTERM.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        write(f"llm-datagen {package_version('llm-datagen')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    pipeline: PipelineArgument,
    pipeline_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The run's id; made up unless given.", show_default=False)
    ] = None,
    if_exists: Annotated[
        IfExistsOption | None,
        typer.Option(
            help="When the id has a run already: refuse (error, the default), continue it, or start afresh "
            "(its outputs are deleted).",
            show_default=False,
        ),
    ] = None,
    settings: SetOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Run a pipeline, and watch it."""
    with exit_codes(full_traceback=traceback):
        target = find_target(pipeline, parse_settings(settings or []))
        created = target.create(pipeline_id, if_exists.value if if_exists else None)
        Origin.here(target.name).save(RunFolder(created.results_dir, created.pipeline_id))
        write(f"run {created.pipeline_id}: {pipeline}")
        raise typer.Exit(run_watched(created))


@app.command()
def describe(
    pipeline: Annotated[
        str,
        typer.Argument(metavar="FILE.yaml|MODULE:NAME|ID", help="A pipeline, or the id of a run.", show_default=False),
    ],
    form: Annotated[
        DrawingOption, typer.Option("--format", help="As lines, or as a flowchart in the language of Mermaid.")
    ] = DrawingOption.TEXT,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Draw the streams of a pipeline, and the nodes between them.

    No stream is opened, and nothing is run.
    """
    with exit_codes(full_traceback=traceback):
        write(describe_pipeline(results_dir or Path(default_results()), pipeline, form.value))


@app.command()
def preview(
    pipeline: PipelineArgument,
    rows: Annotated[
        int, typer.Option("--rows", "-n", min=1, metavar="N", help="How many rows: each node gets so many at most.")
    ] = 5,
    row: Annotated[
        list[int] | None,
        typer.Option(
            "--row",
            min=0,
            metavar="NUMBER",
            help="A row of the input, from 0, in place of the first ones; more than once if need be.",
            show_default=False,
        ),
    ] = None,
    no_calls: Annotated[
        bool, typer.Option("--no-calls", help="Show the prompts that need no answer, and call no model.")
    ] = False,
    settings: SetOption = None,
    as_json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Show what the models are asked about the first rows, and what they answer.

    Nothing is written but the journal of an operator that has one (`cache`); only these rows are paid for.

    Operators that call no model are run, too, and their rows are shown. Exits with 1 when a row fails.
    """
    with exit_codes(full_traceback=traceback):
        raise typer.Exit(
            preview_pipeline(
                pipeline, settings or [], count=rows, numbers=row or [], make_calls=not no_calls, as_json=as_json
            )
        )


@app.command()
def plan(
    pipeline: PipelineArgument,
    rows: Annotated[
        int, typer.Option("--rows", "-k", min=1, metavar="N", help="How many rows: each node gets so many at most.")
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Which rows are drawn: equal seeds, equal rows.")] = 0,
    settings: SetOption = None,
    as_json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Try some rows, and say what a run will use: tokens, money, time.

    The rows are drawn from the whole input, which is read once. They are paid for; with `cache`, only once.

    Nothing is written but the journal. Exits with 1 when all rows fail.
    """
    with exit_codes(full_traceback=traceback):
        raise typer.Exit(show_plan(pipeline, settings or [], count=rows, seed=seed, as_json=as_json))


@app.command()
def resume(
    pipeline_id: IdArgument,
    pipeline: OriginArgument = None,
    on_error: Annotated[
        OnErrorOption | None,
        typer.Option(
            help="What becomes of rows that fail from now on, in all nodes: end the run, leave them out, or write them "
            "to <output>.errors.jsonl. As it was, unless given.",
            show_default=False,
        ),
    ] = None,
    max_errors: Annotated[
        str | None,
        typer.Option(
            metavar="N|SHARE",
            help="How many rows of a node may fail, all in all, before the run does: a number such as 100, or a share "
            "such as 0.01. Any number, when only --on-error is given.",
            show_default=False,
        ),
    ] = None,
    budget_usd: Annotated[
        float | None,
        typer.Option(
            metavar="USD",
            help="What the operators with a budget may spend in all, with what they have spent, in place of what the "
            "file or the code says.",
            show_default=False,
        ),
    ] = None,
    budget_tokens: Annotated[
        int | None,
        typer.Option(metavar="N", help="The same, in tokens of prompts and answers.", show_default=False),
    ] = None,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Go on where a run stopped, whatever stopped it.

    Paths and settings are those of the run; only the operators come from the file or the code.

    A run that a bad row has ended goes on with --on-error dead_letter.
    """
    with exit_codes(full_traceback=traceback):
        raise typer.Exit(
            resume_run(
                pipeline_id,
                pipeline,
                results_dir,
                on_error=on_error.value if on_error else None,
                max_errors=parse_max_errors(max_errors),
                budget=Caps(budget_usd, budget_tokens),
            )
        )


@app.command()
def replay(
    pipeline_id: IdArgument,
    pipeline: OriginArgument = None,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Try the dead-lettered rows of a run again, and go on with it.

    The same nodes do them, and the rows keep their ids; what fails again is dead-lettered again.
    """
    with exit_codes(full_traceback=traceback):
        raise typer.Exit(replay_run(pipeline_id, pipeline, results_dir))


@app.command()
def status(
    pipeline_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The id of a run; all runs without.", show_default=False)
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again, until it ends.")] = False,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show how a run stands, or which runs there are."""
    with exit_codes(full_traceback=traceback):
        show_status(results_dir or Path(default_results()), pipeline_id, watch=watch, as_json=as_json)


@app.command()
def errors(
    pipeline_id: IdArgument,
    node: Annotated[
        str | None, typer.Option(metavar="NODE", help="Of one node only: its id, or its number.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show the dead letters of a run: which rows failed, in which node, of what.

    Grouped by node and kind of error, the most frequent first, with the first row of each as an example.
    """
    with exit_codes(full_traceback=traceback):
        show_errors(results_dir or Path(default_results()), pipeline_id, node=node, as_json=as_json)


@app.command()
def verify(
    pipeline_id: IdArgument,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Recount a run from its files, checksums and all: is any row lost, or there twice?

    Each source row of a node is exactly one of: kept, filtered, skipped, dead-lettered, pending.

    Exits with 1 when anything is wrong. Nothing is changed. Takes about 100 bytes of memory for each row of a node.
    """
    with exit_codes(full_traceback=traceback):
        raise typer.Exit(verify_run(results_dir or Path(default_results()), pipeline_id, as_json=as_json))


@app.command()
def trace(
    pipeline_id: IdArgument,
    row_id: Annotated[
        str,
        typer.Argument(metavar="ROW_ID", help="The `_i` of a row in any stream of the run: 12, or 12_0_3."),
    ],
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show what a row came from and what became of it, in every stream of a run.

    Exits with 1 when there is no such row. Every stream is read as a whole.
    """
    with exit_codes(full_traceback=traceback):
        raise typer.Exit(trace_row(results_dir or Path(default_results()), pipeline_id, row_id, as_json=as_json))


@app.command()
def logs(
    pipeline_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The id of a run; the whole log without.", show_default=False)
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EVENT",
            help="Only this event, such as Backpressure; may be given again.",
            show_default=False,
        ),
    ] = None,
    node: Annotated[
        str | None, typer.Option(metavar="NODE", help="Of one node only: its id, or its number.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Only from then on: 90s, 15m, 2h or 3d ago, or an ISO 8601 time.", show_default=False
        ),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Show where the time of each node went, and what limits the run.")
    ] = False,
    log_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The log: this, or that of the run's image, or logs/platform.log.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show what platform.log says of a run, or of all that are in it: its events, or a summary.

    Rotated files are read as well. The log may still be written to.
    """
    with exit_codes(full_traceback=traceback):
        results = results_dir or Path(default_results())
        if summary:
            show_summary(results, pipeline_id, log_file, since, event or [], node, as_json=as_json)
        else:
            show_events(results, pipeline_id, log_file, since, event or [], node, as_json=as_json)


@app.command()
def cancel(
    pipeline_id: IdArgument,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until everything is saved.")] = False,
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for that.")] = 120.0,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why; shown in its status and log.")
    ] = "llm-datagen cancel",
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Cancel a run of another process on this machine: what is in flight ends and is saved."""
    with exit_codes(full_traceback=traceback):
        folder = RunFolder(results_dir or default_results(), pipeline_id)
        pid = canceling.send_cancel(folder, reason)
        write(f"run {pipeline_id}: process {pid} was told to cancel")
        if no_wait:
            return
        ended = canceling.wait_for_end(folder, timeout)
        if ended is None:
            write(
                f"run {pipeline_id}: still ending what is in flight after {timeout:g} s; it saves by itself (see: "
                f"llm-datagen status {pipeline_id})"
            )
            raise typer.Exit(FAILED)
        for line in run_lines(ended):
            write(line)


@app.command()
def pause(
    pipeline_id: IdArgument,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Pause a run of another process on this machine: no call of an operator begins any more, until `unpause`."""
    with exit_codes(full_traceback=traceback):
        pause_run(RunFolder(results_dir or default_results(), pipeline_id))


@app.command()
def unpause(
    pipeline_id: IdArgument,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Let a run that was paused go on."""
    with exit_codes(full_traceback=traceback):
        unpause_run(RunFolder(results_dir or default_results(), pipeline_id))


@app.command()
def reconfigure(
    pipeline_id: IdArgument,
    node: Annotated[
        str | None,
        typer.Option(metavar="NODE", help="The node: its id, or its number; not needed of one.", show_default=False),
    ] = None,
    parallel_size: Annotated[
        int | None, typer.Option(metavar="N", help="Batches in its operator at once, at most.", show_default=False)
    ] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Items a batch.", show_default=False)] = None,
    rate: Annotated[
        float | None,
        typer.Option(metavar="R", help="Rows a second, at most; 0 takes the limit off.", show_default=False),
    ] = None,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Change a node of a run of another process on this machine, while it runs; a resume keeps it."""
    with exit_codes(full_traceback=traceback):
        folder = RunFolder(results_dir or default_results(), pipeline_id)
        reconfigure_run(folder, node, parallel_size=parallel_size, batch_size=batch_size, rate=rate)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything goes.")] = Path("llm-datagen-demo"),
    rows: Annotated[
        int | None, typer.Option(min=1, help="How many of the 50 definitions to take.", show_default=False)
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the demo that is there, and start afresh.")] = False,
    traceback: TracebackOption = False,
) -> None:
    """Run a small real model on this machine: 50 definitions become questions and answers.

    Started or resumed, whichever is due. The first time, the model is fetched (93 MB).
    """
    with exit_codes(full_traceback=traceback):
        raise typer.Exit(run_demo_watched(out, rows=rows, fresh=fresh))
