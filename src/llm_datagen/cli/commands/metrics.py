"""The command that tells Prometheus of the runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from llm_datagen.cli.exit_codes import exit_codes
from llm_datagen.cli.lazy_commands import module_app
from llm_datagen.cli.options import TracebackOption
from llm_datagen.cli.output import is_terminal, write
from llm_datagen.runs.typed_commands import default_results

app = module_app()


@app.command(short_help="Print the metrics of all runs for Prometheus.")
def metrics(
    results_dir: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RESULTS_DIR]...",
            help="Folders of runs, or their URIs; that of the other commands unless given.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.prom",
            help="Write them to this file, atomically; to standard output unless given.",
            show_default=False,
        ),
    ] = None,
    max_age: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Leave out runs that nobody works on, and that were saved last longer ago."
        ),
    ] = 86_400.0,
    traceback: TracebackOption = False,
) -> None:
    """Print the metrics of all runs for Prometheus: rows, cost, tokens, times, status. Needs the extra `prometheus`.

    Made of the files of the runs, of any process. With -o in a folder of the node exporter's textfile collector, every
    quarter of a minute, Prometheus sees them.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.telemetry import metrics_text, write_metrics

        folders = results_dir or [default_results()]
        if output is not None:
            write_metrics(folders, output, max_age=max_age)
            return
        text = metrics_text(folders, max_age=max_age).decode()
        if is_terminal():
            write(text.rstrip())
        else:
            sys.stdout.write(text)
            sys.stdout.flush()
