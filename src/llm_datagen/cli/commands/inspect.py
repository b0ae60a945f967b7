"""Commands that show pipelines and runs, and change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_datagen.cli.exit_codes import exit_codes
from llm_datagen.cli.lazy_commands import module_app
from llm_datagen.cli.options import (
    DiagramOption,
    IdArgument,
    JsonOption,
    OnlyOption,
    OriginArgument,
    ResultsOption,
    TracebackOption,
)
from llm_datagen.cli.output import write, write_json
from llm_datagen.runs.typed_commands import default_results

app = module_app()


@app.command(short_help="Show a diagram of a pipeline.")
def describe(
    pipeline: Annotated[
        str,
        typer.Argument(metavar="FILE.yaml|MODULE:NAME|ID", help="A pipeline, or the id of a run.", show_default=False),
    ],
    form: Annotated[
        DiagramOption, typer.Option("--format", help="As lines, or as a Mermaid flowchart.")
    ] = DiagramOption.TEXT,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show a diagram of a pipeline: its streams, and the nodes between them.

    Opens no stream, and runs nothing.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.target import describe as describe_pipeline

        write(describe_pipeline(results_dir or default_results(), pipeline, form.value))


@app.command(short_help="Print the JSON Schema of pipelines in YAML.")
def schema() -> None:
    """Print the JSON Schema of pipelines in YAML, with which editors complete and check them.

    In a file: # yaml-language-server: $schema=pipeline.schema.json
    """
    from llm_datagen.cli.yaml_schema import file_schema

    write_json(file_schema())


@app.command(short_help="Show what a resume would keep, and what it would do again.")
def diff(
    pipeline_id: IdArgument,
    pipeline: OriginArgument = None,
    replay: Annotated[bool, typer.Option("--replay", help="As replay would do it: with the rows that failed.")] = False,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show what a resume would keep and do again with the pipeline as it is now, and what that costs.

    Node by node: what was edited, how many rows are kept and to be done, and how many calls and how much money that
    takes, by what the rows of the run took so far. Changes nothing, and calls no operator. The input is read.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.diff import show_diff

        show_diff(pipeline_id, pipeline, results_dir, is_replay=replay, as_json=as_json)


@app.command(short_help="Show the rows of two runs side by side.")
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A run, or a version of one: ID@1.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="The one to compare it with.", show_default=False)],
    node: Annotated[
        str | None,
        typer.Option(
            metavar="NODE",
            help="The rows of this node: its id, its number, or its operator's name; of the output unless given.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[OnlyOption] | None,
        typer.Option(
            help="Only rows that have changed, that are the same, or that only A or B has. May be given again. All "
            "that are not the same, unless given.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many rows to show.")] = 20,
    offset: Annotated[int, typer.Option(min=0, metavar="N", help="How many of them to pass over.")] = 0,
    full: Annotated[bool, typer.Option("--full", help="Long values in full.")] = False,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show the rows of two runs, or of two versions of a run, side by side: those with the same id.

    Counts the rows that are the same, that have changed, and that only one has. `_meta` is not compared. Reads both
    streams; takes some disk space in the folder for temporary files, and little memory.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.compare import compare_runs

        compare_runs(
            results_dir or default_results(),
            first,
            second,
            node=node,
            only=only or [],
            limit=limit,
            offset=offset,
            full=full,
            as_json=as_json,
        )


@app.command(short_help="Show the dead letters of a run.")
def errors(
    pipeline_id: IdArgument,
    node: Annotated[
        str | None,
        typer.Option(
            metavar="NODE", help="Only this node: its id, its number, or its operator's name.", show_default=False
        ),
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="Each row; with --json, an object per line.")] = False,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="In their place, how many rows were left out, for which reason.")
    ] = False,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show the dead letters of a run: which rows failed, in which node, of what.

    Grouped by node and cause, the most frequent first, with the first row of each as an example.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.dead_letters import show_errors, show_rejected

        where = results_dir or default_results()
        if rejected:
            show_rejected(where, pipeline_id, node=node, as_json=as_json, as_rows=each)
        else:
            show_errors(where, pipeline_id, node=node, as_json=as_json, as_rows=each)


@app.command(short_help="Recount a run from its files, checksums and all.")
def verify(
    pipeline_id: IdArgument,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Recount a run from its files, checksums and all: is any row lost, or there twice?

    Each source row of a node is exactly one of: kept, filtered, skipped, dead-lettered, pending.

    Exits with 1 if anything is wrong. Changes nothing. Needs about 100 bytes of memory per row of a node.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.verify import verify_run

        raise typer.Exit(verify_run(results_dir or default_results(), pipeline_id, as_json=as_json))


@app.command(short_help="Show where a row came from, and what became of it.")
def trace(
    pipeline_id: IdArgument,
    row_id: Annotated[
        str,
        typer.Argument(metavar="ROW_ID", help="The `_i` of a row in any stream of the run: 12, or 12_0_3."),
    ],
    calls: Annotated[
        bool, typer.Option("--calls", help="The model calls behind each row, too: prompt, answer, tokens, cost.")
    ] = False,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show where a row came from and what became of it, in every stream of a run.

    Exits with 1 if there is no such row. Reads every stream from beginning to end.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.trace import trace_row

        raise typer.Exit(trace_row(results_dir or default_results(), pipeline_id, row_id, as_json=as_json, calls=calls))


@app.command(short_help="Show the events of platform.log, or a summary.")
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
        str | None,
        typer.Option(
            metavar="NODE", help="Only this node: its id, its number, or its operator's name.", show_default=False
        ),
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
            metavar="FILE", help="The log: this file, or the run's, or logs/platform.log.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show the events of platform.log, or a summary, of one run or of all.

    Reads rotated files, too. A run may still write to the log.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.logs import show_events, show_summary

        results = results_dir or default_results()
        if summary:
            show_summary(results, pipeline_id, log_file, since, event or [], node, as_json=as_json)
        else:
            show_events(results, pipeline_id, log_file, since, event or [], node, as_json=as_json)
