"""The command that shows how runs stand, in a module of its own: it is called most, and should start soon."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_datagen.cli.exit_codes import exit_codes
from llm_datagen.cli.lazy_commands import module_app
from llm_datagen.cli.options import JsonOption, ResultsOption, TracebackOption
from llm_datagen.runs.typed_commands import default_results

app = module_app()


@app.command()
def status(
    pipeline_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The id of a run; all runs without.", show_default=False)
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Repeat it until the run ends.")] = False,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show the status of a run, or list all runs."""
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.status import show_status

        show_status(results_dir or default_results(), pipeline_id, watch=watch, as_json=as_json)
