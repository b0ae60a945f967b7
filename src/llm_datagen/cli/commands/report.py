"""The command that makes the report of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_datagen.cli.exit_codes import exit_codes
from llm_datagen.cli.lazy_commands import module_app
from llm_datagen.cli.options import IdArgument, ReportOption, ResultsOption, TracebackOption
from llm_datagen.runs.typed_commands import default_results

app = module_app()


@app.command(short_help="Make a report of a run, in one file.")
def report(
    pipeline_id: IdArgument,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Where to; '-': standard output. report-ID.html unless given; JSON and Markdown: standard output.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        ReportOption | None,
        typer.Option(
            "--format",
            help="A page to be sent, data for programs, or a few lines for a pull request. As the ending of FILE says, "
            "or HTML, unless given.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=0, max=100, metavar="N", help="How many sample rows.")] = 5,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Make a report of a run: what ran, what became of each row, what it cost, what failed, and some rows.

    One file that needs nothing else: it can be sent, and kept. An older report is replaced, any other file is not.
    Works while the run goes on, too. Changes nothing.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.report import show_report

        show_report(results_dir or default_results(), pipeline_id, out=out, form=form, rows=rows)
