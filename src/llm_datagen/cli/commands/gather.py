"""The command that ends a run in shards."""

from __future__ import annotations

import typer

from llm_datagen.cli.exit_codes import exit_codes
from llm_datagen.cli.lazy_commands import module_app
from llm_datagen.cli.options import IdArgument, JsonOption, ResultsOption, TracebackOption
from llm_datagen.runs.typed_commands import default_results

app = module_app()


@app.command(short_help="Complete a run in shards: make its outputs and exports.")
def gather(
    pipeline_id: IdArgument,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Make the outputs and exports of a run in shards that are all completed, and complete it.

    Whoever runs all shards does it by itself; this is for shards that were each run by `run --shard`. When it is
    interrupted, give the same command again: it goes on. Exits with 1 if rows do not fit an export.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.gather import gather_shards

        raise typer.Exit(gather_shards(results_dir or default_results(), pipeline_id, as_json=as_json))
