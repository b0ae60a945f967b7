"""The command that shows the jobs of a run at batch APIs."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_datagen.cli.exit_codes import exit_codes
from llm_datagen.cli.lazy_commands import module_app
from llm_datagen.cli.options import IdArgument, JsonOption, OriginArgument, ResultsOption, TracebackOption
from llm_datagen.errors import ConfigError
from llm_datagen.runs.typed_commands import default_results

app = module_app()


@app.command(short_help="Show, or cancel, the jobs of a run at batch APIs.")
def jobs(
    pipeline_id: IdArgument,
    pipeline: OriginArgument = None,
    cancel: Annotated[
        bool,
        typer.Option(
            "--cancel", help="Cancel those that have not ended, of a run that is not running, at the provider."
        ),
    ] = False,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show the jobs of a run at batch APIs of providers (batch_api), also while it runs, and after it has ended.

    A resume collects what they have answered. With --cancel, they are cancelled at the provider first; answers until
    then are paid for, and collected all the same.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.jobs import cancel_run_jobs, show_jobs

        if cancel and as_json:
            raise ConfigError("--json shows jobs: leave it away with --cancel, and ask for them after it")
        if cancel:
            cancel_run_jobs(pipeline_id, pipeline, results_dir)
        else:
            show_jobs(pipeline_id, results_dir or default_results(), as_json=as_json)
